"""The networks at full width: the figures of ``book/full_size.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attn_book.analysis.plots.style import (
    DARK,
    GROUND,
    HOLLOW,
    NOTE,
    PALE,
    WIDTH,
    book_style,
    colour,
    marker,
)
from attn_book.analysis.plots.training import MARKERS
from attn_book.analysis.words import block_of
from attn_book.language import _, say
from attn_book.study.pages import RESNET


def curves(tasks: Mapping[str, Mapping[str, np.ndarray]], height: float = 3.6) -> Figure:
    """Validation accuracy after each epoch: a panel a task, the best network first in its legend.

    Args:
        tasks: title of a task -> title of a network -> accuracies from 0 to 1.
        height: of a panel, in inches.
    """
    with book_style():
        figure, axes = plt.subplots(
            len(tasks), 1, figsize=(WIDTH, height * len(tasks)), layout="constrained", squeeze=False
        )
        for axis, (task, networks) in zip(axes[:, 0], tasks.items(), strict=True):
            for title in sorted(networks, key=lambda title: -networks[title][-1]):
                values = 100 * networks[title]
                _line(axis, title, np.arange(1, len(values) + 1), values, f"{values[-1]:.1f}")
            axis.set(title=task, xlabel=_("epochs"), ylabel=_("validation accuracy (%)"))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def gains_of_trainings(
    gains: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]]
) -> Figure:
    """Points above ResNet-50 of each block: hollow in each training, full their mean.

    Args:
        gains: title -> points in each training, the block with the highest mean first.
        errors: of each, the standard error that the images alone leave; two to each side are drawn.
    """
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.5 + 0.55 * len(gains)), layout="constrained")
        for place, (title, values) in enumerate(gains.items()):
            ink = colour(title)
            for number, (value, error) in enumerate(zip(values, errors[title], strict=True)):
                at = place + 0.3 * (number - (len(values) - 1) / 2)
                axis.plot([value - 2 * error, value + 2 * error], [at] * 2, color=ink, linewidth=1)
                axis.plot(value, at, mec=ink, **HOLLOW)
            mean = float(np.mean(values))
            axis.plot(mean, place, "D", color=ink, markersize=6, zorder=3)
            where = (max(v + 2 * e for v, e in zip(values, errors[title], strict=True)), place)
            axis.annotate(f"{mean:+.1f}", where, (8, 0), ha="left", **NOTE)
        names = [block_of(title) for title in gains]
        _frame(axis, names, _("a training, ± 2 errors of its images"), _("mean"), "D")
        axis.margins(x=0.1)
    return figure


def _frame(axis: plt.Axes, names: Sequence[str], hollow: str, full: str, sign: str) -> None:
    """A row a network beside the plain one's line, and what hollow and full marks are."""
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(say("points above {network}", network=RESNET.title))
    axis.set_ylim(len(names) - 0.5, -0.5)
    handles = [
        plt.Line2D([], [], mec=DARK, label=hollow, **HOLLOW),
        plt.Line2D([], [], ls="", marker=sign, color=DARK, label=full),
    ]
    axis.figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)


def gains_in_time(gains: Mapping[str, Sequence[float]], epochs: Sequence[int]) -> Figure:
    """Points above ResNet-50 at some epochs, a line a block."""
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
        axis.axhline(0, color=colour(RESNET.title), linewidth=2)
        for title in sorted(gains, key=lambda title: -gains[title][-1]):
            _line(axis, title, epochs, gains[title], f"{gains[title][-1]:+.1f}")
        axis.set_xticks(epochs)
        axis.set_xlabel(_("after epoch"))
        axis.set_ylabel(say("points above {network}", network=RESNET.title))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def _line(
    axis: plt.Axes,
    title: str,
    at: Sequence[int] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    end: str,
) -> None:
    axis.plot(
        at,
        values,
        color=colour(title),
        marker=marker(title),
        markevery=max(1, len(at) // MARKERS),
        markersize=6,
        label=f"{block_of(title)} {end}",
    )


def small_and_full(gains: Mapping[str, tuple[float, float]]) -> Figure:
    """Points above ResNet-50 of each block: in the small networks hollow, at full width full.

    Args:
        gains: title -> (small, full width).
    """
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.4 * len(gains)), layout="constrained")
        for place, (title, (small, full)) in enumerate(gains.items()):
            ink = colour(title)
            axis.plot([small, full], [place] * 2, color=PALE, linewidth=1.5)
            axis.plot(small, place, mec=ink, **HOLLOW)
            axis.plot(full, place, "o", color=ink)
            where = (max(small, full), place), (8, 0)
            text = say("{first} and {last}", first=f"{small:+.1f}", last=f"{full:+.1f}")
            axis.annotate(text, *where, ha="left", bbox=GROUND, **NOTE)
        marks = _("small, mean of the study's folds"), _("full width, on average"), "o"
        _frame(axis, list(gains), *marks)
        axis.margins(x=0.2)
    return figure
