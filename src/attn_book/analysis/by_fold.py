"""The main comparison fold by fold: how much of it hangs on one fold, or on one network.

``book/protocol.md`` does not ask for it, and decides nothing by it. All intervals share one
residual; it fits all networks only where none of them has a much larger part in it than the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attn_book.analysis import beside
from attn_book.analysis.evidence import Evidence
from attn_book.analysis.statistics import residual, unexplained
from attn_book.analysis.words import block_of, joined, sentences
from attn_book.language import _, say
from attn_book.study.pages import NINE, RESNET

AGAINST_RESNET = {entry.title: RESNET for entry in NINE.entries if entry != RESNET}


def table(found: Evidence) -> pd.DataFrame:
    """Each network's accuracy by fold, and how many points it is above ResNet-50.

    Args:
        found: of the nine networks, as everywhere here.
    """
    return beside.table(found, AGAINST_RESNET)


@dataclass(frozen=True)
class Gain:
    """A network's mean difference to ResNet-50 in points, and fold -> what it is without it."""

    mean: float
    without: dict[int, float]

    @property
    def shifts(self) -> dict[int, float]:
        """Fold -> by how many points the mean moves without it."""
        return {fold: abs(value - self.mean) for fold, value in self.without.items()}

    @property
    def turns(self) -> bool:
        """Whether its sign is another without one of the folds."""
        return any((value > 0) != (self.mean > 0) for value in self.without.values())


def gains(found: Evidence) -> dict[str, Gain]:
    """Title -> its gain; of the networks that share at least two folds with ResNet-50."""
    by_title = {title: found.gains(title, RESNET.title) for title in AGAINST_RESNET}
    return {
        title: Gain(
            float(np.mean([*by_fold.values()])),
            {
                left_out: float(np.mean([v for fold, v in by_fold.items() if fold != left_out]))
                for left_out in by_fold
            },
        )
        for title, by_fold in by_title.items()
        if len(by_fold) > 1
    }


def shares(found: Evidence) -> dict[str, float]:
    """Title -> its share of the residual's sum of squares; nothing where that is 0."""
    squares = {t: float((left**2).sum()) for t, left in unexplained(found.accuracies).items()}
    total = sum(squares.values())
    return {title: square / total for title, square in squares.items()} if total > 0 else {}


def in_words(found: Evidence) -> str:
    """How far one fold and one network carry the comparison; nothing until all runs have ended."""
    by_title = gains(found) if found.is_complete else {}
    if not by_title:
        return ""
    most = max(by_title, key=lambda title: max(by_title[title].shifts.values()))
    shifts = by_title[most].shifts
    fold = max(shifts, key=lambda fold: shifts[fold])
    moved = say(
        "With one fold left out, a difference to {network} moves by at most {most:.2f} points "
        "({block}, without fold {fold}).",
        network=RESNET.title,
        most=shifts[fold],
        block=block_of(most),
        fold=fold,
    )
    turning = [block_of(title) for title, gain in by_title.items() if gain.turns]
    turned = _("No difference has another sign without one of the folds.")
    if turning:
        turned = say("Without one of the folds another sign: {blocks}.", blocks=joined(turning))
    return sentences([moved, turned, _residual_in_words(found)])


def _residual_in_words(found: Evidence) -> str:
    parts, values = shares(found), found.accuracies
    if not parts:
        return ""
    largest = max(parts, key=lambda title: parts[title])
    others = {title: row for title, row in values.items() if title != largest}
    return say(
        "The residual standard deviation behind all intervals is {all:.2f} points. {network} has "
        "{share:.0%} of its sum of squares, the most of the {networks}, where equal parts would be "
        "{equal:.0%}; without that network it is {without:.2f}.",
        all=residual(values).deviation,
        network=largest,
        share=parts[largest],
        networks=len(parts),
        equal=1 / len(parts),
        without=residual(others).deviation,
    )
