"""The files of a run folder, read and checked: settings, history and metrics."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from attn_blocks.errors import CheckpointError
from attn_blocks.files import damaged, read_json
from attn_book.study.experiment import Experiment

MADE_AGAIN = "make reproduce-all sets it aside and makes it again"  # a damaged file of a run


def epochs_done(folder: Path) -> int:
    """How many epochs the history in a run folder holds."""
    try:
        with (folder / "history.csv").open("rb") as stream:
            return max(0, sum(1 for _ in stream) - 1)
    except FileNotFoundError:
        return 0


# In the order in which a run writes them: it is finished once its metrics are there.
RECORDS = ("experiment.json", "history.csv", "logits.safetensors", "metrics.json")
HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "seconds")
# What pages and tables read from a run's records.
EXPERIMENT_FIELDS = ("dataset", "fingerprint", "model", "options", "fold", "seed", "recipe")
RECORD_PARTS = {
    "data": {
        "title": str,
        "label": str,
        "classes": list,
        "class_total": int,
        "train_images": int,
        "validation_images": int,
    },
    "compute": {"device": str, "threads": int},
}
FINISHED_NUMBERS = (
    "final_val_acc",
    "best_val_acc",
    "best_epoch",
    "final_train_acc",
    "params",
    "macs",
    "seconds",
    "images_per_second",
    "peak_memory_mb",
)


def read_history(path: str | Path) -> list[dict[str, float]]:
    """The epochs of a ``history.csv``, oldest first; a damaged file raises CheckpointError."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
        header, *lines = csv.reader(io.StringIO(text, newline="")) if text else [()]
        if tuple(header) != HISTORY_COLUMNS:
            raise ValueError(f"its columns are {', '.join(header) or 'missing'}")
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        rows = [_epoch_row(number, line) for number, line in enumerate(lines, start=1)]
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(f"{path} is damaged ({error})", MADE_AGAIN, error) from error
    return [{**row, "epoch": int(row["epoch"])} for row in rows]


def _epoch_row(number: int, line: Sequence[str]) -> dict[str, float]:
    if len(line) != len(HISTORY_COLUMNS):
        raise ValueError(f"epoch {number} has {len(line)} values")
    row = dict(zip(HISTORY_COLUMNS, map(float, line), strict=True))
    if row["epoch"] != number:
        raise ValueError(f"epoch {number} is called {line[0]}")
    # Training ends when its loss is not finite; that of the validation images may pass through it.
    if not all(math.isfinite(value) for name, value in row.items() if name != "val_loss"):
        raise ValueError(f"a value of epoch {number} is not finite")
    return row


def read_metrics(path: str | Path) -> dict[str, Any]:
    """A ``metrics.json``; a damaged one, or one that lacks a part, raises CheckpointError."""
    metrics = read_json(path, MADE_AGAIN)
    try:
        if metrics["status"] == "failed":
            if not isinstance(metrics["reason"], str):
                raise ValueError("its reason is no text")
        elif metrics["status"] == "finished":
            for name in FINISHED_NUMBERS:
                if not _is_number(metrics[name]):
                    raise ValueError(f"its {name} is {metrics[name]!r}")
            for name in ("final_val_acc", "best_val_acc", "final_train_acc"):
                if not 0 <= metrics[name] <= 1:
                    raise ValueError(f"its {name} is {metrics[name]!r}, which is no share")
            datetime.fromisoformat(metrics["finished"])
            _check_confusion(metrics["confusion"])
            _check_blocks(metrics)
        else:
            raise ValueError(f"its status is {metrics['status']!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_reason(error)}); {MADE_AGAIN}") from error
    return metrics


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_confusion(confusion: Any) -> None:
    size = len(confusion)
    if not all(len(row) == size for row in confusion):
        raise ValueError("its confusion matrix is not square")
    if not all(type(count) is int and count >= 0 for row in confusion for count in row):
        raise ValueError("its confusion matrix holds something other than counts")
    if not any(map(any, confusion)):
        raise ValueError("its confusion matrix counts no image")


def _check_blocks(metrics: Mapping[str, Any]) -> None:
    """What networks with attention blocks have in addition, see ``modulation.block_report``."""
    if "blocks" in metrics:
        for name, report in metrics["blocks"].items():
            if not isinstance(report["parameters"], dict):
                raise ValueError(f"its block {name} is {report!r}")
    if "frozen" in metrics:
        for name in ("accuracy", "changed"):
            if not _is_number(metrics["frozen"][name]):
                raise ValueError(f"its frozen.{name} is {metrics['frozen'][name]!r}")


def read_record(path: str | Path) -> dict[str, Any]:
    """An ``experiment.json``; a damaged one, or one that lacks a part, raises CheckpointError."""
    record = read_json(path, MADE_AGAIN)
    try:
        experiment_of(record)
        for part, names in RECORD_PARTS.items():
            for name, kind in names.items():
                if not isinstance(record[part][name], kind):
                    raise ValueError(f"its {part}.{name} is {record[part][name]!r}")
        if not all(isinstance(name, str) for name in record["data"]["classes"]):
            raise ValueError("a class has no name")
        _check_semantics(record["semantics"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_reason(error)}); {MADE_AGAIN}") from error
    return record


def _check_semantics(versions: Any) -> None:
    if not isinstance(versions, dict) or not all(type(v) is int for v in versions.values()):
        raise ValueError(f"its semantics are {versions!r}")


def experiment_of(record: Mapping[str, Any]) -> Experiment:
    """The experiment that a run's ``experiment.json`` describes."""
    return Experiment.from_dict({name: record[name] for name in EXPERIMENT_FIELDS})


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
