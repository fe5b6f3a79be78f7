"""What a profile costs before it starts: counted on its models, and from that a time on a GPU.

Counted are parameters, multiply-accumulates (MACs), and the bytes that Paddle keeps of an image
until its backward pass; the rest is assumed. Kept bytes pass through memory 9 times because a
convolution, a batch norm and a ReLU keep 2 maps and read or write 18: forward 1 + 3 + 2, backward
4 + 5 + 3. The tests hold it against the one time that a write-up recorded, and NVIDIA's ResNet-50.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import paddle
import pandas as pd

from attn_blocks import datasets, device, models
from attn_blocks.datasets.images import label_of
from attn_blocks.errors import SettingError, choose
from attn_book.analysis import cost
from attn_book.analysis.words import counted
from attn_book.records.planned import run_of
from attn_book.records.reading import epochs_done
from attn_book.records.recorded import RecordedImages
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import PAGES, TASK_TITLES
from attn_book.study.plan import Plan, PlannedImages, plan
from attn_book.training import build

PEAK_SHARE, BANDWIDTH_SHARE, PASSES, CUDA_GIB = 0.35, 0.75, 9, 1
ASSUMED = f"""\
Assumed: a training step takes 3 times the forward's MACs, of 2 operations each, at {PEAK_SHARE:.0%}
of the GPU's peak, and moves what is kept for the backward pass {PASSES} times at
{BANDWIDTH_SHARE:.0%} of its bandwidth. Memory is for float32, with {CUDA_GIB} GiB for CUDA. Loading
images is not counted. Expect an error of up to a factor of two."""
# Images of the complete data sets, to train on and to validate with.
COMPLETE = {"animals10": (20_938, 5_241), "caltech16": (1_412, 359), "cifar10": (50_000, 10_000)}


class GPU(NamedTuple):
    """What a data sheet says: 10^12 operations a second, 10^9 bytes a second, GiB.

    ``float32`` is on tensor cores where there are any (TF32, Paddle's default), ``half`` in 16 bits
    with sums in float32; both without sparsity.
    """

    name: str
    float32: float
    half: float
    bandwidth: float
    memory: int


# Sources: NVIDIA's data sheets of the V100 (SXM2), T4, A10, A100 (SXM4) and H100 (SXM5); of the
# RTX 3090 and 4090 the appendices of the GA102 and the Ada architecture white paper.
V100 = GPU("V100", 15.7, 125, 900, 16)
GPUS = (
    V100,
    GPU("T4", 8.1, 65, 300, 16),
    GPU("A10", 62.5, 125, 600, 24),
    GPU("A100", 156, 312, 1555, 40),
    GPU("RTX 3090", 35.6, 71, 936, 24),
    GPU("RTX 4090", 82.6, 165.2, 1008, 24),
    GPU("H100", 494.7, 989.4, 3352, 80),
)


def find_gpu(name: str | None = None) -> GPU:
    """The GPU of that name, else the one at hand, a V100 if ``GPUS`` lacks that.

    SettingError for a name that ``GPUS`` lacks.
    """
    if name:
        known = {gpu.name.lower(): gpu for gpu in GPUS}
        return known[choose("GPU", name.strip().lower(), known)]
    own = paddle.device.cuda.get_device_name() if device.has_gpu() else ""
    return next((gpu for gpu in GPUS if re.search(rf"\b{gpu.name}\b", own)), V100)


@dataclass(frozen=True)
class ModelCost:
    """What the runs of a model cost.

    Attributes:
        title, data: of the model and its images, for people.
        recipe, runs: how it is trained, and how often.
        images: training images of an epoch; a validation image counts a third.
        params, macs, kept: trainable values; MACs of an image, forward; bytes that are kept of an
            image for the backward pass, in float32.
    """

    title: str
    data: str
    recipe: Recipe
    runs: int
    images: float
    params: int
    macs: int
    kept: int

    @property
    def memory(self) -> float:
        """GiB: parameters, gradients, momentum, what is kept of a batch, and CUDA."""
        return (3 * 4 * self.params + self.recipe.batch_size * self.kept) / 2**30 + CUDA_GIB

    def image_seconds(self, gpu: GPU, mixed: bool = True) -> float:
        """Time of one training image, in mixed precision as is the default, or in float32."""
        peak, kept = (gpu.half, self.kept / 2) if mixed else (gpu.float32, self.kept)
        arithmetic = 2 * 3 * self.macs / (PEAK_SHARE * 1e12 * peak)
        return arithmetic + PASSES * kept / (BANDWIDTH_SHARE * 1e9 * gpu.bandwidth)

    def hours(self, gpu: GPU) -> float:
        """Time of all runs, one after the other."""
        return self.runs * self.recipe.epochs * self.images * self.image_seconds(gpu) / 3600


def costs(plans: Sequence[Plan], names: Collection[str] | None = None) -> list[ModelCost]:
    """The distinct models of the plans; ``names`` are the experiments that count (None: all)."""
    found: dict[tuple, tuple[str, Experiment, PlannedImages, set[str]]] = {}
    for comparison in (c for page in plans for c in page.comparisons):
        for entry, experiment in comparison.experiments:
            if names is None or experiment.name in names:
                key = experiment.dataset, experiment.variant, experiment.recipe
                value = entry.title, experiment, comparison.images, set[str]()
                found.setdefault(key, value)[-1].add(experiment.name)
    return [
        ModelCost(
            title=title,
            data=TASK_TITLES.get(images.name, images.title),
            recipe=experiment.recipe,
            runs=len(runs),
            images=len(images.train) + len(images.val) / 3,
            **count(experiment, len(images.classes)),
        )
        for title, experiment, images, runs in found.values()
    ]


def count(experiment: Experiment, classes: int) -> dict[str, int]:
    """``params``, ``macs`` and ``kept`` of ``ModelCost``, on the CPU: the GPU stays empty."""
    before = paddle.get_device()
    paddle.set_device("cpu")
    model, side = build.build_model(experiment, classes), experiment.recipe.image_size
    macs, kept = models.count_macs(model, (3, side, side)), cost.kept_bytes(model, side)
    paddle.set_device(before)
    return {"params": models.count_params(model), "macs": macs, "kept": kept}


def complete(task: str, _: str, recipe: Recipe, __: Path) -> RecordedImages:
    """In place of ``plan.load_task``: all of a data set that the recipe takes, without images."""
    source = datasets.DATASETS[task]
    limits = recipe.train_images, recipe.validation_images
    train, val = (range(min(n, most or n)) for n, most in zip(COMPLETE[task], limits, strict=True))
    classes = source.class_names
    label = label_of(source.title, len(classes), len(classes), len(train), len(val))
    return RecordedImages(task, source.title, label, classes, len(classes), train, val, "")


def report(pages: Sequence[str], gpu_name: str | None = None, **settings: Any) -> str:
    """The estimate of some pages (none: all) as text; needs neither images nor a GPU.

    ``gpu_name`` is as in ``find_gpu``, ``settings`` are profile, seeds and epochs as in ``plan``.

    Raises:
        SettingError: pages that train nothing, or settings that cannot be.
    """
    plans = [plan(page, device="cpu", load=complete, **settings) for page in pages or PAGES]
    gpu, found = find_gpu(gpu_name), costs(plans)
    if not found:
        raise SettingError(f"{', '.join(pages)} trains nothing, so that it costs nothing")
    title = f"Profile {plans[0].profile}, complete data sets"
    return f"{title}\n\n{table(found, gpu).to_string()}\n\n{summary(found, gpu)}.\n\n{ASSUMED}"


def announcement(plans: Sequence[Plan], names: Collection[str]) -> str:
    """What is said before the experiments of these names are trained."""
    words = f"Estimate, to a factor of two: {summary(costs(plans, names), find_gpu())}."
    if not plans[0].device.startswith("gpu"):
        words += " On this machine's processor it takes many times as long."
    return f"{words}\nIt can be stopped (Ctrl-C) and goes on from the last finished epoch."


def measured(plan: Plan, task: str, missing: Sequence[Experiment]) -> str:
    """What is said before these experiments are trained on this machine, from steps tried on it."""
    comparison, seconds = plan.comparison(task), cost.image_seconds(plan, task)
    train, val = len(comparison.images.train), len(comparison.images.val)
    names, total = {experiment.name for experiment in missing}, 0.0
    for entry, experiment in comparison.experiments:
        if experiment.name in names:
            left = experiment.recipe.epochs - epochs_done(run_of(plan, experiment).folder)
            forward_and_back, forward = seconds[entry.title]
            total += left * (train * forward_and_back + val * forward)
    time = f"{total / 3600:.1f} hours" if total > 5400 else f"{max(1, round(total / 60))} min"
    runs = counted(len(missing), "run")
    return (
        f"To train: {runs} of {counted(comparison.recipe.epochs, 'epoch')}. "
        f"By steps tried on this machine that takes about {time}, to a factor of two."
    )


def table(found: Sequence[ModelCost], gpu: GPU) -> pd.DataFrame:
    """A row a model."""
    rows = {
        (item.title, item.data): {
            "Parameters": f"{item.params:,}",
            "MMACs/image": f"{item.macs / 1e6:,.1f}",
            "Pixels": item.recipe.image_size,
            "Batch": item.recipe.batch_size,
            "Memory GiB": f"{item.memory:.1f}",
            "Images/epoch": f"{item.images:,.0f}",
            "Epochs": item.recipe.epochs,
            "Runs": item.runs,
            "Hours": f"{item.hours(gpu):.2f}",
        }
        for item in found
    }
    return pd.DataFrame(rows).T.rename_axis(["Model", "Data"])


def summary(found: Sequence[ModelCost], gpu: GPU) -> str:
    """Time and memory of all runs."""
    return (
        f"{counted(sum(item.runs for item in found), 'run')}, one after the other, take about "
        f"{sum(item.hours(gpu) for item in found):.1f} hours on a {gpu.name} in mixed precision, "
        f"and at most {max(item.memory for item in found):.1f} of its {gpu.memory} GiB"
    )
