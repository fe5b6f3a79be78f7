"""A run folder and what its files say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_book.records.logits import LOGITS, read_logits
from attn_book.records.reading import (
    HISTORY_COLUMNS,
    RECORDS,
    experiment_of,
    read_history,
    read_metrics,
    read_record,
)
from attn_book.study.experiment import Experiment

WEIGHTS = ("best.safetensors", "last.safetensors")


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where it is not there."""
    # Before Python 3.11, the pattern "*/" finds files too.
    return sorted(path for path in folder.glob("*") if path.is_dir())


@dataclass(frozen=True)
class Run:
    """A run folder, read when asked."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """``experiment.json``: settings, data, device, versions."""
        return read_record(self.folder / "experiment.json")

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that was run."""
        return experiment_of(self.record)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; its status is "finished" or "failed"."""
        return read_metrics(self.folder / "metrics.json")

    @property
    def status(self) -> str:
        """ "finished", "failed", or "unfinished" while a record is missing or damaged."""
        try:
            status = read_metrics(self.folder / "metrics.json")["status"]
        except (CheckpointError, OSError):
            return "unfinished"
        complete = status == "failed" or all((self.folder / name).exists() for name in RECORDS)
        return status if complete else "unfinished"

    @property
    def diverged(self) -> bool:
        """Whether it failed because numbers became infinite, which is a result.

        Other failures, such as a lack of memory, say nothing of the network.
        """
        return self.status == "failed" and "epoch" in self.metrics

    @property
    def has_ended(self) -> bool:
        """Whether there is a result: it finished or diverged."""
        return self.status == "finished" or self.diverged

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """Columns of ``history.csv`` as arrays over the epochs."""
        rows = read_history(self.folder / "history.csv")
        return {name: np.array([row[name] for row in rows]) for name in HISTORY_COLUMNS}

    @property
    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """(logits float32 [N, classes], labels int64 [N]) of the validation images."""
        return read_logits(self.folder / LOGITS)

    @property
    def epoch_seconds(self) -> float:
        """Training time of the median epoch: a pause in another does not count."""
        return float(np.median(self.history["seconds"]))

    @property
    def images_per_second(self) -> float:
        """Of training in the median epoch; the metrics hold the mean over all epochs."""
        images_per_epoch = self.metrics["images_per_second"] * self.history["seconds"].mean()
        return float(images_per_epoch / self.epoch_seconds)

    @property
    def has_weights(self) -> bool:
        """Whether it was trained here: a record that was published comes without its weights."""
        return all((self.folder / name).exists() for name in WEIGHTS)

    @property
    def confusion(self) -> np.ndarray:
        """Validation images of the final epoch, [true class, predicted class]."""
        return np.array(self.metrics["confusion"])

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return self.record["data"]["classes"]
