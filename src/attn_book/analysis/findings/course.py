"""The course of training: where on the way a block is ahead, and how soon it gets somewhere."""

from __future__ import annotations

import math

import numpy as np

from attn_book.analysis.findings.compared import (
    NO_PLAIN,
    NO_RUN,
    Compared,
    accuracy,
    compared,
    over,
)
from attn_book.analysis.words import Finding, counted, listed, points
from attn_book.records.run import Run
from attn_book.study.plan import Plan

PART = 0.8  # of the plain network's final accuracy: the level that all are timed to


def curve(plan: Plan, task: str, *titles: str) -> Finding:
    """Gains over the plain network along the way, epochs to a common level, validation losses.

    Curves are means over the seeds that both networks finished. The level is ``PART`` of the plain
    network's final accuracy on the validation images, and what counts is the first epoch after
    which the mean curve reaches it.
    """
    found = compared(plan, task, titles)
    return Finding(tuple((title, _curve(found, title)) for title in found.blocks))


def _curve(found: Compared, title: str) -> str:
    runs = found.of(title)
    if not runs:
        return NO_RUN
    pairs = found.pairs(title)
    if not pairs:
        return f"{NO_PLAIN} {_losses({title: runs})}"
    ours, theirs = [run for run, _ in pairs], [plain for _, plain in pairs]
    mine, plain = mean_curve(ours, "val_acc"), mean_curve(theirs, "val_acc")
    if len(mine) != len(plain):
        return (
            f"It was trained for {len(mine)} epochs and {found.plain} for {len(plain)}: their "
            "curves cannot be held against each other."
        )
    steps = [
        f"{points(100 * (mine[epoch - 1] - plain[epoch - 1]))} after epoch {epoch}"
        for epoch in marks(len(mine))
    ]
    level = PART * accuracy(theirs)
    return (
        f"Against {found.plain} it stood at {listed(steps)} of {len(mine)}{over(pairs)}. To "
        f"{level:.3f}, {PART:.0%} of where {found.plain} ended, it took {_first(mine, level)}, and "
        f"{found.plain} {_first(plain, level)}. " + _losses({title: ours, str(found.plain): theirs})
    )


def marks(epochs: int) -> list[int]:
    """A quarter, half and the end of training, in epochs; each once."""
    return sorted({math.ceil(epochs / 4), math.ceil(epochs / 2), epochs})


def mean_curve(runs: list[Run], column: str) -> np.ndarray:
    """A column of the histories, epoch by epoch, as the mean over runs of equal length."""
    return np.mean([run.history[column] for run in runs], axis=0)


def _first(values: np.ndarray, level: float) -> str:
    """The number of epochs until the curve first reaches the level."""
    there = np.flatnonzero(values >= level)
    if not len(there):
        return "more than its training"
    return counted(int(there[0]) + 1, "epoch")


def _losses(runs: dict[str, list[Run]]) -> str:
    """Where the validation losses ended, and whether they had been lower before."""
    parts = []
    for title, of_title in runs.items():
        losses = mean_curve(of_title, "val_loss")
        text = f"{losses[-1]:.3f} for {title}"
        lowest = int(np.nanargmin(losses)) if np.isfinite(losses).any() else len(losses) - 1
        if not losses[lowest] >= losses[-1]:  # so also where the last is no number
            text += f", after {losses[lowest]:.3f} in epoch {lowest + 1}"
        parts.append(text)
    return f"The validation loss ended at {listed(parts)}."
