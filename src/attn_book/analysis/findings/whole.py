"""The paragraph at the end of a page: what was found, and for whom it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_book.analysis.evidence import on_record
from attn_book.analysis.findings.blocks import constant_titles, frozen_change
from attn_book.analysis.findings.compared import (
    NO_PLAIN,
    NO_RUN,
    Compared,
    accuracy,
    compared,
    gain,
    mean_curve,
)
from attn_book.analysis.findings.course import marks
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.tables import run_count
from attn_book.analysis.verdicts import ABOUT, NOTHING_OF_OURS, outcome, sentence, verdicts
from attn_book.analysis.words import Finding, counted, joined, points, sentences
from attn_book.language import N_, _, say
from attn_book.records.run import Run
from attn_book.study.claims import BETTER
from attn_book.study.plan import Plan, data_label

HARDLY = 0.5  # of the training images right: a network below it is at the start of its course
NO_OUTCOME = N_(
    "This is what was seen so far, and no outcome: outcomes take all runs of the study's family."
)


def in_words(plan: Plan, task: str, *titles: str) -> Finding:
    """What was found on a page's task, with outcomes only where the family is complete.

    Beside the differences to the plain network stand those that a claim is about.
    """
    found = compared(plan, task, titles)
    evidence = on_record(plan)[task]
    every = [verdict for verdict in verdicts(plan) if verdict.claim.task == task]
    judged = {
        (verdict.claim.better, verdict.claim.worse): verdict
        for verdict in every
        if verdict.claim.kind == BETTER
    }
    decided = any(judged[key].is_decided for key in judged)
    lines = []
    for title in found.blocks:
        runs = run_count(plan, task, title, [ours for ours, _ in found.pairs(title)])
        runs += evidence.ended_early(title, str(found.plain))
        lines.append((title, _found(found, title, runs, judged.get((title, found.plain)))))
    lines += [
        (say("{one} beside {other}", one=better, other=worse), _between(verdict))
        for (better, worse), verdict in judged.items()
        if better in found.blocks and worse != found.plain
    ]
    constant = constant_titles(evidence, every)
    if named := [title for title in found.blocks if title in constant]:
        text = say("{networks}: no verdict on attention.", networks=joined(named))
        lines.append((_("Constant"), text))
    standing = _standing(plan, found, decided)
    return Finding((("", sentences([_scope(plan, task), standing])), *lines))


def _scope(plan: Plan, task: str) -> str:
    """For whom it holds: profile, images, size of images and networks, length of training."""
    comparison = plan.comparison(task)
    recipe = comparison.recipe
    width = _("of the published width")
    if recipe.width != 1:
        width = say("of {share:g} times the published width", share=recipe.width)
    return say(
        "Seen in the profile {profile} on {images}, with images of {pixels} pixels, networks "
        "{width} and {epochs} epochs of training.",
        profile=plan.profile,
        images=data_label(comparison.images.label),
        pixels=recipe.image_size,
        width=width,
        epochs=recipe.epochs,
    )


def _standing(plan: Plan, found: Compared, decided: bool) -> str:
    """What may be concluded from it."""
    if plan.profile not in ("smoke", "quick"):
        return _(ABOUT if decided else NO_OUTCOME)
    nothing = say(
        "These numbers test nothing: the training is short and has {seeds}.",
        seeds=counted(len(plan.seeds), "seed"),
    )
    plain = found.of(found.plain) if found.plain else []
    right = np.mean([run.metrics["final_train_acc"] for run in plain]) if plain else 1.0
    if right >= HARDLY:
        return nothing
    hardly = say(
        "{network} has hardly begun to learn: at its end it is right on {right:.1%} of its "
        "training images.",
        network=found.plain,
        right=right,
    )
    return sentences([nothing, hardly])


def _found(found: Compared, title: str, shared: str, verdict: Verdict | None) -> str:
    """A network's gain with its outcome, on the way and at the end, and frozen.

    Args:
        shared: how many runs it shares with the plain network, in words.
    """
    runs = found.of(title)
    if not runs:
        return _(NO_RUN)
    pairs = found.pairs(title)
    if not pairs:
        ended = say("It ended at {accuracy:.4f}.", accuracy=accuracy(runs))
        return sentences([ended, _(NO_PLAIN)])
    ours, plain = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ended = say(
        "It ended at {ours:.4f} and {network} at {theirs:.4f}, which is {gain} ({runs})",
        ours=accuracy(ours),
        network=found.plain,
        theirs=accuracy(plain),
        gain=points(gain(pairs)),
        runs=shared,
    )
    curves = [mean_curve(of, "val_acc") for of in (ours, plain)]
    if len(curves[0]) == len(curves[1]):
        half = marks(len(curves[0]))[-2:][0]
        early = 100 * (curves[0][half - 1] - curves[1][half - 1])
        ended = say("{ended}; half way through it was {gain}", ended=ended, gain=points(early))
    parts = [say("{text}.", text=ended), _frozen(ours)]
    if verdict is not None and verdict.is_decided:
        parts += [_outcome(verdict), sentence(verdict)]
    return sentences(parts)


def _outcome(verdict: Verdict) -> str:
    return say("Outcome: {outcome}.", outcome=outcome(verdict))


def _between(verdict: Verdict) -> str:
    """A difference that a claim is about and that is not one to the plain network."""
    if verdict.value is None:
        return _(NOTHING_OF_OURS)
    text = say("{gain} ({folds}).", gain=points(verdict.value), folds=verdict.folds)
    return sentences([text, _outcome(verdict)]) if verdict.is_decided else text


def _frozen(runs: Sequence[Run]) -> str:
    """How far the network depends on its modulation, in short, as far as it was measured."""
    frozen = [run for run in runs if "frozen" in run.metrics]
    if not frozen:
        return ""
    return say(
        "With its modulation frozen at the mean, the accuracy changes by {change}.",
        change=points(frozen_change(frozen)),
    )
