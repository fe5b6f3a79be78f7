"""What blocks and networks look at: maps laid over the grey image, all on one colour scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from attn_book.analysis import readings
from attn_book.analysis.explain import SeenImage, Transforms
from attn_book.analysis.plots.style import book_style
from attn_book.analysis.readings.inside import SA_START
from attn_book.analysis.words import joined, listed, named, sentences
from attn_book.language import N_, _, say


def maps_over_image(
    picture: np.ndarray | None,
    maps: Mapping[str, np.ndarray],
    columns: int | None = None,
    label: str = "gate",
) -> Figure:
    """An image and maps of it laid over its grey version, all on one colour scale.

    Args:
        picture: [S, S, 3], uint8 or 0 to 1; None draws the maps alone.
        maps: title -> [h, w], of any resolution.
        columns: panels in a row; None for one row of up to five, else four.
        label: of the colour scale.
    """
    first = 0 if picture is None else 1
    columns = columns or (len(maps) + first if len(maps) < 5 else 4)
    rows = math.ceil((len(maps) + first) / columns)
    low, high = shared_range(maps.values())
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(2.1 * columns + 0.7, 2.3 * rows),
            layout="constrained",
            squeeze=False,
        )
        for axis in axes.flat:
            axis.axis("off")
        if picture is not None:
            axes.flat[0].imshow(picture)
            axes.flat[0].set_title(_("image"), fontsize=9)
        for axis, (title, values) in zip(axes.flat[first:], maps.items(), strict=False):
            drawn = overlay(axis, picture, values, low, high)
            axis.set_title(named(title), fontsize=9)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label=_(label)).solids.set(alpha=1)
    template = (
        N_("Maps of the {label}.")
        if picture is None
        else N_("An image and over it maps of the {label}.")
    )
    what = say(template, label=_(label))
    figure.set_label(sentences([what, str(readings.maps_over_image(maps, label))]))
    return figure


def shuffle_gates(
    picture: np.ndarray, channel: np.ndarray, spatial: Mapping[str, np.ndarray]
) -> Figure:
    """Both halves of shuffle attention: the channel gates as bars, the pixel gates as maps.

    Args:
        picture: [S, S, 3].
        channel: the gates of the channel halves, one a channel.
        spatial: title -> gate map of a channel of the other halves.
    """
    columns = 4
    rows = math.ceil((len(spatial) + 1) / columns)
    low, high = shared_range(spatial.values())
    with book_style({"axes.grid": False}):
        figure = plt.figure(figsize=(2.1 * columns + 0.7, 1.9 + 2.3 * rows), layout="constrained")
        grid = figure.add_gridspec(rows + 1, columns, height_ratios=[0.7] + [1] * rows)
        bars = figure.add_subplot(grid[0, :])
        # From the start and not from 0: what training changed is what is to be seen.
        moved = channel - SA_START
        bars.bar(range(len(channel)), moved, bottom=SA_START, width=0.9, color="#0072b2")
        bars.xaxis.get_major_locator().set_params(integer=True)
        bars.axhline(SA_START, color="black", linestyle="--", linewidth=1)
        bars.set(
            xlabel=_("channel of the first halves"),
            ylabel=_("gate"),
            xlim=(-1, len(channel)),
            title=_("gated by channel (dashed: where training began)"),
        )
        axes = [
            figure.add_subplot(grid[1 + i // columns, i % columns]) for i in range(len(spatial) + 1)
        ]
        for axis in axes:
            axis.axis("off")
        axes[0].imshow(picture)
        axes[0].set_title(_("image"), fontsize=9)
        for axis, (title, values) in zip(axes[1:], spatial.items(), strict=True):
            drawn = overlay(axis, picture, values, low, high)
            axis.set_title(say("second halves: {channel}", channel=named(title)), fontsize=9)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label=_("gate")).solids.set(alpha=1)
    what = _("Channel gates as bars, and over an image maps of pixel gates.")
    figure.set_label(sentences([what, str(readings.shuffle_gates(channel, spatial))]))
    return figure


def query_attention(
    picture: np.ndarray,
    queries: Mapping[tuple[float, float], np.ndarray],
    context: np.ndarray | None = None,
    correlation: float | None = None,
) -> Figure:
    """Where the pixels marked by a dot look (non-local), beside the single map of global context.

    Each map is drawn relative to its own largest weight.

    Args:
        picture: [S, S, 3].
        queries: (row, column), as shares of the image -> attention [h, w].
        context: GC's map [h, w], or None.
        correlation: the mean correlation of all pixels' maps, written above the figure.
    """
    panels: list[tuple[str, np.ndarray | None, tuple[float, float] | None]]
    panels = [(N_("image"), None, None)]
    panels += [(N_("query {number}"), values, at) for at, values in queries.items()]
    if context is not None:
        panels.append((N_("global context:\none map for all"), context, None))
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(1.75 * len(panels), 2.5), layout="constrained", squeeze=False
        )
        side = len(picture)
        for place, (axis, (title, values, at)) in enumerate(zip(axes.flat, panels, strict=True)):
            axis.axis("off")
            axis.set_title(say(title, number=place), fontsize=9)
            if values is None:
                axis.imshow(picture)
                dots = {str(i): place for i, place in enumerate(queries, 1)}
            else:
                overlay(axis, picture, values / values.max(), 0, 1)
                dots = {} if at is None else {"": at}
            for number, (row, column) in dots.items():
                _mark(axis, number, (column * side - 0.5, row * side - 0.5))
        if correlation is not None:
            title = say(
                "mean correlation between the maps of all pixels: {correlation:.2f}",
                correlation=correlation,
            )
            figure.suptitle(title, fontsize=10)
    words = say("Where {number} marked pixels of an image look", number=len(queries))
    if context is not None:
        words += _(", beside the one map of global context")
    read = str(readings.query_attention(queries, context, correlation))
    figure.set_label(sentences([say("{text}.", text=words), read]))
    return figure


def _mark(axis: plt.Axes, number: str, place: tuple[float, float]) -> None:
    """A ring, through which the map at the query itself can be seen, and its number."""
    for ink, size in (("white", 10), ("#ff2d2d", 8)):
        axis.plot(*place, "o", color=ink, markerfacecolor="none", markersize=size)
    outline = [patheffects.withStroke(linewidth=2, foreground="black")]
    style = {"color": "white", "fontsize": 9, "weight": "bold", "path_effects": outline}
    axis.annotate(number, place, (6, 5), textcoords="offset points", **style)


def transforms(picture: np.ndarray, seen: Transforms) -> Figure:
    """BAT's matrices of each group, and the group's mean feature map before and after them.

    Args:
        picture: [S, S, 3].
        seen: ``explain.View.transforms``.
    """
    groups = len(seen.rows)
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            groups, 4, figsize=(8.2, 1.8 * groups + 0.3), layout="constrained", squeeze=False
        )
        largest = max(seen.rows.max(), seen.columns.max())
        for group, row in enumerate(axes):
            low, high = shared_range([seen.before[group], seen.after[group]])
            for axis, matrix in zip(row[:2], (seen.rows, seen.columns), strict=True):
                weights = axis.imshow(matrix[group], cmap="Purples", vmin=0, vmax=largest)
            for axis, maps in zip(row[2:], (seen.before, seen.after), strict=True):
                overlay(axis, picture, maps[group], low, high)
            row[0].set_ylabel(say("group {number}", number=group))
            for axis in row:
                axis.set(xticks=[], yticks=[])
        titles = (
            _("P: mixes rows"),
            _("Q: mixes columns"),
            _("map before"),
            _("P · map · Q"),
        )
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=10)
        figure.colorbar(weights, ax=axes, shrink=0.6, label=_("weight in P and Q (dark: large)"))
    what = say(
        "The matrices of {groups} groups, dark where a weight is large, and the mean map of each "
        "group before and after them.",
        groups=groups,
    )
    figure.set_label(sentences([what, str(readings.transforms(seen))]))
    return figure


def grad_cam(evidence: Sequence[SeenImage]) -> Figure:
    """Grad-CAM of each model, a row an image, with the probability of the true class.

    Each map is drawn relative to its own largest value; a map that is 0 everywhere stays dark.

    Args:
        evidence: ``explain.grad_cams``.
    """
    titles = list(evidence[0].maps)
    columns = len(titles) + 1
    side = min(2.2, 12 / columns)
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            len(evidence),
            columns,
            layout="constrained",
            squeeze=False,
            figsize=(side * columns, (side + 0.3) * len(evidence)),
        )
        for row, seen in zip(axes, evidence, strict=True):
            row[0].imshow(seen.picture)
            row[0].set_title(seen.label, fontsize=9)
            for axis, title in zip(row[1:], titles, strict=True):
                values = seen.maps[title]
                overlay(axis, seen.picture, values / max(values.max(), 1e-12), 0, 1)
                axis.set_title(f"{title}\np = {seen.probabilities[title]:.2f}", fontsize=8)
            for axis in row:
                axis.axis("off")
    images = [
        say(
            "{image} ({probabilities})",
            image=one.label,
            probabilities=joined(f"{t} {p:.2f}" for t, p in one.probabilities.items()),
        )
        for one in evidence
    ]
    what = say("Grad-CAM, with the probability of the true class: {images}.", images=listed(images))
    figure.set_label(sentences([what, str(readings.grad_cam(evidence))]))
    return figure


def overlay(
    axis: plt.Axes, picture: np.ndarray | None, values: np.ndarray, low: float, high: float
) -> AxesImage:
    """Draw a map in colour over the grey picture, each of its pixels where it belongs.

    Without a picture it is drawn as it is.
    """
    if picture is None:
        return axis.imshow(values, cmap="inferno", vmin=low, vmax=high)
    side_y, side_x = picture.shape[:2]
    axis.imshow(np.asarray(picture, dtype=float).mean(axis=2), cmap="gray")
    return axis.imshow(
        values,
        cmap="inferno",
        vmin=low,
        vmax=high,
        alpha=0.65,
        interpolation="bilinear",
        extent=(-0.5, side_x - 0.5, side_y - 0.5, -0.5),
    )


def shared_range(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """One colour scale for several maps, never empty."""
    maps = list(maps)
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    room = max(0.0, 0.01 - (high - low)) / 2
    return low - room, high + room
