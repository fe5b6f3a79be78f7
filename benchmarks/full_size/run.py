"""Train networks of the book at full width over PyTorch, in step, and write their records.

    .venv-torch/bin/python benchmarks/full_size/run.py animals10 resnet50 srm_resnet50 --seeds 1

Runs in an interpreter with PyTorch, NumPy, Pillow, safetensors, filelock and tqdm; it need not have
Paddle. On a GPU it computes in bfloat16 autocast, else in float32. The same line goes on from the
last epoch that was kept. ``--recipe epochs=2 image_size=56`` changes settings of the recipe,
``--options squeeze=avg`` is for the networks. ``--profile study`` trains by the study's recipe,
each seed on the study's fold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))  # where it is not installed

from attn_blocks import datasets, device
from attn_blocks.errors import AttnBlocksError, SettingError
from attn_blocks.files import atomic_write, read_json, write_json
from attn_blocks.tensors import load_tensors, save_tensors
from attn_book.study.design import ANNEALED
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.plan import fold_of, load_images
from attn_book.study.recipes import PROFILES

if TYPE_CHECKING:
    import loop  # PyTorch, which the command line does without

AGAIN = "delete it to begin again"
LARGEST = float(np.finfo(np.float16).max)  # that a record's scores can hold
# What the published records have otherwise.
CHANGES = {"animals10": {"image_size": 112, "epochs": 32}}


def recipe_of(task: str, model: str, changes: dict, profile: str = "paper") -> Recipe:
    """The recipe of the published records, or of another profile, with changes.

    Raises:
        SettingError: a setting that does not exist or cannot work.
    """
    known = {}
    if profile == "paper":
        entries = {entry.model: entry for entry in ANNEALED[0].entries if task == "caltech16"}
        entry = entries.get(model, entries.get("resnet50"))
        known = entry.changes["paper"] if entry else CHANGES.get(task, {})
    try:
        return replace(PROFILES[profile].recipes[task], **{**known, **changes})
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
    parser.add_argument("task", choices=list(PROFILES["paper"].recipes))
    parser.add_argument("models", nargs="+", help="such as srm_resnet50")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="one after the other; 0 by default"
    )
    parser.add_argument(
        "--fold", type=int, help="which fifth to validate on; the profile's by default"
    )
    parser.add_argument(
        "--profile",
        choices=("paper", "study"),
        default="paper",
        help="whose recipe; %(default)s by default",
    )
    for name in ("--recipe", "--options"):
        parser.add_argument(name, nargs="+", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("results/full_size"), help="%(default)s")
    parser.add_argument("--data-dir", type=Path, help="where the data sets lie")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--precision", help="bfloat16 (default on a GPU), tf32 or float32")
    workers = {"type": int, "default": max(0, device.cores() - 2)}
    parser.add_argument(
        "--workers", **workers, help="processes that make batches; %(default)s by default"
    )
    kept = {"type": int, "default": 1, "metavar": "EPOCHS"}
    parser.add_argument(
        "--keep-every", **kept, help="how often a state to go on from is kept; 0: never"
    )
    return parser.parse_args(arguments)


class Kept:
    """A network's record and the files that hold it and its state, below a folder."""

    def __init__(
        self, experiment: Experiment, images: datasets.ImageDataset, out: Path, **found: object
    ) -> None:
        self.path = out / experiment.name
        self.state = Path(f"{self.path}.safetensors")  # with the record that belongs to it
        self.new_state = Path(f"{self.path}.new.safetensors")
        self.record = {
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

    @property
    def epochs(self) -> int:
        return len(self.record["history"])

    def resume(self, network: loop.Network) -> None:
        """Go on from the state that was kept, if there is one; a finished record needs none."""
        path, tensors = Path(f"{self.path}.json"), None
        if self.state.exists():
            tensors, told = load_tensors(self.state, AGAIN)
            record = json.loads(told["record"])
        elif not path.exists() or not (record := read_json(path, AGAIN))["finished"]:
            return
        was, now = (one["compute"]["precision"] for one in (record, self.record))
        if was != now:
            raise SettingError(
                f"{self.path} was computed in {was}, and this is {now}: choose another --out"
            )
        if tensors is not None:
            network.restore(tensors)
        self.record = record

    def add(self, row: dict[str, float], scores: np.ndarray, labels: np.ndarray) -> None:
        """Write the record with another epoch, and the scores of its validation images."""
        confusion = np.zeros((scores.shape[1],) * 2, int)
        np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
        self.record["history"].append(row)
        self.record["confusion"] = confusion.tolist()
        self.record["finished"] = row["epoch"] == self.record["recipe"]["epochs"]
        with atomic_write(f"{self.path}.scores.npy", "wb") as stream:
            np.save(stream, scores.clip(-LARGEST, LARGEST).astype(np.float16))
        write_json(f"{self.path}.json", self.record)


def experiments_of(
    options: argparse.Namespace, seed: int
) -> tuple[list[Experiment], datasets.ImageDataset]:
    """What is trained with a seed, and on which images."""
    changes, chosen = dict(options.recipe), dict(options.options)
    recipes = [recipe_of(options.task, m, changes, options.profile) for m in options.models]
    fold = options.fold
    if fold is None:
        fold = fold_of(seed, options.task, options.profile)
    images = load_images(options.task, recipes[0], options.data_dir, fold)
    which = (options.task, images.fingerprint)
    made = [
        Experiment(*which, model, recipe, seed, chosen, fold)
        for model, recipe in zip(options.models, recipes, strict=True)
    ]
    return made, images


def train(options: argparse.Namespace) -> None:
    """Train to the recipe's last epoch, one seed after the other."""
    import loop  # PyTorch, which the command line does without
    import torch

    where = "cpu" if options.cpu or not torch.cuda.is_available() else "cuda"
    precision = options.precision or ("bfloat16" if where == "cuda" else "float32")
    training = None  # captured once for all seeds
    for seed in options.seeds:
        experiments, images = experiments_of(options, seed)
        how = (len(images.classes), where, precision, options.workers)
        training = training or loop.Training(experiments, *how)
        training.begin(images, seed)
        kept = [
            Kept(one, images, options.out, compute=training.compute, params=network.params)
            for one, network in zip(experiments, training.networks, strict=True)
        ]
        go_on(training, kept, images.val.labels, options.keep_every)


def go_on(training: loop.Training, kept: list[Kept], labels: np.ndarray, keep_every: int) -> None:
    """Train what is not finished, and write each epoch."""
    for one, network in zip(kept, training.networks, strict=True):
        one.resume(network)
    if len({one.epochs for one in kept}) > 1:
        done = ", ".join(f"{one.path.name} {one.epochs}" for one in kept)
        raise SettingError(
            f"of networks in step all go on from one epoch, not from: {done}; train each of them "
            "by itself, which comes to the same, or delete what is kept of them to begin again"
        )
    for found in training.epochs(kept[0].epochs):
        for one, (row, scores) in zip(kept, found, strict=True):
            one.add(row, scores, labels)
        if keep_every and kept[0].epochs % keep_every == 0:
            keep(kept, training.networks)
        show(kept)
    for one in kept:
        print(f"{one.path}.json")


def keep(kept: Sequence[Kept], networks: Sequence[loop.Network]) -> None:
    """Keep the states of networks in step: none takes its place before all of them are written."""
    for one, network in zip(kept, networks, strict=True):
        save_tensors(one.new_state, network.state(), {"record": json.dumps(one.record)})
    for one in kept:
        one.new_state.replace(one.state)


def show(kept: list[Kept]) -> None:
    """A line an epoch: its time, and the accuracies of each network."""
    ends = [one.record["history"][-1] for one in kept]
    shown = [
        f"{one.record['model']} {row['train_acc']:.3f} {row['val_acc']:.3f}"
        for one, row in zip(kept, ends, strict=True)
    ]
    print(f"epoch {ends[0]['epoch']}  {ends[0]['seconds']:.1f} s  {'  '.join(shown)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        train(parse(arguments))
    except AttnBlocksError as error:
        raise SystemExit(f"error: {error}") from error
    except ModuleNotFoundError as error:
        here = "run it with an interpreter that has torch, such as .venv-torch/bin/python"
        raise SystemExit(f"error: {error}; {here}") from error


if __name__ == "__main__":
    main()
