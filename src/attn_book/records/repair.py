"""Damaged and incomplete files of a run folder: found, reported and set aside."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from attn_blocks.errors import CheckpointError, SettingError, StorageError
from attn_blocks.files import remove_leftovers, set_aside
from attn_blocks.tensors import tensor_shapes
from attn_book.records.logits import fits, read_logits
from attn_book.records.reading import (
    MADE_AGAIN,
    experiment_of,
    read_history,
    read_metrics,
    read_record,
)
from attn_book.records.run import WEIGHTS, Run
from attn_book.records.semantics import changed_parts


def history_until_checkpoint(folder: Path, metadata: Mapping[str, str]) -> list[dict[str, float]]:
    """The history up to a run's last checkpoint.

    Args:
        folder: the run's.
        metadata: of its ``last.safetensors``.

    Raises:
        CheckpointError: the history is damaged or shorter than that, or the best weights are not
            those of its best epoch, so that training cannot be resumed.
    """
    rows = read_history(folder / "history.csv")
    epoch = _epoch_of(folder / "last.safetensors", metadata)
    if not 1 <= epoch <= len(rows):
        raise CheckpointError(
            f"{folder / 'last.safetensors'} is of epoch {epoch}, the history has {len(rows)}"
        )
    best = max(rows[:epoch], key=lambda row: row["val_acc"])["epoch"]
    path = folder / "best.safetensors"
    kept = _weights_epoch(path)
    # The epoch that was being saved when the run was stopped is trained again, with equal weights.
    if kept not in (best, epoch + 1):
        raise CheckpointError(f"{path} is of epoch {kept}, the best was {best}")
    return rows[:epoch]


def _epoch_of(path: Path, metadata: Mapping[str, str]) -> int:
    try:
        return int(metadata["epoch"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say of which epoch it is; {MADE_AGAIN}") from error


OUTDATED = "outdated"  # beside ``runs``
LOG = "train.log"  # in a run's folder: what its worker says


def put_in_order(run: Run) -> list[str]:
    """Set damaged files and a run of older semantics aside, to be made anew.

    The caller holds the run's lock.

    Returns:
        A line for each thing that was done.

    Raises:
        StorageError: a file cannot be read, or cannot be set aside.
    """
    return [*finish_moving(run), *set_aside_damaged_files(run), *set_aside_outdated(run)]


def set_aside_outdated(run: Run) -> list[str]:
    """Move the files of a run of other semantics than today's to ``outdated``, beside ``runs``.

    Finished or not: its numbers are not those that today's code gives, and it cannot be resumed.
    """
    path = run.folder / "experiment.json"
    if not path.exists():
        return []
    record = read_record(path)
    try:
        changed = changed_parts(record["semantics"], experiment_of(record))
    except SettingError as error:  # of a network that is not known here
        set_aside(path)
        return [f"{path} is damaged ({error}); {MADE_AGAIN}"]
    if not changed:
        return []
    target = move_aside(run)
    return [f"{run.folder} is set aside in {target}: {', '.join(changed)}; it is trained anew"]


def move_aside(run: Run) -> Path:
    """Move a run's files to a folder in ``outdated``, beside ``runs``; that folder.

    Locks stay, and so does the log, which a worker may be writing. The caller holds the run's lock.
    What is moved lies in a hidden folder until all of it is there: a kill would else leave files
    that are taken for those of a run that goes on.
    """
    moved = _half_moved(run)
    moved.mkdir(parents=True, exist_ok=True)
    for path in sorted(run.folder.iterdir()):
        if not path.name.startswith(".") and path.name != LOG:
            path.rename(moved / path.name)
    places = (moved.with_name(f"{run.folder.name}-{number}") for number in itertools.count(1))
    return moved.rename(next(place for place in places if not place.exists()))


def finish_moving(run: Run) -> list[str]:
    """Move the rest of a run's files aside where ``move_aside`` was killed; a line if it was."""
    if not _half_moved(run).exists():
        return []
    return [f"{run.folder} is set aside in {move_aside(run)}, which had been interrupted"]


def _half_moved(run: Run) -> Path:
    return run.folder.parents[1] / OUTDATED / f".{run.folder.name}"


def set_aside_checkpoint(folder: Path) -> None:
    """Set aside a checkpoint that cannot be restored, with its history, where there is one."""
    if (folder / "last.safetensors").exists():
        for path in (folder / name for name in ("history.csv", *WEIGHTS)):
            if path.exists():
                set_aside(path)


def set_aside_damaged_files(run: Run) -> list[str]:
    """Rename files that are damaged to ``<name>.damaged``, so that they are made again.

    The caller holds the run's lock (``files.folder_lock``).

    Returns:
        A line for each file, with the reason.

    Raises:
        StorageError: a file cannot be read, which is no damage, or cannot be renamed.
    """
    problems = remove_leftovers(run.folder)
    for name, read in READERS.items():
        path = run.folder / name
        try:
            if path.exists():
                read(path)
        except CheckpointError as error:
            _refuse_unreadable(path, error.__cause__)
            problems.append(str(error))
            set_aside(path)
    if run.status == "finished":
        name = Run(run.folder).experiment.name
        if name != run.folder.name:
            found = [f"its record is that of {name}"]
        else:
            found = disagreements(Run(run.folder))
        if found:
            path = run.folder / "metrics.json"
            problems.append(f"{path} does not fit the rest of the run ({found[0]}); {MADE_AGAIN}")
            set_aside(path)
    return problems


def _refuse_unreadable(path: Path, error: BaseException | None) -> None:
    """Raise StorageError if a file could not be read: it may be whole, and is not made again."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | IsADirectoryError):
        message = (
            f"{path} cannot be read: {error.strerror}; change who may read it, or check its disk"
        )
        raise StorageError(message, error) from error


def disagreements(run: Run) -> list[str]:
    """How the files of a finished run contradict one another; none if they do not."""
    metrics, confusion, epochs = run.metrics, run.confusion, run.experiment.recipe.epochs
    accuracy = run.history["val_acc"]
    if len(accuracy) != epochs:
        return [f"its history has {len(accuracy)} of {epochs} epochs"]
    best = int(np.argmax(accuracy))
    computed = {
        "final_val_acc": accuracy[-1],
        "best_val_acc": accuracy[best],
        "best_epoch": best + 1,
    }
    found = [
        f"{name} is {metrics[name]}, its history gives {value}"
        for name, value in computed.items()
        if metrics[name] != value
    ]
    seconds = float(run.history["seconds"].sum())
    # Halfway between two, the order in which they were added decides to which a sum is rounded.
    if metrics["seconds"] not in (round(seconds - 1e-6, 1), round(seconds + 1e-6, 1)):
        found.append(f"seconds is {metrics['seconds']}, its history gives {round(seconds, 1)}")
    if len(run.classes) != len(confusion):
        found.append(f"its record has {len(run.classes)} classes")
    if abs(np.trace(confusion) / confusion.sum() - accuracy[-1]) > 1e-9:
        found.append("its confusion matrix does not give its final accuracy")
    if not fits(*run.logits, confusion):
        found.append("its logits do not give its confusion matrix")
    for which, epoch in {"last": epochs, "best": best + 1}.items():
        path = run.folder / f"{which}.safetensors"
        if path.exists() and _weights_epoch(path) != epoch:
            found.append(f"{path.name} is not of epoch {epoch}")
    return found


def _weights_epoch(path: Path) -> int:
    return _epoch_of(path, tensor_shapes(path, MADE_AGAIN)[1])


# How each file of a run is read, or checked, at the start.
READERS = {
    "experiment.json": read_record,
    "history.csv": read_history,
    "logits.safetensors": read_logits,
    "metrics.json": read_metrics,
    "best.safetensors": _weights_epoch,
    "last.safetensors": _weights_epoch,
}
