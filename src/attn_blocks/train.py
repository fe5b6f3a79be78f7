"""One experiment -> one run folder: the whole training loop, to be read from top to bottom.

Everything random is seeded from (seed, epoch), so a run that was stopped goes on from its last
finished epoch to the very numbers it would have reached. Files are written in the order history,
best, last: ``last.safetensors`` says which epoch is finished, whatever is newer is made again.

How it computes (device, precision) is ``runtime``'s business. Several processes may train one run
together, see ``parallel``: all of them go through this file in step, the first one writes.
"""

from __future__ import annotations

import csv
import errno
import math
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from tqdm import tqdm

from attn_blocks import datasets, experiment, models, native, parallel, provenance, runtime
from attn_blocks.errors import CheckpointError, TrainingError
from attn_blocks.experiment import Experiment, Plan, Recipe
from attn_blocks.files import (
    NO_ROOM,
    atomic_write,
    fit,
    load_tensors,
    save_tensors,
    storage_error,
    write_json,
)
from attn_blocks.parallel import ALONE, Group, Processes
from attn_blocks.results import HISTORY_COLUMNS, Run, history_behind, mend, take_published
from attn_blocks.runtime import Compute

OPTIMIZER_PREFIX = "optimizer/velocity/"


def run_all(plan: Plan, progress: bool = True) -> list[Run]:
    """Train every experiment of a page that is not finished yet; return all its runs."""
    return [
        run(e, plan.results_dir, plan.data_dir, plan.device, progress, plan.needs_weights(e))
        for e in plan.experiments
    ]


def run(
    what: Experiment,
    results_dir: str | Path,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    weights: bool = True,
    group: Group | None = None,
) -> Run:
    """Train one experiment, or read it if it is finished.

    Args:
        what: the experiment; its name is the run folder's.
        results_dir: the profile's results folder; the run lies in ``runs/`` below it.
        data_dir: see ``datasets.data_folder``.
        device: see ``runtime.select_device``.
        progress: whether a progress bar is shown on stderr.
        weights: whether the trained weights are wanted too; without them the published records of
            the run are enough, see ``results.take_published``.
        group: the processes that train it together, this one among them; None for this one alone,
            or for as many new ones as the environment asks for (see ``parallel``).

    Returns:
        The finished run, or one with status "failed" and the reason in its metrics when the loss
        became infinite or not a number, or memory ran out: the same settings would fail again.

    Raises:
        SettingError: a device or a number of processes that cannot be.
        TrainingError: the images changed meanwhile, or one of several processes ended early.
        StorageError: the disk is full; what was finished until then is kept.
    """
    folder = Path(results_dir) / "runs" / what.name
    processes = Processes.from_environment()
    if group is None and processes.total > 1:
        if not _is_done(Run(folder), weights):
            parallel.launch(processes, what, folder, data_dir, device, progress, weights)
        return Run(folder)
    group = group or ALONE
    # One trains; another that wants the same run waits here and then finds it finished.
    with group.hold(folder):
        if group.writes:
            for problem in mend(Run(folder)):
                warnings.warn(problem, stacklevel=2)
        if group.agree(group.writes and _is_done(Run(folder), weights)):
            return Run(folder)
        images = experiment.load_images(what.dataset, what.recipe, data_dir)
        if images.fingerprint != what.fingerprint:
            raise TrainingError(
                f"the images of {images.title} changed while {what.name} was waiting; "
                "run the command again"
            )
        compute = runtime.compute(group.device(device), group.size, group.local_size)
        if group.writes:
            # Records without weights are made again; until then the run is not finished.
            (folder / "metrics.json").unlink(missing_ok=True)
        try:
            train(what, images, folder, compute, progress, group)
        except (Diverged, MemoryError, RuntimeError, OSError) as error:
            failure = _failure(what, error)
            if failure is None:
                if getattr(error, "errno", None) in NO_ROOM:
                    raise storage_error(error, folder) from error
                raise
            if group.writes:
                write_json(folder / "metrics.json", failure)
            elif not isinstance(error, Diverged):  # that shows in all processes, this only in one
                raise TrainingError(failure["reason"]) from error
        return Run(folder)


def _is_done(found: Run, weights: bool) -> bool:
    """Whether nothing is left to train."""
    if found.status == "finished":
        return found.has_weights or not weights
    return found.status == "failed" or (not weights and take_published(found))


class Diverged(TrainingError):
    """Loss or weights are no longer numbers; ``where`` holds epoch, step and learning rate."""

    def __init__(self, epoch: int, step: int, rate: float, what: str = "the loss is") -> None:
        self.where = {"epoch": epoch, "step": step, "learning_rate": rate}
        super().__init__(
            f"{what} not finite in epoch {epoch}, step {step}, at learning rate {rate:.4g}"
        )


def _failure(what: Experiment, error: Exception) -> dict[str, Any] | None:
    """The metrics of a run that the same settings would fail again; None for another error."""
    if isinstance(error, Diverged):
        return {"status": "failed", "reason": str(error), **error.where}
    # Paddle's own out-of-memory errors are RuntimeErrors.
    words = str(error).lower()
    if not isinstance(error, MemoryError) and not (
        "resourceexhausted" in words
        or "out of memory" in words
        or getattr(error, "errno", None) == errno.ENOMEM
    ):
        return None
    reason = (
        f"out of memory at batch size {what.recipe.batch_size}; lower batch_size, image_size "
        "or width in the recipe, or run fewer jobs at once"
    )
    return {"status": "failed", "reason": reason}


def train(
    what: Experiment,
    images: datasets.ImageDataset,
    folder: Path,
    compute: Compute,
    progress: bool = True,
    group: Group = ALONE,
) -> None:
    """Train from the start or from the last finished epoch, leaving a finished run folder."""
    recipe = what.recipe
    runtime.seed_everything(what.seed)
    model = build_model(what, len(images.classes))
    optimizer = build_optimizer(model, recipe)
    scaler = compute.scaler()
    train_loader, validation_loader = build_loaders(what, images, compute, group)
    macs = models.count_macs(model, (3, recipe.image_size, recipe.image_size))
    if group.writes:
        write_json(folder / "experiment.json", describe(what, images, model, compute, group))

    history = restore(folder, model, optimizer, scaler)
    group.check_same(len(history), "the number of finished epochs")
    best = max(history, key=lambda row: row["val_acc"], default={"val_acc": -1.0})
    network = group.network(compute.network(model))
    steps = len(train_loader)
    bar = tqdm(
        desc=what.name, total=recipe.epochs * steps * recipe.batch_size, unit="img",
        initial=len(history) * steps * recipe.batch_size,
        disable=not (progress and group.writes), leave=False,
        dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 15,
    )  # fmt: skip
    confusion = None
    with bar, open_log(folder, history, group) as log:
        for epoch in range(len(history), recipe.epochs):
            start = time.perf_counter()
            # Dropout draws from here on, so that a resumed epoch draws the same numbers.
            runtime.seed_noise(what.seed, epoch, group.rank)
            train_loss, train_acc = train_epoch(
                network, optimizer, scaler, recipe, epoch, train_loader, bar, compute, group
            )
            seconds = time.perf_counter() - start
            check_weights(model, epoch + 1, steps, optimizer.get_lr())
            val_loss, confusion = evaluate(
                model, validation_loader, len(images.classes), compute, group
            )
            if not math.isfinite(val_loss):
                raise Diverged(epoch + 1, steps, optimizer.get_lr())
            val_acc = float(np.trace(confusion) / confusion.sum())
            row = {
                "epoch": epoch + 1, "lr": optimizer.get_lr(),
                "train_loss": train_loss, "train_acc": train_acc,
                "val_loss": val_loss, "val_acc": val_acc, "seconds": round(seconds, 3),
            }  # fmt: skip
            history.append(row)
            improved, best = val_acc > best["val_acc"], max(best, row, key=lambda r: r["val_acc"])
            if group.writes:
                log_epoch(log, row)
                write_history(folder / "history.csv", history)
                if improved:
                    save_checkpoint(folder / "best.safetensors", model, epoch + 1)
                save_checkpoint(folder / "last.safetensors", model, epoch + 1, optimizer, scaler)
    if confusion is None:  # stopped between the last checkpoint and the metrics
        _, confusion = evaluate(model, validation_loader, len(images.classes), compute, group)
    if group.writes:
        seconds = sum(row["seconds"] for row in history)
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
                "images_per_second": round(recipe.epochs * steps * recipe.batch_size / seconds, 1),
                "peak_memory_mb": peak_memory_mb(compute),
                "confusion": confusion.tolist(),
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            },
        )


def train_epoch(
    network: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler,
    recipe: Recipe,
    epoch: int,
    loader: datasets.Loader,
    bar: tqdm,
    compute: Compute,
    group: Group = ALONE,
) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) while the weights were moving."""
    network.train()
    loss_sum, correct, count = 0.0, 0, 0
    for step, (images, labels) in enumerate(compute.batches(loader.epoch(epoch))):
        optimizer.set_lr(recipe.rate(epoch, step, len(loader)))
        with compute.autocast():
            scores = network(images)
        loss = F.cross_entropy(scores.astype("float32"), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # leaves the weights alone where a scaled gradient overflowed
        scaler.update()
        optimizer.clear_grad()

        batch_loss, batch_correct, batch_count = group.total(
            np.array([float(loss) * len(labels), count_correct(scores, labels), len(labels)])
        ).tolist()
        if not math.isfinite(batch_loss):
            raise Diverged(epoch + 1, step + 1, optimizer.get_lr())
        loss_sum += batch_loss
        correct += int(batch_correct)
        count += int(batch_count)
        bar.update(int(batch_count))
        bar.set_postfix_str(
            f"epoch {epoch + 1}/{recipe.epochs} loss {loss_sum / count:.3f} "
            f"acc {correct / count:.3f}",
            refresh=False,
        )
    return loss_sum / count, correct / count


def check_weights(model: paddle.nn.Layer, epoch: int, step: int, rate: float) -> None:
    """Raise Diverged unless every weight is finite.

    The loss does not always show it: Paddle's ReLU turns what is not a number into 0 on the CPU.
    """
    broken = [name for name, p in model.named_parameters() if not bool(paddle.isfinite(p).all())]
    if broken:
        raise Diverged(epoch, step, rate, f"{len(broken)} weights, {broken[0]} the first, are")


@paddle.no_grad()
def evaluate(
    model: paddle.nn.Layer,
    loader: datasets.Loader,
    classes: int,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    group: Group = ALONE,
) -> tuple[float, np.ndarray]:
    """(mean loss, confusion matrix [true, predicted]) over a whole data set."""
    model.eval()
    loss_sum = 0.0
    confusion = np.zeros((classes, classes), dtype=np.int64)
    for images, labels in compute.batches(loader.epoch(0)):
        if len(labels) == 0:  # a last batch of fewer images than processes
            continue
        with compute.autocast():
            scores = model(images)
        scores = scores.astype("float32")
        loss_sum += float(F.cross_entropy(scores, labels, reduction="sum"))
        np.add.at(confusion, (labels.numpy(), scores.numpy().argmax(axis=1)), 1)
    confusion = group.total(confusion)
    return float(group.total(np.array([loss_sum]))[0] / confusion.sum()), confusion


def count_correct(scores: paddle.Tensor, labels: paddle.Tensor) -> int:
    """How many labels have the highest score."""
    predicted = scores.astype("float32").numpy().argmax(axis=1)  # NumPy has no bfloat16
    return int((predicted == labels.numpy()).sum())


def build_model(what: Experiment, classes: int) -> paddle.nn.Layer:
    """The experiment's model with fresh weights, on the fastest convolutions there are."""
    model = models.create_model(
        what.model,
        num_classes=classes,
        width=what.recipe.width,
        stem=what.recipe.stem,
        image_size=what.recipe.image_size,
        **what.options,
    )
    return native.accelerate(model) if paddle.get_device() == "cpu" else model


def build_optimizer(model: paddle.nn.Layer, recipe: Recipe) -> paddle.optimizer.Momentum:
    """Momentum, with weight decay where the recipe and the block's official training have it."""
    decayed, free = [], []
    for layer in model.sublayers(include_self=True):
        is_norm = isinstance(layer, paddle.nn.BatchNorm2D | paddle.nn.GroupNorm)
        exempt = getattr(layer, "no_weight_decay", False) or (is_norm and not recipe.decay_norms)
        group = free if exempt else decayed
        parameters = layer.parameters(include_sublayers=bool(exempt))
        group.extend(p for p in parameters if not p.stop_gradient)  # no running statistics
    free_names = {parameter.name for parameter in free}
    decayed = [parameter for parameter in decayed if parameter.name not in free_names]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    return paddle.optimizer.Momentum(
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        use_nesterov=recipe.nesterov,
        parameters=groups,
    )


def build_loaders(
    what: Experiment,
    images: datasets.ImageDataset,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    group: Group = ALONE,
) -> tuple[datasets.Loader, datasets.Loader]:
    """Loaders of the training images (shuffled, whole batches only) and the validation images.

    A batch of all processes together has the recipe's size, and each has its share.
    """
    recipe = what.recipe
    source = datasets.DATASETS[images.name]
    transforms = [
        datasets.create_transform(
            recipe.augmentation, recipe.image_size, source.mean, source.std, train=train,
            scale=(recipe.smallest_crop, 1.0),
        )
        for train in (True, False)
    ]
    shared = {
        "batch_size": recipe.batch_size // group.size,
        "rank": group.rank,
        "world_size": group.size,
        "workers": compute.loader_threads,
    }
    return (
        datasets.Loader(
            images.train, transform=transforms[0], seed=what.seed, shuffle=True, drop_last=True,
            **shared,
        ),
        datasets.Loader(images.val, transform=transforms[1], seed=0, shuffle=False, **shared),
    )  # fmt: skip


def describe(
    what: Experiment,
    images: datasets.ImageDataset,
    model: paddle.nn.Layer,
    compute: Compute,
    group: Group = ALONE,
) -> dict[str, Any]:
    """The contents of ``experiment.json``: all that is needed to make the run again."""
    return {
        "name": what.name,
        **what.to_dict(),
        "data": {
            "title": images.title,
            "label": images.label,
            "classes": list(images.classes),
            "class_total": images.class_total,
            "train_images": len(images.train),
            "validation_images": len(images.val),
        },
        "model_settings": model.settings,
        "compute": {
            **compute.describe(), **group.describe(), "convolution": native.describe()
        },
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "sources": provenance.source_hashes(model, what.dataset, group.sources),
    }  # fmt: skip


def save_checkpoint(
    path: Path,
    model: paddle.nn.Layer,
    epochs_done: int,
    optimizer: paddle.optimizer.Momentum | None = None,
    scaler: paddle.amp.GradScaler | None = None,
) -> None:
    """Write weights, and if given the optimiser's velocities and the loss scale, as one file.

    One file, because weights of one epoch with velocities of another would not resume bit for bit.
    """
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    if optimizer is not None:
        velocities = optimizer._accumulators["velocity"]
        for name, parameter in model.named_parameters():
            if parameter.name in velocities:
                tensors[OPTIMIZER_PREFIX + name] = velocities[parameter.name].numpy()
    scale = {} if scaler is None else runtime.scaler_state(scaler)
    save_tensors(path, tensors, {"epoch": str(epochs_done), **scale})


def restore(
    folder: Path,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Momentum,
    scaler: paddle.amp.GradScaler,
) -> list[dict[str, float]]:
    """Load the last finished epoch into all three; return the history up to there."""
    path = folder / "last.safetensors"
    if not path.exists():
        return []
    try:
        tensors, metadata = load_tensors(path)
        velocities = {
            OPTIMIZER_PREFIX + name: parameter
            for name, parameter in model.named_parameters()
            if OPTIMIZER_PREFIX + name in tensors
        }
        fit(path, tensors, {**model.state_dict(), **velocities})
        history = history_behind(folder, metadata)
    except CheckpointError as error:
        warnings.warn(f"{error}; training {folder.name} from the start", stacklevel=2)
        return []
    state = {k: v for k, v in tensors.items() if not k.startswith(OPTIMIZER_PREFIX)}
    model.set_state_dict(state)
    # Paddle numbers parameters by the order in which a process makes them; our file does not.
    optimizer.set_state_dict(
        {
            f"{parameter.name}_velocity_0": tensors[OPTIMIZER_PREFIX + name]
            for name, parameter in model.named_parameters()
            if OPTIMIZER_PREFIX + name in tensors
        }
    )
    runtime.restore_scaler(scaler, metadata)
    return history


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
