"""The records of the first study, kept as evidence.

They are of an older form than today's (no fold, no logits, decay by another rule) and no page takes
them for results. ``book/published/first_study/README.md`` says what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json
from attn_book.records.reading import read_history
from attn_book.records.run import folders_in
from attn_book.records.seal import broken_seals

FOLDER = "first_study"  # below book/published
RUNS, TRIALS = "runs", "tuning"


@dataclass(frozen=True)
class OldRun:
    """A run of the first study, or a trial before it.

    Attributes:
        dataset, model, options, seed: what was trained.
        recipe: its settings, with ``decay_norms`` where there is ``decay`` today.
        data: the data set's title and classes, and how many images there are to train on.
        device: where it was trained.
        history: its epochs.
        metrics: its ``metrics.json``.
    """

    dataset: str
    model: str
    options: dict[str, Any]
    seed: int
    recipe: dict[str, Any]
    data: dict[str, Any]
    device: str
    history: list[dict[str, float]]
    metrics: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Of the final epoch, on the validation images."""
        return self.metrics["final_val_acc"]


def read(folder: Path) -> OldRun:
    """A run folder; a damaged one raises CheckpointError, KeyError or TypeError."""
    record = read_json(folder / "experiment.json")
    names = ("dataset", "model", "options", "seed", "recipe", "data")
    settings = {name: record[name] for name in names}
    return OldRun(
        **settings,
        device=record["compute"]["device"],
        history=read_history(folder / "history.csv"),
        metrics=read_json(folder / "metrics.json"),
    )


def runs(folder: Path, part: str = RUNS) -> list[OldRun]:
    """The runs below ``folder``, or with ``TRIALS`` the trials that its recipes were chosen by."""
    return [read(path) for path in folders_in(folder / part)]


def problems(folder: Path) -> list[str]:
    """What is wrong with the records below ``folder``: a line a problem, none if all is well."""
    paths = [path for part in folders_in(folder) for path in folders_in(part)]
    if not paths:
        return ["holds no record"]
    found = broken_seals(folder)
    for path in paths:
        try:
            run = read(path)
            confusion = np.array(run.metrics["confusion"])
            ends = run.history[-1]["val_acc"], np.trace(confusion) / confusion.sum()
            if len(run.history) != run.recipe["epochs"]:
                found.append(f"{path.name}: its history has {len(run.history)} epochs")
            if max(abs(end - run.accuracy) for end in ends) > 1e-9:
                found.append(f"{path.name}: history, confusion matrix and accuracy do not agree")
        except (CheckpointError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
            found.append(f"{path.name}: cannot be read ({error})")
    return found
