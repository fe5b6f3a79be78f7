"""Which validation images have a near-copy among the training images of their fold.

Found on the images (``analysis.near_copies``) and kept in ``near_copies.json`` beside the runs, so
that differences without them can be read from the records alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_blocks.datasets import DATASETS
from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json
from attn_book.records.recorded import finished_runs
from attn_book.study.recipes import PROFILES

FILE = "near_copies.json"  # in the folder of a profile
# Of a fold's validation images: how many may be found otherwise on another machine, whose
# libraries decode and scale by other roundings.
ROUNDING = 0.002


def tasks(folder: Path) -> dict[str, str]:
    """Task -> fingerprint of its images, of the tasks with folds that have finished runs."""
    if not PROFILES[folder.name].folds:
        return {}
    return {
        run.experiment.dataset: run.experiment.fingerprint
        for run in finished_runs(folder).values()
        if not DATASETS[run.experiment.dataset].own_split
    }


def record_of(
    found: Mapping[str, tuple[str, Sequence[int], Sequence[np.ndarray]]],
) -> dict[str, Any]:
    """The contents of ``near_copies.json``.

    Args:
        found: task -> fingerprint of its images, and of each fold the number of its validation
            images and the places of those that have a near-copy.
    """
    return {
        task: {
            "fingerprint": fingerprint,
            "images": [*images],
            "copied": [places.tolist() for places in folds],
        }
        for task, (fingerprint, images, folds) in found.items()
    }


@dataclass(frozen=True)
class Copied:
    """Of each fold: the number of its validation images, and the places of the copied ones."""

    images: list[int]
    places: list[np.ndarray]


def read(folder: Path, task: str) -> Copied | None:
    """What was found of a task; None while nothing was looked for."""
    if not (folder / FILE).exists():
        return None
    record: dict[str, Any] = read_json(folder / FILE)
    if task not in record:
        return None
    return Copied(
        record[task]["images"], [np.array(of, dtype=int) for of in record[task]["copied"]]
    )


def problems(folder: Path) -> list[str]:
    """What is wrong with ``near_copies.json``: a line a problem; none if it is not there."""
    if not (folder / FILE).exists():
        return []
    try:
        record: dict[str, Any] = read_json(folder / FILE)
        if {task: of["fingerprint"] for task, of in record.items()} != tasks(folder):
            return [f"{FILE} is not about the images of the runs that are published"]
        for run in finished_runs(folder).values():
            if run.experiment.dataset in record:
                of, fold = record[run.experiment.dataset], run.experiment.fold
                images, places = of["images"][fold], of["copied"][fold]
                fits = images == len(run.logits[1]) and set(places) <= {*range(images)}
                if not fits or places != sorted({*places}):
                    return [f"{FILE} is not about the validation images of {run.folder.name}"]
    except (CheckpointError, AttributeError, IndexError, KeyError, TypeError) as error:
        return [f"{FILE} cannot be read ({error})"]
    return []
