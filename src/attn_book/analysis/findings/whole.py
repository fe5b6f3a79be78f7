"""The paragraph at the end of a page: what was found, and for whom it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_book.analysis.evidence import CONSTANT, on_record
from attn_book.analysis.findings.blocks import constant_titles
from attn_book.analysis.findings.compared import (
    NO_PLAIN,
    NO_RUN,
    Compared,
    accuracy,
    compared,
    gain,
)
from attn_book.analysis.findings.course import marks
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.tables import run_count
from attn_book.analysis.verdicts import ABOUT, sentence, verdicts
from attn_book.analysis.words import Finding, points
from attn_book.records.run import Run
from attn_book.study.claims import BETTER
from attn_book.study.plan import Plan

TESTS_NOTHING = (
    "These numbers test nothing: the run is too small, and differences of this size come and go "
    "with the seed."
)
NO_OUTCOME = (
    "This is what was seen so far, and no outcome: outcomes take all runs of the study's family."
)


def in_words(plan: Plan, task: str, *titles: str) -> Finding:
    """What was found on a page's task, with outcomes only where the family is complete.

    Beside the differences to the plain network stand those that a claim is about.
    """
    found = compared(plan, task, titles)
    judged = {
        (verdict.claim.better, verdict.claim.worse): verdict
        for verdict in verdicts(plan)
        if verdict.claim.task == task and verdict.claim.kind == BETTER
    }
    decided = any(judged[key].is_decided for key in judged)
    lines = [
        (title, _found(plan, task, found, title, judged.get((title, found.plain))))
        for title in found.blocks
    ]
    lines += [
        (f"{better} beside {worse}", _between(verdict))
        for (better, worse), verdict in judged.items()
        if better in found.blocks and worse != found.plain
    ]
    constant = constant_titles(plan, task)
    if named := [title for title in found.blocks if title in constant]:
        lines.append(("Constant", f"{', '.join(named)}: no verdict on attention."))
    return Finding((("", f"{_scope(plan, task)} {_standing(plan, decided)}"), *lines))


def _scope(plan: Plan, task: str) -> str:
    """For whom it holds: profile, images, size of images and networks, length of training."""
    comparison = plan.comparison(task)
    recipe = comparison.recipe
    width = "of the published width"
    if recipe.width != 1:
        width = f"of {recipe.width:g} times the published width"
    return (
        f"Seen in the profile {plan.profile} on {comparison.images.label}, with images of "
        f"{recipe.image_size} pixels, networks {width} and {recipe.epochs} epochs of training."
    )


def _standing(plan: Plan, decided: bool) -> str:
    """What may be concluded from it."""
    if plan.profile in ("smoke", "quick"):
        return TESTS_NOTHING
    return ABOUT if decided else NO_OUTCOME


def _found(plan: Plan, task: str, found: Compared, title: str, verdict: Verdict | None) -> str:
    """A network's gain with its outcome, on the way and at the end, and frozen."""
    runs = found.of(title)
    if not runs:
        return NO_RUN
    pairs = found.pairs(title)
    if not pairs:
        return f"It ended at {accuracy(runs):.4f}. {NO_PLAIN}"
    ours, plain = [run for run, _ in pairs], [one for _, one in pairs]
    text = (
        f"It ended at {accuracy(ours):.4f} and {found.plain} at {accuracy(plain):.4f}, which is "
        f"{points(gain(pairs))} ({run_count(plan, task, title, ours)}"
        f"{on_record(plan)[task].ended_early(title)})"
    )
    curves = [np.mean([run.history["val_acc"] for run in of], axis=0) for of in (ours, plain)]
    if len(curves[0]) == len(curves[1]):
        half = marks(len(curves[0]))[-2:][0]
        early = 100 * (curves[0][half - 1] - curves[1][half - 1])
        text += f"; half way through it was {points(early)}"
    text += f".{_frozen(ours)}"
    if verdict is not None and verdict.is_decided:
        text += f" Outcome: {verdict.in_full}. {sentence(verdict)}"
    return text


def _between(verdict: Verdict) -> str:
    """A difference that a claim is about and that is not one to the plain network."""
    if verdict.value is None:
        return "No run of ours speaks to it."
    text = f"{points(verdict.value)} ({verdict.folds})."
    return f"{text} Outcome: {verdict.in_full}." if verdict.is_decided else text


def _frozen(runs: Sequence[Run]) -> str:
    """What is left of the accuracy when the modulation is frozen, as far as it was measured."""
    frozen = [run for run in runs if "frozen" in run.metrics]
    if not frozen:
        return ""
    left, changed = (
        float(np.mean([run.metrics["frozen"][name] for run in frozen]))
        for name in ("accuracy", "changed")
    )
    worth = 100 * (accuracy(frozen) - left)
    return (
        f" With its modulation frozen at the mean it would have {left:.4f}, so that its decisions "
        f"about single images are worth {points(worth)}; they change {changed:.1%} of the "
        f"predictions (the protocol's line is {CONSTANT:.1%})."
    )
