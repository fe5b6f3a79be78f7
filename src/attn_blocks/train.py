"""One experiment -> one run folder: the whole training loop, to be read from top to bottom.

Everything random is seeded from (seed, epoch), so a run that was stopped goes on from its last
finished epoch to the very numbers it would have reached. Files are written in the order history,
best, last: ``last.safetensors`` says which epoch is finished, whatever is newer is made again.
"""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from filelock import FileLock
from tqdm import tqdm

from attn_blocks import datasets, experiment, models, native, provenance, runtime
from attn_blocks.errors import CheckpointError, TrainingError
from attn_blocks.experiment import Experiment, Plan, Recipe
from attn_blocks.files import atomic_write, load_tensors, save_tensors, write_json
from attn_blocks.results import HISTORY_COLUMNS, Run, read_history, take_published

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

    Returns:
        The finished run, or one with status "failed" and the reason in its metrics when the loss
        became infinite or not a number, or memory ran out: the same settings would fail again.
    """
    folder = Path(results_dir) / "runs" / what.name
    folder.mkdir(parents=True, exist_ok=True)
    # One process trains; another that wants the same run waits here and then finds it finished.
    with FileLock(folder / ".lock"):
        found = Run(folder)
        if found.status == "failed" or (found.status == "finished" and found.has_weights):
            return found
        if not weights and (found.status == "finished" or take_published(found)):
            return found
        images = experiment.load_images(what.dataset, what.recipe, data_dir)
        if images.fingerprint != what.fingerprint:
            raise TrainingError(
                f"the images of {images.title} changed while {what.name} was waiting; "
                "run the command again"
            )
        # Records without weights are made again; until then the run is not finished.
        (folder / "metrics.json").unlink(missing_ok=True)
        try:
            train(what, images, folder, runtime.select_device(device), progress)
        except (Diverged, MemoryError) as error:
            write_json(folder / "metrics.json", _failure(what, error))
        except (RuntimeError, OSError) as error:  # Paddle's own out-of-memory errors
            if "ResourceExhausted" not in str(error) and "out of memory" not in str(error).lower():
                raise
            write_json(folder / "metrics.json", _failure(what, MemoryError(str(error))))
        return Run(folder)


class Diverged(TrainingError):
    """The loss is no longer a number; ``where`` holds epoch, step and learning rate."""

    def __init__(self, epoch: int, step: int, rate: float) -> None:
        self.where = {"epoch": epoch, "step": step, "learning_rate": rate}
        super().__init__(
            f"the loss is not finite in epoch {epoch}, step {step}, at learning rate {rate:.4g}"
        )


def _failure(what: Experiment, error: Exception) -> dict[str, Any]:
    where = getattr(error, "where", {})
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = (
            f"out of memory at batch size {what.recipe.batch_size}; lower batch_size, image_size "
            "or width in the recipe, or run fewer jobs at once"
        )
    return {"status": "failed", "reason": reason, **where}


def train(
    what: Experiment,
    images: datasets.ImageDataset,
    folder: Path,
    device: str,
    progress: bool = True,
) -> None:
    """Train from the start or from the last finished epoch, leaving a finished run folder."""
    from visualdl import LogWriter  # slow to import, and only needed here

    recipe = what.recipe
    runtime.seed_everything(what.seed)
    model = build_model(what, len(images.classes))
    optimizer = build_optimizer(model, recipe)
    train_loader, validation_loader = build_loaders(what, images)
    macs = models.count_macs(model, (3, recipe.image_size, recipe.image_size))
    write_json(folder / "experiment.json", describe(what, images, model, device))

    history = restore(folder, model, optimizer)
    best = max(history, key=lambda row: row["val_acc"], default={"val_acc": -1.0})
    shutil.rmtree(folder / "vdl", ignore_errors=True)  # written anew, never two logs of one epoch
    steps = len(train_loader)
    bar = tqdm(
        desc=what.name, total=recipe.epochs * steps * recipe.batch_size, unit="img",
        initial=len(history) * steps * recipe.batch_size, disable=not progress, leave=False,
        dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 15,
    )  # fmt: skip
    confusion = None
    with bar, LogWriter(logdir=str(folder / "vdl")) as log:
        for row in history:
            _log(log, row)
        for epoch in range(len(history), recipe.epochs):
            start = time.perf_counter()
            # Dropout draws from here on, so that a resumed epoch draws the same numbers.
            paddle.seed((what.seed * 1_000_003 + epoch + 1) % 2**31)
            train_loss, train_acc = train_epoch(
                model, optimizer, recipe, epoch, train_loader, bar
            )
            seconds = time.perf_counter() - start
            val_loss, confusion = evaluate(model, validation_loader, len(images.classes))
            val_acc = float(np.trace(confusion) / confusion.sum())
            row = {
                "epoch": epoch + 1, "lr": optimizer.get_lr(),
                "train_loss": train_loss, "train_acc": train_acc,
                "val_loss": val_loss, "val_acc": val_acc, "seconds": round(seconds, 3),
            }  # fmt: skip
            history.append(row)
            _log(log, row)
            write_history(folder / "history.csv", history)
            if val_acc > best["val_acc"]:
                best = row
                save_checkpoint(folder / "best.safetensors", model, None, epoch + 1)
            save_checkpoint(folder / "last.safetensors", model, optimizer, epoch + 1)
    if confusion is None:  # stopped between the last checkpoint and the metrics
        _, confusion = evaluate(model, validation_loader, len(images.classes))
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
            "peak_memory_mb": peak_memory_mb(device),
            "confusion": confusion.tolist(),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )


def train_epoch(
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    recipe: Recipe,
    epoch: int,
    loader: datasets.Loader,
    bar: tqdm,
) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) while the weights were moving."""
    model.train()
    loss_sum, correct, count = 0.0, 0, 0
    for step, (images, labels) in enumerate(loader.epoch(epoch)):
        optimizer.set_lr(recipe.rate(epoch, step, len(loader)))
        scores = model(paddle.to_tensor(images))
        loss = F.cross_entropy(scores, paddle.to_tensor(labels))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()

        batch_loss = float(loss)
        if not math.isfinite(batch_loss):
            raise Diverged(epoch + 1, step + 1, optimizer.get_lr())
        loss_sum += batch_loss * len(labels)
        correct += int((scores.numpy().argmax(axis=1) == labels).sum())
        count += len(labels)
        bar.update(len(labels))
        bar.set_postfix_str(
            f"epoch {epoch + 1}/{recipe.epochs} loss {loss_sum / count:.3f} "
            f"acc {correct / count:.3f}",
            refresh=False,
        )
    return loss_sum / count, correct / count


@paddle.no_grad()
def evaluate(
    model: paddle.nn.Layer, loader: datasets.Loader, classes: int
) -> tuple[float, np.ndarray]:
    """(mean loss, confusion matrix [true, predicted]) over a whole data set."""
    model.eval()
    loss_sum, count = 0.0, 0
    confusion = np.zeros((classes, classes), dtype=np.int64)
    for images, labels in loader.epoch(0):
        scores = model(paddle.to_tensor(images))
        loss = F.cross_entropy(scores, paddle.to_tensor(labels), reduction="sum")
        loss_sum += float(loss)
        count += len(labels)
        np.add.at(confusion, (labels, scores.numpy().argmax(axis=1)), 1)
    return loss_sum / count, confusion


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
    what: Experiment, images: datasets.ImageDataset
) -> tuple[datasets.Loader, datasets.Loader]:
    """Loaders of the training images (shuffled, whole batches only) and the validation images."""
    recipe = what.recipe
    source = datasets.DATASETS[images.name]
    transforms = [
        datasets.create_transform(
            recipe.augmentation, recipe.image_size, source.mean, source.std, train=train,
            scale=(recipe.smallest_crop, 1.0),
        )
        for train in (True, False)
    ]
    return (
        datasets.Loader(
            images.train, recipe.batch_size, transforms[0], seed=what.seed, shuffle=True,
            drop_last=True,
        ),
        datasets.Loader(images.val, recipe.batch_size, transforms[1], seed=0, shuffle=False),
    )  # fmt: skip


def describe(
    what: Experiment, images: datasets.ImageDataset, model: paddle.nn.Layer, device: str
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
        "compute": {**runtime.describe_device(device), "convolution": native.describe()},
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "sources": provenance.source_hashes(model, what.dataset),
    }


def save_checkpoint(
    path: Path,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Momentum | None,
    epochs_done: int,
) -> None:
    """Write weights, and the optimiser's velocities if there is one, as one file.

    One file, because weights of one epoch with velocities of another would not resume bit for bit.
    """
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    if optimizer is not None:
        velocities = optimizer._accumulators["velocity"]
        for name, parameter in model.named_parameters():
            if parameter.name in velocities:
                tensors[OPTIMIZER_PREFIX + name] = velocities[parameter.name].numpy()
    save_tensors(path, tensors, {"epoch": str(epochs_done)})


def restore(
    folder: Path, model: paddle.nn.Layer, optimizer: paddle.optimizer.Momentum
) -> list[dict[str, float]]:
    """Load the last finished epoch into model and optimiser; return the history up to there."""
    path = folder / "last.safetensors"
    if not path.exists():
        return []
    try:
        tensors, metadata = load_tensors(path)
        history = read_history(folder / "history.csv")[: int(metadata["epoch"])]
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
    return history


def write_history(path: Path, rows: Iterable[dict[str, float]]) -> None:
    """Write the epochs as CSV; ``repr`` of a float reads back as the same float."""
    with atomic_write(path) as stream:
        writer = csv.DictWriter(stream, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _log(log: Any, row: dict[str, float]) -> None:
    for column in HISTORY_COLUMNS[1:-1]:
        part, _, quantity = column.partition("_")
        tag = f"{quantity}/{part}" if quantity else column
        log.add_scalar(tag=tag, value=row[column], step=row["epoch"])


def peak_memory_mb(device: str) -> float:
    """Highest memory use in MiB: of the GPU where it trains there, else of the process."""
    if device.startswith("gpu"):
        return round(paddle.device.cuda.max_memory_allocated() / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main() -> None:
    """Train one experiment given as JSON on standard input: a worker process of ``reproduce``."""
    request = json.load(sys.stdin)
    run(
        Experiment.from_dict(request["experiment"]),
        request["results_dir"],
        request["data_dir"],
        request["device"],
        weights=request.get("weights", True),
    )


if __name__ == "__main__":
    main()
