"""Train one network of the book at full width over PyTorch, and write its record.

    .venv-torch/bin/python benchmarks/full_size/run.py animals10 srm_resnet50 --seed 1

Runs in an interpreter with PyTorch, NumPy, Pillow, safetensors, filelock and tqdm; it need not have
Paddle. On a GPU it computes in bfloat16 autocast, else in float32. The same line goes on from the
last finished epoch. ``--recipe epochs=2 image_size=56`` changes settings of the recipe, ``--options
squeeze=avg`` is for the network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))  # where it is not installed

from attn_blocks import datasets
from attn_blocks.errors import AttnBlocksError, SettingError
from attn_blocks.files import atomic_write, load_tensors, save_tensors, write_json
from attn_book.study.design import ANNEALED
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.recipes import PROFILES

DEFAULTS = PROFILES["paper"].recipes
LARGEST = float(np.finfo(np.float16).max)  # that a record's scores can hold
# What the published records have otherwise.
CHANGES = {"animals10": {"image_size": 112, "epochs": 32}}


def recipe_of(task: str, model: str, changes: dict) -> Recipe:
    """The recipe of the published records, with changes.

    Raises:
        SettingError: a setting that does not exist or cannot work.
    """
    entries = {entry.model: entry for entry in ANNEALED[0].entries if task == "caltech16"}
    entry = entries.get(model, entries.get("resnet50"))
    known = entry.changes["paper"] if entry else CHANGES.get(task, {})
    try:
        return replace(DEFAULTS[task], **{**known, **changes})
    except TypeError as error:
        raise SettingError(f"--recipe: {error}") from error


def setting(text: str) -> tuple[str, object]:
    """``"epochs=2"`` as a name and a value; what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not like epochs=2")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(DEFAULTS))
    parser.add_argument("model", help="such as srm_resnet50")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--fold", type=int, default=0, help="fifth to validate on, %(default)s")
    for name in ("--recipe", "--options"):
        parser.add_argument(name, nargs="+", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("results/full_size"), help="%(default)s")
    parser.add_argument("--data-dir", type=Path, help="where the data sets lie")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    return parser.parse_args(arguments)


def record_of(experiment: Experiment, images: datasets.ImageDataset, **found: object) -> dict:
    """The record of a run that has not begun; ``found`` are its ``compute`` and ``params``."""
    return {
        "model": experiment.model,
        "options": dict(experiment.options),
        "task": experiment.dataset,
        "seed": experiment.seed,
        "fold": experiment.fold,
        "finished": False,
        "recipe": asdict(experiment.recipe),
        "data": {
            "classes": list(images.classes),
            "class_total": images.class_total,
            "train": len(images.train),
            "val": len(images.val),
            "fingerprint": images.fingerprint,
        },
        **found,
        "history": [],
        "confusion": [],
    }


def write_epoch(path: Path, record: dict, row: dict, scores: np.ndarray, labels: np.ndarray):
    """Add an epoch to the record; writes ``<path>.json`` and ``<path>.scores.npy``."""
    confusion = np.zeros((scores.shape[1],) * 2, int)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    record["history"].append(row)
    record["confusion"] = confusion.tolist()
    record["finished"] = row["epoch"] == record["recipe"]["epochs"]
    with atomic_write(f"{path}.scores.npy", "wb") as stream:
        np.save(stream, scores.clip(-LARGEST, LARGEST).astype(np.float16))
    write_json(f"{path}.json", record)


def train(options: argparse.Namespace) -> Path:
    """Train to the recipe's last epoch; the record's path, without its ending."""
    import loop  # PyTorch, which the command line does without
    import torch

    recipe = recipe_of(options.task, options.model, dict(options.recipe))
    limits = {"train_images": recipe.train_images, "val_images": recipe.validation_images}
    images = datasets.load(
        options.task, options.data_dir, recipe.stored_side, fold=options.fold, **limits
    )
    which = (options.task, images.fingerprint, options.model)
    experiment = Experiment(*which, recipe, options.seed, dict(options.options), options.fold)
    device = "cpu" if options.cpu or not torch.cuda.is_available() else "cuda"
    training = loop.Training(experiment, images, device)
    record = record_of(experiment, images, compute=training.compute, params=training.params)
    path = options.out / experiment.name
    state = Path(f"{path}.safetensors")  # with the record that belongs to it
    if state.exists():
        tensors, told = load_tensors(state, "delete it to begin again")
        training.restore(tensors)
        record = json.loads(told["record"])
    for epoch in range(len(record["history"]), recipe.epochs):
        row, scores = training.epoch(epoch)
        write_epoch(path, record, row, scores, images.val.labels)
        save_tensors(state, training.state(), {"record": json.dumps(record)})
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        print(f"{train(parse(arguments))}.json")
    except AttnBlocksError as error:
        raise SystemExit(f"error: {error}") from error
    except ModuleNotFoundError as error:
        here = "run it with an interpreter that has torch, such as .venv-torch/bin/python"
        raise SystemExit(f"error: {error}; {here}") from error


if __name__ == "__main__":
    main()
