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
    mean_curve,
    over,
)
from attn_book.analysis.words import Finding, counted, listed, points, sentences
from attn_book.language import _, say
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
        return _(NO_RUN)
    pairs = found.pairs(title)
    if not pairs:
        return sentences([_(NO_PLAIN), _losses({title: runs})])
    ours, theirs = [run for run, _ in pairs], [plain for _, plain in pairs]
    mine, plain = mean_curve(ours, "val_acc"), mean_curve(theirs, "val_acc")
    if len(mine) != len(plain):
        return say(
            "It was trained for {ours} epochs and {network} for {theirs}: their curves cannot be "
            "held against each other.",
            ours=len(mine),
            network=found.plain,
            theirs=len(plain),
        )
    steps = [
        say(
            "{gain} after epoch {epoch}",
            gain=points(100 * (mine[epoch - 1] - plain[epoch - 1])),
            epoch=epoch,
        )
        for epoch in marks(len(mine))
    ]
    level = PART * accuracy(theirs)
    text = say(
        "Against {network} it stood at {steps} of {epochs}{over}. It took {ours} to reach "
        "{level:.3f}, {part:.0%} of {network}'s final accuracy; {network} took {theirs}.",
        network=found.plain,
        steps=listed(steps),
        epochs=len(mine),
        over=over(pairs),
        level=level,
        part=PART,
        ours=_first(mine, level),
        theirs=_first(plain, level),
    )
    return sentences([text, _losses({title: ours, str(found.plain): theirs})])


def marks(epochs: int) -> list[int]:
    """A quarter, half and the end of training, in epochs; each once."""
    return sorted({math.ceil(epochs / 4), math.ceil(epochs / 2), epochs})


def _first(values: np.ndarray, level: float) -> str:
    """The number of epochs until the curve first reaches the level."""
    there = np.flatnonzero(values >= level)
    if not len(there):
        return _("more than its training")
    return counted(int(there[0]) + 1, "epoch")


def _losses(runs: dict[str, list[Run]]) -> str:
    """Where the validation losses ended, and whether they had been lower before."""
    parts = []
    for title, of_title in runs.items():
        losses = mean_curve(of_title, "val_loss")
        text = say("{loss:.3f} for {network}", loss=losses[-1], network=title)
        lowest = int(np.nanargmin(losses)) if np.isfinite(losses).any() else len(losses) - 1
        if not losses[lowest] >= losses[-1]:  # so also where the last is no number
            text = say(
                "{loss:.3f} for {network} (lowest: {lowest:.3f} in epoch {epoch})",
                loss=losses[-1],
                network=title,
                lowest=losses[lowest],
                epoch=lowest + 1,
            )
        parts.append(text)
    return say("The validation loss ended at {losses}.", losses=listed(parts))
