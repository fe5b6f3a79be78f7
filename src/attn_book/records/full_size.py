"""Records of the networks at their published width, trained on a GPU over PyTorch's operators.

They come from another framework than the book's runs and stand beside them, never in a comparison
with them. ``book/published/full_size/README.md`` says how they were made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json
from attn_book.records.seal import broken_seals
from attn_book.study.pages import title_for

FOLDER = "full_size"  # below book/published
# Scores are kept in float16, where two classes can tie that differ in float32.
TIES = 3  # images


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
        except (CheckpointError, OSError, KeyError, TypeError, ValueError) as error:
            found.append(f"record {path.stem}: cannot be read ({error})")
    return found


def final_accuracies(folder: Path, task: str) -> dict[str, float]:
    """Title -> validation accuracy of the last epoch, a share, of the task's finished records."""
    found = {}
    for path in sorted((folder / "records").glob(f"{task}-*.json")):
        record = read_json(path)
        title = title_for(record["model"], record["options"])
        if record["finished"] and title:
            found[title] = record["history"][-1]["val_acc"]
    return found


def _problems_of(path: Path) -> list[str]:
    record: dict[str, Any] = read_json(path)
    confusion, history = np.array(record["confusion"]), record["history"]
    scores = np.load(path.with_suffix(".scores.npy"), allow_pickle=False)
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
