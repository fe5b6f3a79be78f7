"""What the figures of a comparison show: curves, confusions, accuracy against cost, gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attn_book.analysis.findings.compared import NO_PLAIN, accuracy, gain, pairs_of, plain_of
from attn_book.analysis.findings.scores import by_confidence, confidence_of
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.tables import interval
from attn_book.analysis.verdicts import against_resnet
from attn_book.analysis.words import Finding, clauses, counted, listed, points, sentences
from attn_book.language import N_, _, say
from attn_book.records.run import Run
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

NOTHING = N_("No run is finished, so there is nothing to see.")
CONFUSIONS = 2  # of each network


def training_curves(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """Where the curves end, on validation and on training images, and where they are far apart."""
    ends, gaps = [], {}
    for title, of_title in _finished(runs).items():
        train = float(np.mean([run.metrics["final_train_acc"] for run in of_title]))
        loss = float(np.mean([run.history["val_loss"][-1] for run in of_title]))
        gaps[title] = 100 * (train - accuracy(of_title))
        ends.append(
            say(
                "{network} {accuracy:.3f} (on training images {train:.3f}, validation loss "
                "{loss:.3f})",
                network=title,
                accuracy=accuracy(of_title),
                train=train,
                loss=loss,
            )
        )
    if not ends:
        return Finding.of(_(NOTHING))
    parts = [
        say("Accuracy on validation images at the end of training: {ends}.", ends=listed(ends))
    ]
    if len(gaps) > 1:
        widest = max(gaps, key=lambda title: abs(gaps[title]))
        below = N_(
            "The widest gap is that of {network}, {gap:.1f} points below its accuracy on training "
            "images."
        )
        above = N_(
            "The widest gap is that of {network}, {gap:.1f} points above its accuracy on training "
            "images."
        )
        template = below if gaps[widest] >= 0 else above
        parts.append(say(template, network=widest, gap=abs(gaps[widest])))
    return Finding.of(sentences(parts))


def validation_curves(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """The networks in the order in which their curves end, over the runs that all share."""
    finished = _finished(runs)
    if not finished:
        return Finding.of(_(NOTHING))
    template = N_("From the highest end to the lowest: {ends}.")
    seeds = [_seeds(of_title) for of_title in finished.values()]
    shared = set.intersection(*seeds)
    if any(of_title != shared for of_title in seeds):
        template = N_("No run is shared by all, so that these means have no order: {ends}.")
        if shared:
            template = N_("From the highest end to the lowest, over {runs} of each: {ends}.")
            finished = {title: _of(of_title, shared) for title, of_title in finished.items()}
    order = sorted(finished, key=lambda title: -accuracy(finished[title]))
    ends = [
        say("{network} ({accuracy:.3f})", network=title, accuracy=accuracy(finished[title]))
        for title in order
    ]
    return Finding.of(say(template, ends=listed(ends), runs=counted(len(shared), "shared run")))


def confusion_matrices(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """The pairs of classes that each network confuses most often, with their counts."""
    parts = []
    for title, of_title in _finished(runs).items():
        confusion = np.sum([run.confusion for run in of_title], axis=0)
        wrong = confusion - np.diag(np.diag(confusion))
        pairs = []
        for place in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]:
            true, taken = np.unravel_index(place, wrong.shape)
            if wrong[true, taken]:
                names = of_title[0].classes
                pairs.append(
                    say(
                        "{true} for {taken} ({wrong:,} of {images:,} images)",
                        true=names[true],
                        taken=names[taken],
                        wrong=wrong[true, taken],
                        images=confusion[true].sum(),
                    )
                )
        most = (
            N_("{network} most often takes {pairs}") if pairs else N_("{network} confuses nothing")
        )
        parts.append(say(most, network=title, pairs=listed(pairs)))
    return Finding.of(say("{text}.", text=clauses(parts)) if parts else _(NOTHING))


def reliability(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """In how many bins of confidence each network is right less often than it says."""
    parts = []
    for title, of_title in _finished(runs).items():
        sure, share, images = by_confidence(*confidence_of(*of_title))
        parts.append(
            say(
                "{network} is too sure in {above} of {bins} bins, with {part:.0%} of the images",
                network=title,
                above=int((sure > share).sum()),
                bins=len(sure),
                part=images[sure > share].sum() / images.sum(),
            )
        )
    return Finding.of(say("{text}.", text=clauses(parts)) if parts else _(NOTHING))


def accuracy_against_cost(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """Which networks lie above the plain one, and what they have more of."""
    finished = _finished(runs)
    if not finished:
        return Finding.of(_(NOTHING))
    plain = plain_of({title: of[0].experiment for title, of in finished.items()})
    if plain is None:
        return Finding.of(_(NO_PLAIN))
    base = finished[plain]
    parts = [say("{network} has {accuracy:.3f}", network=plain, accuracy=accuracy(base))]
    pairs = {t: pairs_of(of, base) for t, of in finished.items() if t != plain}
    gains = {title: gain(both) for title, both in pairs.items() if both}
    above = [title for title, value in gains.items() if value > 0]
    for titles, one, several in (
        (above, N_("above it lies {networks}"), N_("above it lie {networks}")),
        (
            [title for title in gains if title not in above],
            N_("not above it lies {networks}"),
            N_("not above it lie {networks}"),
        ),
    ):
        lie = [
            say(
                "{network} ({gain}{shared}, {more})",
                network=title,
                gain=points(gains[title]),
                shared=_where_fewer(pairs[title], finished[title], base),
                more=_dearer(*pairs[title][0]),
            )
            for title in titles
        ]
        if lie:
            parts.append(say(one if len(lie) == 1 else several, networks=listed(lie)))
    if apart := [title for title in pairs if title not in gains]:
        parts.append(say("no run in common with it: {networks}", networks=listed(apart)))
    return Finding.of(say("{text}.", text=clauses(parts)))


def _where_fewer(pairs: Sequence[object], *runs: Sequence[Run]) -> str:
    """How many runs a gain is over, where the two networks do not have the same."""
    if all(len(pairs) == len(of_title) for of_title in runs):
        return ""
    return say(" over {runs}", runs=counted(len(pairs), "shared run"))


def _seeds(runs: Sequence[Run]) -> set[int]:
    return {run.experiment.seed for run in runs}


def _of(runs: Sequence[Run], seeds: set[int]) -> list[Run]:
    return [run for run in runs if run.experiment.seed in seeds]


def _dearer(run: Run, plain: Run) -> str:
    """What a network has more of than the plain one: parameters and multiply-adds, in percent."""
    params, macs = (
        100 * (run.metrics[name] / plain.metrics[name] - 1) for name in ("params", "macs")
    )
    return say("{params:+.1f}% parameters, {macs:+.1f}% multiply-adds", params=params, macs=macs)


def gain_forest(plan: Plan, task: str = "animals10") -> Finding:
    """The gains over ResNet-50, with the intervals that decide where there are any."""
    return gains(against_resnet(plan, task))


def gains(found: Sequence[Verdict]) -> Finding:
    """The same of given verdicts."""
    known = {v.claim.better: v for v in found if v.value is not None}
    order = sorted(known, key=lambda title: -(known[title].value or 0.0))
    parts = []
    for title in order:
        verdict = known[title]
        assert verdict.value is not None, "it is among the known"
        text = f"{title} {points(verdict.value)}"
        if verdict.interval is not None:
            text += f" {interval(verdict.interval)}"
        parts.append(text)
    if not parts:
        return Finding.of(_(NOTHING))
    lacking = [v.claim.better for v in found if v.value is None]
    shown = [
        say(
            "Above {network}, from the largest to the smallest: {gains}",
            network=RESNET.title,
            gains=listed(parts),
        )
    ]
    if any(known[title].interval for title in order):
        shown.append(_("in brackets the simultaneous 95% intervals"))
    if lacking:
        shown.append(say("no finished run of {networks}", networks=listed(lacking)))
    return Finding.of(say("{text}.", text=clauses(shown)))


def _finished(runs: Mapping[str, Sequence[Run]]) -> dict[str, Sequence[Run]]:
    return {title: of_title for title, of_title in runs.items() if of_title}
