"""Short trainings of every network of the pages on its task; ``curves.json`` keeps their losses.

The images are drawn and laid out as each data set lies in the data folder, so that the curves see
decoding, split, augmentation and normalisation too. Networks start at the float32 values that a run
starts at and train in float64, on Paddle's own operators: in float32 the rounding of another
processor grows within these steps until it would hide what changed.

``python tests/golden/golden.py`` records the curves anew. Do that together with a new version in
``attn_book.records.semantics``, when numbers were meant to change.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "ATTN_BLOCKS_NATIVE": "0"}

import attn_book  # isort: skip  # before Paddle

import numpy as np
from PIL import Image

from attn_blocks import datasets
from attn_blocks.datasets import shapes
from attn_blocks.files import read_json, write_json
from attn_book.records.semantics import versions_of
from attn_book.study.design import EXTRA
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import PAGES, RESNET
from attn_book.study.plan import load_images
from attn_book.training import compute

CURVES = Path(__file__).with_name("curves.json")
# Images drawn for each class: in one folder a class, or as train/ and test/.
PARTS = {"animals10": {"": 5}, "caltech16": {"": 5}, "cifar10": {"train": 4, "test": 2}}
# Between them every augmentation and decay, the schedules, and Nesterov's momentum.
# Few steps at a small rate: so narrow a network is chaotic, each step multiplies rounding by ten. A
# large decay, which would not show otherwise.
_SHORT = {
    "width": 1 / 16,
    "epochs": 3,
    "batch_size": 20,
    "learning_rate": 1e-4,
    "weight_decay": 0.5,
}
RECIPES = {
    "animals10": Recipe(
        **_SHORT,
        stem="small",
        image_size=56,
        augmentation="resized_crop",
        smallest_crop=0.35,
        schedule="one_cycle",
    ),
    "cifar10": Recipe(
        **_SHORT,
        stem="cifar",
        image_size=32,
        augmentation="pad_crop",
        schedule="constant",
        nesterov=True,
        decay="all",
    ),
    "caltech16": Recipe(
        **_SHORT,
        stem="small",
        image_size=64,
        augmentation="rotate",
        schedule="cosine",
        decay="gains",
    ),
}


# Without augmentation, and with steps of the rate taken once a batch, as ``design.UNEQUAL`` trains.
UNEQUAL = replace(RECIPES["animals10"], schedule="steps_by_batch", augmentation="center_crop")
# The paper profile's recipe on Caltech-101.
AS_EXECUTED = replace(
    RECIPES["caltech16"],
    schedule="cosine_by_batch",
    augmentation="rotate_nearest",
    drop_last=False,
    reversed_statistics=True,
)


def entries() -> dict[str, tuple[str, object, Recipe]]:
    """Every network of every page: ``"animals10-se_resnet50"`` -> (task, entry, recipe).

    The recipe is the task's of ``RECIPES``; beside them stand recipes of the study's and of the
    paper profile that have something more, for the plain network.
    """
    found = {}
    for comparisons in {**PAGES, **EXTRA}.values():
        for comparison in comparisons:
            for entry in comparison.entries:
                options = "".join(f"-{k}_{v}" for k, v in sorted(entry.options.items()))
                name = f"{comparison.task}-{entry.model}{options}"
                found[name] = (comparison.task, entry, RECIPES[comparison.task])
    found["animals10-resnet50-unequal"] = ("animals10", RESNET, UNEQUAL)
    found["caltech16-resnet50-as_executed"] = ("caltech16", RESNET, AS_EXECUTED)
    return found


def draw_data(folder: Path) -> Path:
    """Draw a small data set for each task, 128 pixels a side, as PNG files, which lose nothing."""
    outlines = shapes.SOURCE.class_names
    for task, parts in PARTS.items():
        for part, count in parts.items():
            for label, name in enumerate(datasets.DATASETS[task].class_names):
                target = folder / task / part / name
                target.mkdir(parents=True)
                for number in range(count):
                    seed = (label, number, len(part))
                    pixels = shapes.draw(outlines[label % len(outlines)], seed)
                    pixels = pixels.repeat(2, axis=0).repeat(2, axis=1)
                    Image.fromarray(pixels).save(target / f"{number:02}.png")
    return folder


class Float64(compute.Compute):
    """Computes on images in float64."""

    def batches(self, arrays):
        for images, labels in super().batches(arrays):
            yield images.astype("float64"), labels


def curve(name: str, data_dir: Path) -> dict[str, object]:
    """Train one network: its semantics, the sum of its initial values' sizes, and its losses."""
    task, entry, recipe = entries()[name]
    images = load_images(task, recipe, data_dir)
    experiment = Experiment(
        task, images.fingerprint, entry.model, recipe, seed=0, options=dict(entry.options)
    )
    compute.seed_everything(experiment.seed)
    model = attn_book.build_model(experiment, len(images.classes))
    start = sum(np.abs(p.numpy()).sum(dtype=float) for p in model.parameters())
    model.to(dtype="float64")
    training = attn_book.prepare(model, images, recipe, experiment.seed, Float64())
    epochs = list(attn_book.train(training))
    return {
        "semantics": versions_of(experiment),
        "start": float(start),
        "train_loss": [epoch.train_loss for epoch in epochs],
        "val_loss": [epoch.val_loss for epoch in epochs],
    }


def main() -> None:
    """Record all curves."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = draw_data(Path(folder))
        curves = {}
        for name in entries():
            curves[name] = curve(name, data_dir)
            print(name, file=sys.stderr)
    write_json(CURVES, curves)


def recorded() -> dict[str, dict[str, object]]:
    """The curves that are kept."""
    return read_json(CURVES)


if __name__ == "__main__":
    main()
