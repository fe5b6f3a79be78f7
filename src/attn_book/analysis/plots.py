"""Every figure of the book. Functions take runs or arrays and return a matplotlib Figure."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from attn_blocks.datasets import ImageDataset
from attn_blocks.files import atomic_write
from attn_book.analysis import statistics, verdicts
from attn_book.analysis.diagrams import block_diagram
from attn_book.analysis.explain import Evidence, Transforms
from attn_book.records import planned
from attn_book.records.run import Run
from attn_book.study.claims import CLAIMS
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

__all__ = [
    "COLOURS",
    "accuracy_against_cost",
    "block_diagram",
    "channel_gates",
    "confusion_matrices",
    "gain_forest",
    "grad_cam",
    "maps_over_image",
    "parameter_spread",
    "query_attention",
    "sample_grid",
    "show",
    "shuffle_gates",
    "source",
    "training_curves",
    "transforms",
    "validation_curves",
    "walk",
]

# A model has the same colour on every page; the plain network is grey.
COLOURS = {
    "ResNet-50": "#7a7a7a",
    "SE-ResNet-50": "#0072b2",
    "GE-ResNet-50": "#56b4e9",
    "SRM-ResNet-50": "#009e73",
    "SGE-ResNet-50": "#d55e00",
    "SA-ResNet-50": "#cc79a7",
    "NL-ResNet-50": "#661100",
    "GC-ResNet-50": "#e69f00",
    "BAT-ResNet-50": "#7b3294",
    "SENet as published": "#0072b2",
    "SENet as intended": "#d55e00",
    "SENet without SE": "#7a7a7a",
    "SA-Residual-Inception": "#cc79a7",
    "VGG-19": "#009e73",
    "MobileNet-V2": "#e69f00",
}
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.facecolor": "white",
    "legend.frameon": False,
}


def show(plan: Plan, figure: Figure, name: str) -> Figure:
    """Stamp a figure with its provenance, save it as PNG under ``figures/`` and return it.

    Args:
        name: what the figure shows; the file is ``<page>_<name>.png``.
    """
    _freeze_layout(figure)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    figure.text(
        max(0, box.x0 / width),
        (box.y0 - 0.06) / height,
        plan.provenance,
        fontsize=7,
        color="#666666",
        va="top",
    )
    with atomic_write(plan.results_dir / "figures" / f"{plan.page}_{name}.png", "wb") as stream:
        figure.savefig(stream, format="png", bbox_inches="tight", dpi=STYLE["savefig.dpi"])
    # The notebook shows the returned figure; an open one would be shown a second time.
    plt.close(figure)
    return figure


def _freeze_layout(figure: Figure) -> None:
    """Lay the figure out for good: saving it tightly would move legends that lie outside axes."""
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        legend.set_loc("lower left")
        legend.borderaxespad = 0
        legend.set_bbox_to_anchor((box.x0, box.y0), figure.transFigure)
    figure.set_layout_engine("none")


def sample_grid(images: ImageDataset, columns: int = 8, rows: int = 2, seed: int = 0) -> Figure:
    """Training images with their class names, the classes in turn."""
    generator = np.random.default_rng(seed)
    labels = np.asarray(images.train.labels)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.25 * columns, 1.45 * rows), layout="constrained"
        )
        for position, axis in enumerate(axes.flat):
            label = position % len(images.classes)
            index = generator.choice(np.flatnonzero(labels == label))
            axis.imshow(images.train[index])
            axis.set_title(images.classes[label], fontsize=8)
            axis.axis("off")
    return figure


def training_curves(
    runs: Mapping[str, Sequence[Run]], reported: Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """Loss and accuracy per epoch of each model: training dashed, validation solid.

    With several seeds the line is the mean and the band goes from the lowest to the highest.

    Args:
        reported: a write-up's history with "epoch", "test_loss" and "test_acc", drawn behind.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
        for axis, quantity in zip(axes, ("loss", "acc"), strict=True):
            if reported is not None:
                axis.plot(
                    reported["epoch"],
                    reported[f"test_{quantity}"],
                    color="black",
                    alpha=0.35,
                    linewidth=3,
                    label="as reported (validation)",
                )
            for title, title_runs in runs.items():
                _curve(axis, title, title_runs, f"train_{quantity}", linestyle="--", label=None)
                _curve(axis, title, title_runs, f"val_{quantity}", label=title)
            axis.set(xlabel="epoch", ylabel={"loss": "cross-entropy", "acc": "accuracy"}[quantity])
        axes[0].set_title("loss (dashed: training, solid: validation)")
        axes[1].set_title("accuracy (dashed: training, solid: validation)")
        axes[1].legend(fontsize=8)
    return figure


def validation_curves(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """The validation accuracy of all models of a comparison in one plot."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
        for title, title_runs in runs.items():
            _curve(axis, title, title_runs, "val_acc", label=_with_final(title, title_runs))
        axis.set(xlabel="epoch", ylabel="validation accuracy")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="final epoch")
    return figure


def _curve(axis, title, runs, column, label, linestyle="-"):
    if not runs:
        return
    values = np.stack([run.history[column] for run in runs])
    epochs = runs[0].history["epoch"]
    colour = COLOURS[title]
    axis.plot(
        epochs,
        values.mean(axis=0),
        linestyle,
        color=colour,
        label=label,
        alpha=0.6 if linestyle == "--" else 1,
        marker="o" if len(epochs) == 1 else None,
    )
    if len(runs) > 1:
        axis.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
        )


def _with_final(title: str, runs: Sequence[Run]) -> str:
    if not runs:
        return f"{title}: no finished run"
    return f"{title}: {np.mean([run.metrics['final_val_acc'] for run in runs]):.3f}"


def confusion_matrices(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Confusion matrices on the validation images, summed over seeds, as shares of a true class."""
    shown = {title: title_runs for title, title_runs in runs.items() if title_runs}
    classes = next(iter(shown.values()))[0].classes
    columns = 2 if len(shown) == 4 else min(len(shown), 3)  # four as two by two
    rows = math.ceil(len(shown) / columns)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            rows, columns, figsize=(4.2 * columns, 4 * rows), layout="constrained", squeeze=False
        )
        for axis in axes.flat[len(shown) :]:
            axis.axis("off")
        for axis, (title, title_runs) in zip(axes.flat, shown.items(), strict=False):
            confusion = sum(run.confusion for run in title_runs)
            share = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
            image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
            axis.set_title(title)
            axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
            axis.set_yticks(range(len(classes)), classes, fontsize=7)
            axis.set(xlabel="predicted", ylabel="true")
            if len(classes) <= 10:
                for (i, j), value in np.ndenumerate(share):
                    if value >= 0.005:
                        colour = "white" if value > 0.5 else "black"
                        axis.text(
                            j,
                            i,
                            f"{100 * value:.0f}",
                            ha="center",
                            va="center",
                            fontsize=6,
                            color=colour,
                        )
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return figure


def accuracy_against_cost(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Final accuracy against parameters, multiply-adds and training time, with 95% intervals."""
    costs = (
        ("parameters (millions)", lambda run: run.metrics["params"] / 1e6),
        ("multiply-adds an image (millions)", lambda run: run.metrics["macs"] / 1e6),
        ("training time an image (ms)", lambda run: 1000 / run.images_per_second),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
        for axis, (label, cost) in zip(axes, costs, strict=True):
            for title, title_runs in runs.items():
                if not title_runs:
                    continue
                found = statistics.effect([run.metrics["final_val_acc"] for run in title_runs])
                error = None if math.isnan(found.low) else found.mean - found.low
                axis.errorbar(
                    np.median([cost(run) for run in title_runs]),
                    found.mean,
                    yerr=error,
                    fmt="o",
                    color=COLOURS[title],
                    capsize=3,
                )
            axis.set_xlabel(label)
        axes[0].set_ylabel("final validation accuracy")
        figure.legend(
            handles=[Patch(color=COLOURS[title], label=title) for title in runs],
            loc="outside lower center",
            ncols=min(5, len(runs)),
            fontsize=8,
        )
    return figure


def gain_forest(plan: Plan, task: str = "animals10") -> Figure:
    """What each block adds to ResNet-50: ours with its 95% interval, the paper's, the reported.

    In points of accuracy; the paper's gain is top-1 on ImageNet, not on this data. A single seed
    has no interval. What others found stands a little below ours, so that neither hides the other.
    """
    runs = planned.runs_of(plan, task)
    claims = [
        claim
        for claim in CLAIMS
        if claim.task == task
        and claim.worse == RESNET.title
        and not claim.by_size
        and claim.better in runs
    ]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.48 * len(claims)), layout="constrained")
        for place, claim in enumerate(claims):
            found, colour = verdicts.claim_effect(claim, runs), COLOURS[claim.better]
            if found is not None:
                if not math.isnan(found.low):
                    axis.plot([found.low, found.high], [place, place], color=colour, linewidth=3)
                axis.plot(found.mean, place, "o", color=colour, markersize=8, zorder=3)
                axis.annotate(
                    f"{found.mean:+.1f}",
                    (found.mean, place),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=colour,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # not the axis
                )
            else:
                axis.annotate(
                    "no finished run",
                    (0, place),
                    (6, 4),
                    textcoords="offset points",
                    fontsize=8,
                    color="#666666",
                )
            for value, marker in ((claim.paper, "D"), (claim.reported, "X")):
                if value is not None:
                    axis.plot(
                        value,
                        place + 0.25,
                        marker,
                        markersize=7,
                        markerfacecolor="white",
                        markeredgecolor="black",
                        zorder=4,
                    )
        axis.axvline(0, color="black", linewidth=1)
        axis.set_yticks(range(len(claims)), [claim.better for claim in claims])
        axis.set(xlabel=f"points above {RESNET.title}", ylim=(len(claims) - 0.4, -0.6))
        axis.margins(x=0.06)
        white = {"linestyle": "", "markerfacecolor": "white", "markeredgecolor": "black"}
        handles = [
            plt.Line2D(
                [], [], marker="o", color="#444444", linewidth=3, label="ours, 95% interval"
            ),
            plt.Line2D([], [], marker="D", label="the paper's, on ImageNet", **white),
            plt.Line2D([], [], marker="X", label="as reported by the write-up", **white),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


# Looking inside ----------------------------------------------------------------------------------


def maps_over_image(
    picture: np.ndarray,
    maps: Mapping[str, np.ndarray],
    columns: int | None = None,
    label: str = "gate",
) -> Figure:
    """An image and maps of it laid over its grey version, all on one colour scale.

    Args:
        picture: [S, S, 3], uint8 or 0 to 1.
        maps: title -> [h, w], of any resolution.
        columns: panels in a row; None for one row of up to five, else four.
        label: of the colour scale.
    """
    columns = columns or (len(maps) + 1 if len(maps) < 5 else 4)
    rows = math.ceil((len(maps) + 1) / columns)
    low, high = _limits(maps.values())
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(2.1 * columns + 0.7, 2.3 * rows),
            layout="constrained",
            squeeze=False,
        )
        for axis in axes.flat:
            axis.axis("off")
        axes.flat[0].imshow(picture)
        axes.flat[0].set_title("image", fontsize=9)
        for axis, (title, values) in zip(axes.flat[1:], maps.items(), strict=False):
            drawn = _overlay(axis, picture, values, low, high)
            axis.set_title(title, fontsize=9)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label=label).solids.set(alpha=1)
    return figure


def channel_gates(
    gates: Mapping[str, Mapping[str, np.ndarray]], blocks: Sequence[str] | None = None
) -> Figure:
    """The gates of 50 evenly chosen channels of a few blocks, a line a class (SE paper, figure 6).

    Args:
        gates: block -> class -> gate of each channel.
        blocks: which blocks are shown; None for the last of each stage.
    """
    if blocks is None:
        blocks = list({name.split(".")[0]: name for name in gates}.values())
        blocks = blocks if len(blocks) > 1 else list(gates)[:: max(1, len(gates) // 4)][:4]
    columns = 2 if len(blocks) > 1 else 1
    rows = math.ceil(len(blocks) / columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(9, 2.5 * rows + 0.5), layout="constrained", squeeze=False
        )
        for axis in axes.flat[len(blocks) :]:
            axis.axis("off")
        for axis, block in zip(axes.flat, blocks, strict=False):
            values = np.stack(list(gates[block].values()))
            shown = np.unique(np.linspace(0, values.shape[1] - 1, 50).astype(int))
            for i, name in enumerate(gates[block]):
                axis.plot(shown, values[i, shown], linewidth=1.1, label=name, color=f"C{i % 10}")
            spread = values.std(axis=0).mean()
            axis.set_title(f"{block}: spread between classes {spread:.3f}", fontsize=10)
            axis.set(xlabel="channel", ylabel="gate", ylim=(-0.03, 1.03))
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=8
        )
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
    low, high = _limits(spatial.values())
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure = plt.figure(figsize=(2.1 * columns + 0.7, 1.9 + 2.3 * rows), layout="constrained")
        grid = figure.add_gridspec(rows + 1, columns, height_ratios=[0.7] + [1] * rows)
        bars = figure.add_subplot(grid[0, :])
        bars.bar(range(len(channel)), channel, width=0.9, color="#0072b2")
        bars.axhline(_sigmoid(1), color="black", linestyle="--", linewidth=1)
        bars.set(
            xlabel="channel of the first halves",
            ylabel="gate",
            xlim=(-1, len(channel)),
            title="gated by channel (dashed: where training began)",
        )
        axes = [
            figure.add_subplot(grid[1 + i // columns, i % columns]) for i in range(len(spatial) + 1)
        ]
        for axis in axes:
            axis.axis("off")
        axes[0].imshow(picture)
        axes[0].set_title("image", fontsize=9)
        for axis, (title, values) in zip(axes[1:], spatial.items(), strict=True):
            drawn = _overlay(axis, picture, values, low, high)
            axis.set_title(f"by pixel: {title}", fontsize=9)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="gate").solids.set(alpha=1)
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
    panels = [("image", None, None)]
    panels += [(f"query {i}", values, at) for i, (at, values) in enumerate(queries.items(), 1)]
    if context is not None:
        panels.append(("global context:\none map for all", context, None))
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(1.75 * len(panels), 2.5), layout="constrained", squeeze=False
        )
        side = len(picture)
        for axis, (title, values, at) in zip(axes.flat, panels, strict=True):
            axis.axis("off")
            axis.set_title(title, fontsize=9)
            if values is None:
                axis.imshow(picture)
                dots = {str(i): place for i, place in enumerate(queries, 1)}
            else:
                _overlay(axis, picture, values / values.max(), 0, 1)
                dots = {} if at is None else {"": at}
            for number, (row, column) in dots.items():
                place = column * side - 0.5, row * side - 0.5
                # A ring, through which the map at the query itself can be seen.
                axis.plot(*place, "o", color="white", markerfacecolor="none", markersize=10)
                axis.plot(*place, "o", color="#ff2d2d", markerfacecolor="none", markersize=8)
                axis.annotate(
                    number,
                    place,
                    (6, 5),
                    textcoords="offset points",
                    color="white",
                    fontsize=9,
                    weight="bold",
                    path_effects=_OUTLINE,
                )
        if correlation is not None:
            figure.suptitle(
                f"mean correlation between the maps of all pixels: {correlation:.2f}", fontsize=10
            )
    return figure


def transforms(picture: np.ndarray, seen: Transforms) -> Figure:
    """BAT's matrices of each group, and the group's mean feature map before and after them.

    Args:
        picture: [S, S, 3].
        seen: ``explain.View.transforms``.
    """
    groups = len(seen.rows)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            groups, 4, figsize=(8.2, 1.8 * groups + 0.3), layout="constrained", squeeze=False
        )
        largest = max(seen.rows.max(), seen.columns.max())
        for group, row in enumerate(axes):
            low, high = _limits([seen.before[group], seen.after[group]])
            for axis, matrix in zip(row[:2], (seen.rows, seen.columns), strict=True):
                weights = axis.imshow(matrix[group], cmap="Purples", vmin=0, vmax=largest)
            for axis, maps in zip(row[2:], (seen.before, seen.after), strict=True):
                _overlay(axis, picture, maps[group], low, high)
            row[0].set_ylabel(f"group {group}")
            for axis in row:
                axis.set(xticks=[], yticks=[])
        titles = ("P: mixes rows", "Q: mixes columns", "map before", "P · map · Q")
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=10)
        figure.colorbar(weights, ax=axes, shrink=0.6, label="weight in P and Q")
    return figure


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
    with plt.rc_context(STYLE):
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
            axis.set_ylabel(name)
        labels = [block.replace("layer", "").removesuffix(".attn") for block in blocks]
        axes.flat[-1].set_xticks(range(len(blocks)), labels)
        axes.flat[-1].set_xlabel("block, stage.position")
        if start:
            line = plt.Line2D([], [], color="#d55e00", linestyle="--", label="before training")
            figure.legend(handles=[line], loc="outside upper right", fontsize=9)
    return figure


def grad_cam(evidence: Sequence[Evidence]) -> Figure:
    """Grad-CAM of each model, a row an image, with the probability of the true class.

    Each map is drawn relative to its own largest value; a map that is 0 everywhere stays dark.

    Args:
        evidence: ``explain.grad_cams``.
    """
    titles = list(evidence[0].maps)
    columns = len(titles) + 1
    side = min(2.2, 12 / columns)
    with plt.rc_context(STYLE | {"axes.grid": False}):
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
                _overlay(axis, seen.picture, values / max(values.max(), 1e-12), 0, 1)
                axis.set_title(f"{title}\np = {seen.probabilities[title]:.2f}", fontsize=8)
            for axis in row:
                axis.axis("off")
    return figure


def walk(steps: Mapping[str, np.ndarray]) -> Figure:
    """An image on its way through a block: maps as pictures, values for each channel as lines.

    Input and output share a colour scale, so that what the block damps is darker.

    Args:
        steps: ``explain.View.walk``.
    """
    low, high = _limits([steps["input"], steps["output"]])
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(steps), figsize=(2.05 * len(steps), 2.5), layout="constrained", squeeze=False
        )
        for axis, (title, values) in zip(axes.flat, steps.items(), strict=True):
            axis.set_title(title, fontsize=9)
            if values.ndim == 1:
                axis.plot(values, color="#0072b2", linewidth=0.9)
                axis.set_box_aspect(1)
                axis.set_xlabel("channel", fontsize=8)
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
    return figure


def source(*functions: Callable[..., object]) -> Markdown:
    """The source of functions or methods with syntax colours, for a notebook."""
    texts = [textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions]
    return Markdown("```python\n" + "\n\n".join(texts) + "\n```")


_OUTLINE = [patheffects.withStroke(linewidth=2, foreground="black")]


def _overlay(axis, picture, values, low, high):
    """Draw a map in colour over the grey picture, each of its pixels where it belongs."""
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


def _limits(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """One colour scale for several maps, never empty."""
    maps = list(maps)
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    room = max(0.0, 0.01 - (high - low)) / 2
    return low - room, high + room


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
