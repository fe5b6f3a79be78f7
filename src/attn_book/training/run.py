"""One experiment -> one run folder: locked, resumed, recorded, failures too.

Files are written in the order history, best weights, last weights: ``last.safetensors`` says which
epoch is finished, and newer files are written again.
"""

from __future__ import annotations

import csv
import errno
import resource
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paddle
from tqdm import tqdm

from attn_blocks import datasets, models, native
from attn_blocks.errors import AttnBlocksError, CheckpointError, TrainingError
from attn_blocks.files import NO_ROOM, atomic_write, read_json, storage_error, write_json
from attn_book.records import provenance, semantics
from attn_book.records.logits import confusion_of, save_logits
from attn_book.records.published import import_published_record, is_done
from attn_book.records.reading import HISTORY_COLUMNS, read_record
from attn_book.records.repair import move_aside, put_in_order, set_aside_checkpoint
from attn_book.records.run import Run
from attn_book.study import plan as planning
from attn_book.study.experiment import Experiment
from attn_book.study.pages import title_of
from attn_book.study.plan import Plan
from attn_book.training import compute as computing
from attn_book.training.build import Training, build_model, prepare
from attn_book.training.checkpoint import restore, save_checkpoint
from attn_book.training.compute import Compute
from attn_book.training.distributed import SINGLE_PROCESS, Group, joined
from attn_book.training.launch import Processes, launch
from attn_book.training.loop import Diverged, evaluate, train
from attn_book.training.modulation import block_report


def train_all(plan: Plan, progress: bool = True) -> list[Run]:
    """Train every experiment of a page that is not finished yet; return all its runs."""
    return [
        train_experiment(
            experiment, plan.results_dir, plan.data_dir, plan.device, progress, plan.fresh
        )
        for experiment in plan.experiments
    ]


def train_experiment(
    experiment: Experiment,
    results_dir: str | Path,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    fresh: bool = False,
    group: Group | None = None,
) -> Run:
    """Train one experiment, or read it if it is finished.

    Args:
        experiment: its name is the run folder's.
        results_dir: the profile's results folder; the run lies in ``runs/`` below it.
        data_dir: see ``datasets.data_folder``.
        device: see ``device.select_device``.
        progress: whether a progress bar is shown on stderr.
        fresh: whether it is trained here although its record is published.
        group: the processes that train it together, this one among them; None for this one alone,
            or for as many new ones as the environment asks for (see ``launch``).

    Returns:
        The finished run; or one with status "failed" and the reason in its metrics, when the loss
        became infinite or not a number, since it would fail again with the same settings.

    Raises:
        SettingError: an invalid device or number of processes.
        TrainingError: the images changed meanwhile, memory ran out, or one of several processes
            ended early; what was finished until then is kept.
        PublishError: its published record is not as it was published.
        StorageError: the disk is full; what was finished until then is kept.
    """
    folder = Path(results_dir) / "runs" / experiment.name
    processes = Processes.from_environment()
    if group is None and processes.total > 1:
        if not _is_done(Run(folder), fresh):
            launch(processes, experiment, folder, data_dir, device, progress, fresh)
        return Run(folder)
    group = group or SINGLE_PROCESS
    # One process trains; another one for the same run waits here and then finds it finished.
    with group.lock_folder(folder):
        if group.writes:
            for problem in put_in_order(Run(folder)):
                warnings.warn(problem, stacklevel=2)
        if group.agree(group.writes and _is_done(Run(folder), fresh)):
            return Run(folder)
        images = planning.load_images(
            experiment.dataset, experiment.recipe, data_dir, experiment.fold
        )
        if images.fingerprint != experiment.fingerprint:
            raise TrainingError(
                f"the images of {images.title} changed while {experiment.name} was waiting; "
                "run the command again"
            )
        compute = computing.compute(device, group.size, group.local_size)
        if group.writes:
            _clear(Run(folder))
        try:
            train_into(folder, experiment, images, compute, progress, group)
        except Diverged as error:  # in all processes
            if group.writes:
                failure = {"status": "failed", "reason": str(error), **error.where}
                write_json(folder / "metrics.json", failure)
        except (MemoryError, RuntimeError, OSError) as error:
            if _is_out_of_memory(error):
                raise TrainingError(
                    f"out of memory at batch size {experiment.recipe.batch_size}; lower "
                    "batch_size, image_size or width in the recipe, or run fewer jobs at once"
                ) from error
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise storage_error(error, folder) from error
            raise
        return Run(folder)


def _clear(run: Run) -> None:
    """Take away what would call a run ended that is trained now."""
    if run.status == "finished":
        kept = move_aside(run)
        warnings.warn(
            f"{run.folder.name} has lost its weights and is trained again; its record is set aside "
            f"in {kept}",
            stacklevel=3,
        )
    (run.folder / "metrics.json").unlink(missing_ok=True)  # of one that ran out of memory


def _is_done(found: Run, fresh: bool) -> bool:
    """Whether nothing is left to train here, where the published record may do."""
    return is_done(found) or (not fresh and import_published_record(found))


def _is_out_of_memory(error: Exception) -> bool:
    # Paddle's own out-of-memory errors are RuntimeErrors.
    message = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or "resourceexhausted" in message
        or "out of memory" in message
        or getattr(error, "errno", None) == errno.ENOMEM
    )


def train_into(
    folder: Path,
    experiment: Experiment,
    images: datasets.ImageDataset,
    compute: Compute,
    progress: bool = True,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Train from the start or from the last finished epoch, and finish the run folder."""
    recipe = experiment.recipe
    computing.seed_everything(experiment.seed)
    model = build_model(experiment, len(images.classes))
    macs = models.count_macs(model, (3, recipe.image_size, recipe.image_size))
    training = prepare(model, images, recipe, experiment.seed, compute, group)
    history = restore(folder, model, training.optimizer, training.scaler)
    if group.writes:
        session = describe(experiment, images, model, compute, group)
        write_json(folder / "experiment.json", as_begun(folder, session, len(history)))
    group.check_same(len(history), "the number of finished epochs")
    if group.writes and not history:
        set_aside_checkpoint(folder)
    logits = None
    bar = _progress_bar(experiment, len(history), training, progress and group.writes)
    with bar, open_log(folder, history, group) as log:

        def report(count: int, loss: float, accuracy: float) -> None:
            line = f"epoch {len(history) + 1}/{recipe.epochs} loss {loss:.3f} acc {accuracy:.3f}"
            bar.update(count)
            bar.set_postfix_str(line, refresh=False)

        for epoch in train(training, len(history), report):
            logits = epoch.logits
            history.append({column: getattr(epoch, column) for column in HISTORY_COLUMNS})
            if group.writes:
                log_epoch(log, history[-1])
                save_epoch(folder, training, history)
    if logits is None:  # stopped between the last checkpoint and the metrics
        _, logits = evaluate(training)
    group.leave()
    if group.writes:
        save_logits(folder / "logits.safetensors", logits, images.val.labels)
        images_seen = recipe.epochs * training.images_an_epoch
        seconds = sum(row["seconds"] for row in history)
        best = best_epoch(history)
        write_json(
            folder / "metrics.json",
            {
                "status": "finished",
                "final_val_acc": history[-1]["val_acc"],
                "best_val_acc": best["val_acc"],
                "best_epoch": best["epoch"],
                "params": models.count_params(model),
                "macs": macs,
                "seconds": round(seconds, 1),
                "images_per_second": round(images_seen / seconds, 1),
                "peak_memory_mb": peak_memory_mb(compute),
                "confusion": confusion_of(logits, images.val.labels).tolist(),
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                **examine(experiment, model, images, compute),
            },
        )


def examine(
    experiment: Experiment, model: paddle.nn.Layer, images: datasets.ImageDataset, compute: Compute
) -> dict[str, Any]:
    """What is measured on a trained network, for its run's metrics.

    Returns:
        ``final_train_acc``, the share of the training images that it gets right when they are seen
        as the validation images are; and what ``block_report`` says of its blocks.
    """
    # A network of its own: not compiled, and by one process alone.
    fresh = build_model(experiment, len(images.classes))
    start = {name: value.numpy() for name, value in fresh.named_parameters()}
    fresh.set_state_dict(model.state_dict())
    compute = replace(compute, to_static=False)
    turned = replace(images, val=images.train)
    _, logits = evaluate(prepare(fresh, turned, experiment.recipe, experiment.seed, compute))
    return {
        "final_train_acc": float((logits.argmax(axis=1) == images.train.labels).mean()),
        **block_report(prepare(fresh, images, experiment.recipe, experiment.seed, compute), start),
    }


def _progress_bar(experiment: Experiment, done: int, training: Training, shown: bool) -> tqdm:
    images_an_epoch = training.images_an_epoch
    return tqdm(
        desc=title_of(experiment),
        bar_format="{desc} {percentage:4.1f}%|{bar}| {elapsed}<{remaining}{postfix}",
        total=experiment.recipe.epochs * images_an_epoch,
        initial=done * images_an_epoch,
        unit="img",
        disable=not shown,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )


def best_epoch(history: list[dict[str, float]]) -> dict[str, float]:
    """The epoch of the highest validation accuracy, the first of several."""
    return max(history, key=lambda row: row["val_acc"])


def save_epoch(folder: Path, training: Training, history: list[dict[str, float]]) -> None:
    """Write the history up to an epoch, and its weights: as the best, if they are, and the last."""
    epoch = int(history[-1]["epoch"])
    write_history(folder / "history.csv", history)
    if best_epoch(history)["epoch"] == epoch:
        save_checkpoint(folder / "best.safetensors", training.model, epoch)
    save_checkpoint(
        folder / "last.safetensors", training.model, epoch, training.optimizer, training.scaler
    )


def describe(
    experiment: Experiment,
    images: datasets.ImageDataset,
    model: paddle.nn.Layer,
    compute: Compute,
    group: Group = SINGLE_PROCESS,
) -> dict[str, Any]:
    """The contents of ``experiment.json``: all that is needed to make the run again."""
    return {
        "name": experiment.name,
        **experiment.to_dict(),
        "data": {
            "title": images.title,
            "label": images.label,
            "classes": list(images.classes),
            "class_total": images.class_total,
            "train_images": len(images.train),
            "validation_images": len(images.val),
        },
        "model_settings": model.settings,
        "compute": {**compute.describe(), **group.describe(), "convolution": native.describe()},
        "protocol": provenance.protocol(),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "semantics": semantics.versions_of(experiment),
    }


def as_begun(folder: Path, session: dict[str, Any], done: int) -> dict[str, Any]:
    """What ``describe`` said when a run began, with the sessions that went on with it.

    Args:
        session: what it says today.
        done: how many epochs are finished already.
    """
    if not done:
        return session
    try:
        begun = read_record(folder / "experiment.json")
    except (CheckpointError, OSError):  # not written, or damaged
        return session
    told = {name: session[name] for name in ("compute", "protocol", "versions", "git_commit")}
    return {**begun, "resumed": [*begun.get("resumed", ()), {"after_epoch": done, **told}]}


def write_history(path: Path, rows: Iterable[dict[str, float]]) -> None:
    """Write the epochs as CSV; ``repr`` of a float reads back as the same float."""
    with atomic_write(path) as stream:
        writer = csv.DictWriter(stream, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def open_log(folder: Path, history: Iterable[dict[str, float]], group: Group) -> Iterator[Any]:
    """The VisualDL log of the first process, with the epochs so far; None in the others.

    It is written anew: two logs of one epoch would both be shown.
    """
    if not group.writes:
        yield None
        return
    from visualdl import LogWriter  # slow to import, and only needed here

    shutil.rmtree(folder / "vdl", ignore_errors=True)
    with LogWriter(logdir=str(folder / "vdl")) as log:
        for row in history:
            log_epoch(log, row)
        yield log


def log_epoch(log: Any, row: dict[str, float]) -> None:
    """Add an epoch to a VisualDL log."""
    for column in HISTORY_COLUMNS[1:-1]:
        part, _, quantity = column.partition("_")
        tag = f"{quantity}/{part}" if quantity else column
        log.add_scalar(tag=tag, value=row[column], step=row["epoch"])


def peak_memory_mb(compute: Compute) -> float:
    """Highest memory use in MiB: of the GPU where it trains there, else of this process."""
    if compute.on_gpu:
        return round(paddle.device.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main() -> None:
    """Train the experiment of a request file as one of several processes (see ``launch``)."""
    request = read_json(sys.argv[1])
    experiment = Experiment.from_dict(request.pop("experiment"))
    try:
        with joined(Processes.from_environment().timeout) as group:
            train_experiment(experiment, group=group, **request)
    except AttnBlocksError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
