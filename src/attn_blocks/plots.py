"""Every figure of the book. Functions take runs or arrays and return a matplotlib Figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from attn_blocks import results
from attn_blocks.datasets import ImageDataset
from attn_blocks.experiment import Plan
from attn_blocks.files import atomic_write
from attn_blocks.results import Run

# A model has the same colour on every page; the plain network is grey.
COLOURS = {
    "ResNet-50": "#7a7a7a",
    "SE-ResNet-50": "#0072b2",
    "GE-ResNet-50": "#56b4e9",
    "SRM-ResNet-50": "#009e73",
    "SGE-ResNet-50": "#d55e00",
    "SA-ResNet-50": "#cc79a7",
    "NL-ResNet-50": "#b8a000",
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
    figure.text(0.005, -0.015, plan.provenance, fontsize=7, color="#666666", va="top")
    with atomic_write(plan.results_dir / "figures" / f"{plan.page}_{name}.png", "wb") as stream:
        figure.savefig(stream, format="png", bbox_inches="tight")
    # The notebook shows the returned figure; an open one would be shown a second time.
    plt.close(figure)
    return figure


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
                    reported["epoch"], reported[f"test_{quantity}"], color="black", alpha=0.35,
                    linewidth=3, label="as reported (validation)",
                )  # fmt: skip
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
        epochs, values.mean(axis=0), linestyle, color=colour, label=label,
        alpha=0.6 if linestyle == "--" else 1, marker="o" if len(epochs) == 1 else None,
    )  # fmt: skip
    if len(runs) > 1:
        axis.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
        )


def _with_final(title: str, runs: Sequence[Run]) -> str:
    if not runs:
        return f"{title}: failed"
    return f"{title}: {np.mean([run.metrics['final_val_acc'] for run in runs]):.3f}"


def confusion_matrices(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Confusion matrices on the validation images, summed over seeds, as shares of a true class."""
    shown = {title: title_runs for title, title_runs in runs.items() if title_runs}
    classes = next(iter(shown.values()))[0].classes
    columns = min(len(shown), 3)
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
                            j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=6,
                            color=colour,
                        )  # fmt: skip
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return figure


def accuracy_against_cost(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Final accuracy against parameters, multiply-adds and training time, with 95% intervals."""
    costs = (
        ("parameters (millions)", lambda run: run.metrics["params"] / 1e6),
        ("multiply-adds an image (millions)", lambda run: run.metrics["macs"] / 1e6),
        ("training time an image (ms)", lambda run: 1000 / run.metrics["images_per_second"]),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
        for axis, (label, cost) in zip(axes, costs, strict=True):
            for title, title_runs in runs.items():
                if not title_runs:
                    continue
                found = results.effect([run.metrics["final_val_acc"] for run in title_runs])
                error = None if math.isnan(found.low) else found.mean - found.low
                axis.errorbar(
                    np.median([cost(run) for run in title_runs]), found.mean, yerr=error,
                    fmt="o", color=COLOURS[title], capsize=3,
                )  # fmt: skip
            axis.set_xlabel(label)
        axes[0].set_ylabel("final validation accuracy")
        figure.legend(
            handles=[Patch(color=COLOURS[title], label=title) for title in runs],
            loc="outside lower center", ncols=min(5, len(runs)), fontsize=8,
        )  # fmt: skip
    return figure
