"""What a figure shows, in a sentence with its numbers: each is named after the figure it reads.

The same sentences are the figures' alternative texts, for readers who do not see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attn_book.analysis.findings.compared import accuracy
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.tables import interval
from attn_book.analysis.verdicts import verdicts
from attn_book.analysis.words import Finding, listed, points
from attn_book.records.run import Run
from attn_book.study.claims import BETTER
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

NOTHING = "No run is finished, so there is nothing to see."
CONFUSIONS = 2  # of each network


def training_curves(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """Where the curves end, on validation and on training images, and where they are far apart."""
    ends, gaps = [], {}
    for title, of_title in _finished(runs).items():
        train = float(np.mean([run.metrics["final_train_acc"] for run in of_title]))
        loss = float(np.mean([run.history["val_loss"][-1] for run in of_title]))
        gaps[title] = 100 * (train - accuracy(of_title))
        ends.append(
            f"{title} {accuracy(of_title):.3f} (on training images {train:.3f}, validation loss "
            f"{loss:.3f})"
        )
    if not ends:
        return _one(NOTHING)
    text = f"Accuracy on validation images at the end of training: {listed(ends)}."
    if len(gaps) > 1:
        widest = max(gaps, key=lambda title: abs(gaps[title]))
        side = "below" if gaps[widest] >= 0 else "above"
        text += (
            f" Farthest from its training images is {widest}, {abs(gaps[widest]):.1f} points "
            f"{side} them."
        )
    return _one(text)


def validation_curves(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """The networks in the order in which their curves end."""
    finished = _finished(runs)
    order = sorted(finished, key=lambda title: -accuracy(finished[title]))
    ends = [f"{title} ({accuracy(finished[title]):.3f})" for title in order]
    return _one(f"From the highest end to the lowest: {listed(ends)}." if ends else NOTHING)


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
                    f"{names[true]} for {names[taken]} ({wrong[true, taken]:,} of "
                    f"{confusion[true].sum():,} images)"
                )
        most = f"most often takes {listed(pairs)}" if pairs else "confuses nothing"
        parts.append(f"{title} {most}")
    return _one(f"{'; '.join(parts)}." if parts else NOTHING)


def accuracy_against_cost(runs: Mapping[str, Sequence[Run]]) -> Finding:
    """Which networks lie above the plain one, and what they have more of."""
    finished = _finished(runs)
    if not finished:
        return _one(NOTHING)
    without = [title for title, of in finished.items() if "blocks" not in of[0].metrics]
    plain = (without or list(finished))[0]
    others = {title: of_title for title, of_title in finished.items() if title != plain}
    start = f"{plain} has {accuracy(finished[plain]):.3f}"
    parts = []
    for side, keep in (("above", lambda gain: gain > 0), ("not above", lambda gain: gain <= 0)):
        lie = []
        for title, of_title in others.items():
            gain = 100 * (accuracy(of_title) - accuracy(finished[plain]))
            if keep(gain):
                lie.append(f"{title} ({points(gain)}{_dearer(of_title[0], finished[plain][0])})")
        if lie:
            parts.append(f"{side} it lie{'s' * (len(lie) == 1)} {listed(lie)}")
    return _one("; ".join([start, *parts]) + ".")


def _dearer(run: Run, plain: Run) -> str:
    """What a network has more of than the plain one: parameters and multiply-adds, in percent."""
    found = [
        f"{100 * (run.metrics[name] / plain.metrics[name] - 1):+.1f}% {word}"
        for name, word in (("params", "parameters"), ("macs", "multiply-adds"))
    ]
    return f", {', '.join(found)}"


def gain_forest(plan: Plan, task: str = "animals10") -> Finding:
    """The gains over ResNet-50, with the intervals that decide where there are any."""
    return gains(
        [
            verdict
            for verdict in verdicts(plan)
            if (verdict.claim.task, verdict.claim.kind) == (task, BETTER)
            and verdict.claim.worse == RESNET.title
        ]
    )


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
            text += f" {interval(*verdict.interval, '+.1f')}"
        parts.append(text)
    if not parts:
        return _one(NOTHING)
    lacking = [v.claim.better for v in found if v.value is None]
    text = f"Above {RESNET.title}, from the largest to the smallest: {listed(parts)}"
    return _one(f"{text}; no finished run of {listed(lacking)}." if lacking else f"{text}.")


def _finished(runs: Mapping[str, Sequence[Run]]) -> dict[str, Sequence[Run]]:
    return {title: of_title for title, of_title in runs.items() if of_title}


def _one(text: str) -> Finding:
    return Finding((("", text),))
