"""The images that a comparison trains on, and its course epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from attn_blocks.datasets import ImageDataset
from attn_book.analysis import readings
from attn_book.analysis.plots.style import book_style, colour, marker
from attn_book.analysis.words import listed, sentences
from attn_book.language import _, say
from attn_book.records.run import Run

MARKERS = 8  # on a line, about


def sample_grid(images: ImageDataset, columns: int = 8, rows: int = 2) -> Figure:
    """Training images with their class names, the classes in turn."""
    generator = np.random.default_rng(0)
    labels = np.asarray(images.train.labels)
    with book_style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.25 * columns, 1.45 * rows), layout="constrained"
        )
        for position, axis in enumerate(axes.flat):
            label = position % len(images.classes)
            index = generator.choice(np.flatnonzero(labels == label))
            axis.imshow(images.train[index])
            axis.set_title(images.classes[label], fontsize=8)
            axis.axis("off")
    shown = list(dict.fromkeys(axis.get_title() for axis in axes.flat))
    words = say(
        "{number} training images: {classes}, in turn.",
        number=columns * rows,
        classes=listed(shown),
    )
    figure.set_label(words)
    return figure


def training_curves(
    runs: Mapping[str, Sequence[Run]], reported: Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """Loss and accuracy per epoch of each model: training dashed, validation solid.

    Both lines of a model have its marker beside its colour. With several seeds the line is the mean
    and the band goes from the lowest to the highest.

    Args:
        reported: a write-up's history with "epoch", "test_loss" and "test_acc", drawn behind.
    """
    with book_style():
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
        for axis, quantity in zip(axes, ("loss", "acc"), strict=True):
            if reported is not None:
                axis.plot(
                    reported["epoch"],
                    reported[f"test_{quantity}"],
                    color="black",
                    alpha=0.35,
                    linewidth=3,
                    label=_("as reported (validation)"),
                )
            for title, title_runs in runs.items():
                _curve(axis, title, title_runs, f"train_{quantity}", linestyle="--", label=None)
                _curve(axis, title, title_runs, f"val_{quantity}", label=title)
            axis.set_xlabel(_("epochs"))
        axes[0].set_ylabel(_("cross-entropy"))
        axes[1].set_ylabel(_("accuracy"))
        axes[0].set_title(_("loss (dashed: training, solid: validation)"))
        axes[1].set_title(_("accuracy (dashed: training, solid: validation)"))
        axes[1].legend(fontsize=8)
    read = str(readings.training_curves(runs))
    figure.set_label(sentences([_("Loss and accuracy by epoch."), read]))
    return figure


def validation_curves(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """The validation accuracy of all models of a comparison in one plot."""
    with book_style():
        figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
        for title, title_runs in runs.items():
            _curve(axis, title, title_runs, "val_acc", label=_with_final(title, title_runs))
        axis.set(xlabel=_("epochs"), ylabel=_("validation accuracy"))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=_("final epoch"))
    read = str(readings.validation_curves(runs))
    figure.set_label(sentences([_("Validation accuracy by epoch."), read]))
    return figure


def _curve(
    axis: plt.Axes,
    title: str,
    runs: Sequence[Run],
    column: str,
    label: str | None,
    linestyle: str = "-",
) -> None:
    if not runs:
        return
    values = np.stack([run.history[column] for run in runs])
    epochs = runs[0].history["epoch"]
    axis.plot(
        epochs,
        values.mean(axis=0),
        linestyle,
        color=colour(title),
        label=label,
        alpha=0.6 if linestyle == "--" else 1,
        marker=marker(title),
        markevery=max(1, len(epochs) // MARKERS),
        markersize=5,
    )
    if len(runs) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(epochs, low, high, color=colour(title), alpha=0.15, linewidth=0)


def _with_final(title: str, runs: Sequence[Run]) -> str:
    if not runs:
        return say("{network}: no finished run", network=title)
    mean = np.mean([run.metrics["final_val_acc"] for run in runs])
    return say("{network}: {accuracy:.3f}", network=title, accuracy=mean)
