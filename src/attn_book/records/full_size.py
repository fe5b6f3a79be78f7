"""Records of the networks at their published width, trained on a GPU over PyTorch's operators.

They come from another framework than the book's runs and stand beside them, never in a comparison
with them. ``book/published/full_size/README.md`` says how they were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json
from attn_book.records.seal import broken_seals

FOLDER = "full_size"  # below book/published
# Scores are kept in float16, where two classes can tie that differ in float32.
TIES = 3  # images


@dataclass(frozen=True)
class FullSize:
    """A record of a network at its published width.

    Attributes:
        task, model, options, seed, fold: what was trained; the fold is 0 where there are none.
        recipe: its settings, as of ``study.experiment.Recipe``.
        data: classes, and how many images there are to train on.
        compute: device, precision, and what a step takes.
        history: its epochs, of which there may be fewer than its recipe has.
        confusion: validation images of the last epoch, [true class, predicted class].
        scores: of each validation image, in stored order (by class), float16.
    """

    task: str
    model: str
    options: dict[str, Any]
    seed: int
    fold: int
    params: int
    recipe: dict[str, Any]
    data: dict[str, Any]
    compute: dict[str, Any]
    history: list[dict[str, float]]
    confusion: np.ndarray
    scores: np.ndarray

    @property
    def is_finished(self) -> bool:
        """Whether it was trained for all of its recipe's epochs."""
        return len(self.history) == self.recipe["epochs"]

    @cached_property
    def accuracies(self) -> np.ndarray:
        """Validation accuracy after each epoch, from 0 to 1."""
        return np.array([row["val_acc"] for row in self.history])

    @property
    def accuracy(self) -> float:
        """After the last epoch, from 0 to 1."""
        return float(self.accuracies[-1])

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each validation image is judged right after the last epoch."""
        counts = self.confusion.sum(axis=1)
        return self.scores.argmax(axis=1) == np.repeat(np.arange(len(counts)), counts)


def read(path: Path) -> FullSize:
    """A record with its scores; a damaged one raises CheckpointError, KeyError or ValueError."""
    record: dict[str, Any] = read_json(path)
    names = ("task", "model", "options", "seed", "params", "recipe", "data", "compute", "history")
    return FullSize(
        **{name: record[name] for name in names},
        fold=record.get("fold", 0),
        confusion=np.array(record["confusion"]),
        scores=_scores(path),
    )


def _scores(record: Path) -> np.ndarray:
    """The scores that belong to a record; a damaged file raises CheckpointError."""
    path = record.with_suffix(".scores.npy")
    try:
        with path.open("rb") as stream:  # numpy.load takes other kinds of files, too
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (TokenError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error


def records(folder: Path) -> list[FullSize]:
    """The records below ``folder``, by name."""
    return [read(path) for path in sorted((folder / "records").glob("*.json"))]


def problems(folder: Path) -> list[str]:
    """What is wrong with the records below ``folder``: a line a problem, none if all is well.

    Every file must be as it was sealed, the history must be complete, the confusion matrix must
    give its last accuracy, and the scores of the validation images must predict each class as often
    as the confusion matrix says.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        return ["holds no record"]
    found = broken_seals(folder)
    for path in paths:
        try:
            found += [f"record {path.stem}: {problem}" for problem in _problems_of(path)]
        except (CheckpointError, OSError, LookupError, TypeError, ValueError) as error:
            found.append(f"record {path.stem}: cannot be read ({error})")
    return found


def _problems_of(path: Path) -> list[str]:
    record: dict[str, Any] = read_json(path)
    confusion, history = np.array(record["confusion"]), record["history"]
    scores = _scores(path)
    found = []
    epochs = [row["epoch"] for row in history]
    if epochs != list(range(1, len(epochs) + 1)):
        found.append("its history has a gap")
    if record["finished"] != (len(epochs) == record["recipe"]["epochs"]):
        found.append(f"finished is {record['finished']} after {len(epochs)} epochs")
    if abs(np.trace(confusion) / confusion.sum() - history[-1]["val_acc"]) > 1e-9:
        found.append("its confusion matrix does not give its last accuracy")
    if scores.shape != (record["data"]["val"], len(confusion)):
        return [*found, f"its scores have the shape {scores.shape}"]
    predicted = np.bincount(scores.argmax(axis=1), minlength=len(confusion))
    if np.abs(predicted - confusion.sum(axis=0)).max() > TIES:
        found.append("its scores do not predict what its confusion matrix counts")
    return found
