"""What is inside the blocks: gates by class, an image's way through one, learnt parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from attn_book.analysis import readings
from attn_book.analysis.explain.probes import CANDIDATES
from attn_book.analysis.explain.view import IMAGE
from attn_book.analysis.plots.maps import shared_range
from attn_book.analysis.plots.style import DASHES, INKS, book_style
from attn_book.analysis.words import listed, named, place, sentences, short_place
from attn_book.language import _, say


def channel_gates(
    gates: Mapping[str, Mapping[str, np.ndarray]], blocks: Sequence[str] | None = None
) -> Figure:
    """The gates of 50 evenly chosen channels of a few blocks, a line a class (SE paper, figure 6).

    Args:
        gates: block -> class -> gate of each channel.
        blocks: which blocks are shown; None for the last of each stage.
    """
    blocks = blocks or readings.shown_blocks(gates)
    columns = 2 if len(blocks) > 1 else 1
    rows = math.ceil(len(blocks) / columns)
    with book_style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(9, 2.5 * rows + 0.5), layout="constrained", squeeze=False
        )
        for axis in axes.flat[len(blocks) :]:
            axis.axis("off")
        for axis, block in zip(axes.flat, blocks, strict=False):
            values = np.stack(list(gates[block].values()))
            shown = np.unique(np.linspace(0, values.shape[1] - 1, 50).astype(int))
            for i, name in enumerate(gates[block]):
                look = {"color": INKS[i % len(INKS)], "linestyle": DASHES[i % len(DASHES)]}
                axis.plot(shown, values[i, shown], linewidth=1.1, label=name, **look)
            spread = readings.gates_spread(gates[block])
            title = say(
                "{place}: spread between classes {spread:.3f}", place=place(block), spread=spread
            )
            axis.set_title(title, fontsize=10)
            axis.set(xlabel=_("channel"), ylabel=_("gate"), ylim=(-0.03, 1.03))
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(6, len(names)),
            fontsize=8,
            title=say("means over at most {images} images", images=CANDIDATES),
            title_fontsize=8,
        )
    what = say("Mean gates of {classes}.", classes=listed(gates[blocks[0]]))
    figure.set_label(sentences([what, str(readings.channel_gates(gates, blocks=blocks))]))
    return figure


def walk(steps: Mapping[str, np.ndarray]) -> Figure:
    """An image on its way through a block: maps as pictures, values for each channel as lines.

    Input and output share a colour scale, so that what the block damps is darker.

    Args:
        steps: ``explain.View.walk``.
    """
    low, high = shared_range([steps["input"], steps["output"]])
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(steps), figsize=(2.05 * len(steps), 2.5), layout="constrained", squeeze=False
        )
        for axis, (title, values) in zip(axes.flat, steps.items(), strict=True):
            axis.set_title(_step(title), fontsize=9)
            if values.ndim == 1:
                axis.plot(values, color="#0072b2", linewidth=0.9)
                axis.set_box_aspect(1)
                axis.set_xlabel(_("channel"), fontsize=8)
                axis.tick_params(labelsize=7)
                continue
            limits = {"vmin": low, "vmax": high} if title in ("input", "output") else {}
            drawn = axis.imshow(values, cmap="viridis", **limits)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if values.ndim == 2:
                bar = figure.colorbar(
                    drawn,
                    cax=axis.inset_axes((0, -0.1, 1, 0.06)),
                    orientation="horizontal",
                    ticks=plt.MaxNLocator(3, prune="both"),
                )
                bar.ax.tick_params(labelsize=7)
    what = _("An image on its way through a block.")
    figure.set_label(sentences([what, str(readings.walk(steps))]))
    return figure


def _step(title: str) -> str:
    """A step of ``explain.View.walk`` in today's language."""
    if title.startswith(IMAGE):
        return say("image: {label}", label=title.removeprefix(IMAGE))
    return named(title)


def parameter_spread(
    parameters: Mapping[str, Mapping[str, np.ndarray]], start: Mapping[str, float] | None = None
) -> Figure:
    """Where the blocks' parameters ended: median, half of them (box), 95% (whiskers) per block.

    Args:
        parameters: ``explain.View.block_parameters``.
        start: parameter -> its value before training, as a dashed line; where there is none
            the values began at random.
    """
    start = start or {}
    blocks = list(next(iter(parameters.values())))
    with book_style():
        figure, axes = plt.subplots(
            len(parameters),
            1,
            figsize=(8.5, 1.9 * len(parameters) + 0.9),
            layout="constrained",
            sharex=True,
            squeeze=False,
        )
        for axis, (name, values) in zip(axes.flat, parameters.items(), strict=True):
            boxes = axis.boxplot(
                list(values.values()),
                positions=[blocks.index(b) for b in values],
                whis=(2.5, 97.5),
                showfliers=False,
                patch_artist=True,
                widths=0.6,
                medianprops={"color": "black"},
            )
            for box in boxes["boxes"]:
                box.set(facecolor="#bcd7ec", edgecolor="#333333")
            if name in start:
                axis.axhline(start[name], color="#d55e00", linestyle="--", linewidth=1.2)
            axis.set_ylabel(named(name))
        axes.flat[-1].set_xticks(range(len(blocks)), [short_place(block) for block in blocks])
        axes.flat[-1].set_xlabel(_("place: stage.block, counted from 1"))
        if start:
            line = plt.Line2D([], [], color="#d55e00", linestyle="--", label=_("before training"))
            figure.legend(handles=[line], loc="outside upper right", fontsize=9)
    what = _("Learnt parameters by block.")
    figure.set_label(sentences([what, str(readings.parameter_spread(parameters, start))]))
    return figure
