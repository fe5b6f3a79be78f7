"""What a network says of validation images, right and wrong."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from attn_blocks.datasets import ImageDataset
from attn_blocks.errors import SettingError
from attn_book.analysis import readings
from attn_book.analysis.explain import network_input, pictures
from attn_book.analysis.plots.style import book_style
from attn_book.analysis.words import sentences
from attn_book.language import say
from attn_book.records.logits import probabilities
from attn_book.records.run import Run

RIGHT, WRONG = "#1b6e3c", "#a81800"
LABEL = 8  # points


def prediction_grid(images: ImageDataset, run: Run, columns: int = 6, rows: int = 3) -> Figure:
    """Validation images with the predicted class and its probability, taken from recorded logits.

    Right and wrong answers are drawn evenly from all of their kind, about half of each as far as
    there are so many; the wrong ones come last. A wrong one has a cross, a dashed frame and the
    true class beside its colour.

    Args:
        images: those that the run was validated on, of its fold.

    Raises:
        SettingError: they are others.
    """
    logits, labels = run.logits
    if not np.array_equal(labels, np.asarray(images.val.labels)):
        raise SettingError(
            f"{run.folder.name} was not validated on these {len(images.val)} images of "
            f"{images.title}; give those of fold {run.experiment.fold}"
        )
    shares, predicted = probabilities(logits), logits.argmax(axis=1)
    chosen = _half_wrong(predicted == labels, columns * rows)
    recipe = run.experiment.recipe
    drawn = pictures(images.name, network_input(images, chosen, recipe), recipe)
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(1.55 * columns, 1.95 * rows),
            layout="constrained",
            squeeze=False,
        )
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, index, picture in zip(axes.flat, chosen, drawn, strict=False):
            right, guess = predicted[index] == labels[index], predicted[index]
            axis.imshow(picture)
            words = f"{'✓' if right else '✗'} {images.classes[guess]} {shares[index, guess]:.0%}"
            if not right:
                words += "\n" + say("is {name}", name=images.classes[labels[index]])
            ink = RIGHT if right else WRONG
            axis.set_xlabel(words, color=ink, fontsize=LABEL, parse_math=False)
            axis.spines[:].set(visible=True, color=ink, linewidth=2)
            axis.spines[:].set_linestyle("-" if right else "--")
    what = say(
        "{shown} validation images with the predicted class, {wrong} of them wrong.",
        shown=len(chosen),
        wrong=int((predicted[chosen] != labels[chosen]).sum()),
    )
    figure.set_label(sentences([what, str(readings.prediction_grid(run))]))
    return figure


def _half_wrong(right: np.ndarray, count: int) -> np.ndarray:
    """Numbers of images: right ones, then wrong ones, evenly spread over each kind."""
    kinds = [np.flatnonzero(right), np.flatnonzero(~right)]
    of_wrong = min(len(kinds[1]), max(count // 2, count - len(kinds[0])))
    of_right = min(len(kinds[0]), count - of_wrong)
    return np.concatenate(
        [
            kind[np.linspace(0, len(kind) - 1, number).astype(int)] if number else kind[:0]
            for kind, number in zip(kinds, (of_right, of_wrong), strict=True)
        ]
    )
