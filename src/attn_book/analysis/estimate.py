"""What a profile costs before it starts: time and memory of each of its models on a GPU.

Counted, from the models themselves (``count``): the multiply-accumulates of an image, the
parameters, and the bytes that Paddle keeps of an image until the backward pass. ``check`` trains
each model at its true shapes on the CPU, which shows that it works, and that it needs these bytes.

Assumed, since no GPU is asked: a training step takes 3 times the forward's multiply-accumulates,
of 2 operations each, at ``PEAK_SHARE`` of what the GPU's data sheet promises, the middle of the 30
to 40% that convolutional networks are customarily said to reach at such batches. To this the time
is added in which maps pass through memory: every kept byte ``PASSES`` times, at
``BANDWIDTH_SHARE`` of the data sheet. A convolution, a batch norm and a ReLU keep 2 maps and read
or write 18: forward 1 + 3 + 2, backward 4 + 5 + 3. Loading images is not counted, nor the time in
which Python starts each operation. Two such shares cannot fit all networks: expect an error of up
to a factor of two. ``reference_line`` holds the estimate against the one time on record.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pandas as pd
from paddle import nn
from tqdm import tqdm

from attn_blocks import datasets, device, models
from attn_blocks.errors import TrainingError, choose
from attn_blocks.files import read_json
from attn_book.study.experiment import Experiment
from attn_book.study.pages import PAGES, SENET_PUBLISHED, TASK_TITLES
from attn_book.study.plan import Plan, plan
from attn_book.training import build, loop
from attn_book.training import compute as computing

PEAK_SHARE = 0.35
BANDWIDTH_SHARE = 0.75
PASSES = 9
RESERVED_GIB = 1  # of a GPU's memory, for CUDA, cuDNN and its workspaces: assumed as well
MIB, GIB = 2**20, 2**30

# Images of the complete data sets, to train on and to validate with.
COMPLETE = {
    "animals10": (20_938, 5_241),
    "caltech16": (1_412, 359),
    "cifar10": (50_000, 10_000),
}
RECORD = Path(__file__).parents[1] / "study" / "reported" / "senet_cifar10.json"
# With it the C library gives freed memory back at once: the peak is then what a step needs, and
# not what an allocator holds on to.
GIVE_BACK = {"ATTN_BLOCKS_TUNE": "0", "MALLOC_MMAP_THRESHOLD_": str(2**18)}


HOW = f"""\
Counted on the models: MACs, parameters, and bytes kept of an image for the backward pass.
Assumed: 2 operations a MAC at {PEAK_SHARE:.0%} of the peak; {PASSES} passes over the kept bytes \
(mixed precision: over half of them)
at {BANDWIDTH_SHARE:.0%} of the bandwidth; {RESERVED_GIB} GiB for CUDA and cuDNN. Memory is for \
float32, mixed precision needs less. Loading images
is not counted, nor the start of each operation. Expect an error of up to a factor of two."""


# GPUs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GPU:
    """What a data sheet says, without sparsity.

    Attributes:
        float32, tf32, half: 10^12 operations a second in float32 proper, on tensor cores with
            float32 rounded to TF32 as is Paddle's default (None: it has no such cores), and in 16
            bits with sums in float32.
        bandwidth: of its memory, 10^9 bytes a second.
        memory: GiB; the smallest where it is sold with several sizes.
        capability: CUDA compute capability, which decides about mixed precision (``runtime``).
    """

    name: str
    float32: float
    tf32: float | None
    half: float
    bandwidth: float
    memory: float
    capability: tuple[int, int]

    @property
    def precision(self) -> str | None:
        """The mixed precision that a run uses on it; None for float32."""
        return computing.decide("gpu", self.capability, os.environ).amp

    def peak(self, precision: str | None) -> float:
        """10^12 operations a second."""
        return self.half if precision else self.tf32 or self.float32

    def __str__(self) -> str:
        precision = self.precision or ("TF32" if self.tf32 else "float32")
        return (
            f"{self.name} ({self.memory:g} GiB, {self.bandwidth:,} GB/s, "
            f"{self.peak(self.precision):g} TFLOPS in {precision})"
        )


# Sources: NVIDIA's data sheets of the V100 (SXM2), T4, A10, A100 (SXM4) and H100 (SXM5); of the
# RTX 3090 and 4090 the appendices of the GA102 and the Ada architecture white paper.
GPUS = {
    gpu.name: gpu
    for gpu in (
        GPU("V100", 15.7, None, 125, 900, 16, (7, 0)),
        GPU("T4", 8.1, None, 65, 300, 16, (7, 5)),
        GPU("A10", 31.2, 62.5, 125, 600, 24, (8, 6)),
        GPU("A100", 19.5, 156, 312, 1555, 40, (8, 0)),
        GPU("RTX 3090", 35.6, 35.6, 71, 936, 24, (8, 6)),
        GPU("RTX 4090", 82.6, 82.6, 165.2, 1008, 24, (8, 9)),
        GPU("H100", 67, 494.7, 989.4, 3352, 80, (9, 0)),
    )
}
DEFAULT = GPUS["V100"]


def find_gpu(name: str | None = None) -> GPU:
    """The GPU of that name, such as "V100" or "rtx4090"; None for the one at hand.

    Where there is none, or one that the table does not know, that is a V100.

    Raises:
        SettingError: an unknown name.
    """
    if name:
        short = {re.sub(r"\W", "", known).lower(): known for known in GPUS}
        return GPUS[choose("GPU", short.get(re.sub(r"\W", "", name).lower(), name), GPUS)]
    if not device.has_gpu():
        return DEFAULT
    own = paddle.device.cuda.get_device_properties()
    known = named_in(own.name)
    return (
        replace(known, name=own.name, memory=round(own.total_memory / GIB, 1))
        if known
        else (DEFAULT)
    )


def named_in(device_name: str) -> GPU | None:
    """The GPU that a driver's name speaks of, such as "Tesla V100-SXM2-16GB"."""
    names = (n for n in GPUS if re.search(rf"\b{n}\b", device_name, re.IGNORECASE))
    return next((GPUS[name] for name in names), None)


# What is trained ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A model of a plan, its images, and how many runs of it there are."""

    title: str
    experiment: Experiment
    images: datasets.ImageDataset
    runs: int = 1

    @property
    def epoch_images(self) -> float:
        """Training images of an epoch, in whole batches; a validation image counts a third."""
        batch = self.experiment.recipe.batch_size
        return len(self.images.train) // batch * batch + len(self.images.val) / 3

    @property
    def epochs(self) -> int:
        """Epochs of all runs together."""
        return self.runs * self.experiment.recipe.epochs

    @property
    def data(self) -> str:
        """The data set's name for people."""
        return TASK_TITLES.get(self.images.name, self.images.title)


def works(plans: Sequence[Plan], names: Collection[str] | None = None) -> list[Work]:
    """The distinct models of the plans; of ``names``, the experiments that count (None: all)."""
    found: dict[str, Work] = {}
    seen = set()
    for comparison in (c for page in plans for c in page.comparisons):
        for entry, experiment in comparison.experiments:
            if experiment.name in seen or (names is not None and experiment.name not in names):
                continue
            seen.add(experiment.name)
            key = replace(experiment, seed=0).name
            runs = found[key].runs if key in found else 0
            found[key] = Work(entry.title, experiment, comparison.images, runs + 1)
    return list(found.values())


def plans_without_data(pages: Sequence[str], data_dir: Any = None, **settings: Any) -> list[Plan]:
    """Plans as ``experiment.plan`` makes them, of data sets that need not be there.

    One that is found counts as it is found, one that is not counts complete; nothing is decoded.
    """
    status = {row.name: row for row in datasets.status(data_dir)}

    def load(task: str, data: str, recipe: Any, _: Path) -> datasets.ImageDataset:
        real = data == "real" or (data == "any" and status[task].found)
        row = status[task if real else "shapes"]
        names = datasets.DATASETS[row.name].class_names
        counts = (row.train, row.val) if row.found else COMPLETE[row.name]
        limits = (recipe.train_images, recipe.validation_images)
        parts = (range(min(n, limit or n)) for n, limit in zip(counts, limits, strict=True))
        classes = names[: row.classes] if row.found else names
        return datasets.ImageDataset(row.name, row.title, classes, len(names), *parts, "")

    return [
        plan(page, data_dir=data_dir, device="cpu", load=load, **settings)
        for page in pages or PAGES
    ]


# What it costs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What is counted of a model.

    Attributes:
        params: trainable values.
        macs: multiply-accumulates of one image, forward.
        kept: bytes of one image that are kept for the backward pass, in float32.
    """

    params: int
    macs: int
    kept: int

    def step_bytes(self, batch: int) -> int:
        """Memory of a training step: parameters, gradients, momentum, and what is kept."""
        return 3 * 4 * self.params + batch * self.kept


@dataclass(frozen=True)
class Estimate:
    """A work on a GPU."""

    work: Work
    cost: Cost
    gpu: GPU
    precision: str | None

    @property
    def image_seconds(self) -> float:
        """Time of one training image."""
        operations = 2 * 3 * self.cost.macs
        moved = PASSES * self.cost.kept * (0.5 if self.precision else 1)
        return operations / (PEAK_SHARE * 1e12 * self.gpu.peak(self.precision)) + moved / (
            BANDWIDTH_SHARE * 1e9 * self.gpu.bandwidth
        )

    @property
    def epoch_seconds(self) -> float:
        """Time of one epoch with its validation."""
        return self.work.epoch_images * self.image_seconds

    @property
    def seconds(self) -> float:
        """Time of all runs, one after the other."""
        return self.work.epochs * self.epoch_seconds

    @property
    def memory(self) -> float:
        """GiB for float32; mixed precision needs less."""
        return self.cost.step_bytes(self.work.experiment.recipe.batch_size) / GIB + RESERVED_GIB

    @property
    def warning(self) -> str | None:
        """What to lower where memory does not suffice."""
        if self.memory <= self.gpu.memory:
            return None
        batch = self.work.experiment.recipe.batch_size
        room = (self.gpu.memory - RESERVED_GIB) * GIB - self.cost.step_bytes(0)
        fits = max(0, int(room // self.cost.kept))
        advice = f"batch_size from {batch} to {fits}, or " if fits else ""
        return (
            f"WARNING {self.work.title} needs about {self.memory:.1f} GiB of the "
            f"{self.gpu.memory:g} of {self.gpu.name}; in its recipe lower {advice}image_size or "
            "width, or take a larger GPU"
        )


def estimates(all_works: Sequence[Work], gpu: GPU) -> list[Estimate]:
    """The works on that GPU, in the precision in which a run would use it."""
    # In a process of its own, since the memory of full-size models would stay with this one.
    counted = [Cost(**values) for values in _ask("count", all_works)]
    return [
        Estimate(work, cost, gpu, gpu.precision)
        for work, cost in zip(all_works, counted, strict=True)
    ]


def count(experiment: Experiment, classes: int) -> dict[str, int]:
    """The fields of ``Cost``."""
    model = build.build_model(experiment, classes)
    side = experiment.recipe.image_size
    return {
        "params": models.count_params(model),
        "macs": models.count_macs(model, (3, side, side)),
        "kept": kept_bytes(model, side),
    }


def kept_bytes(model: nn.Layer, side: int, batch: int = 2) -> int:
    """Bytes that a forward pass in training mode keeps of each image for the backward pass.

    Paddle shows every tensor that it saves for a gradient. One that several operations save
    counts once, parameters not at all.
    """
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def save(tensor: paddle.Tensor) -> paddle.Tensor:
        # Holds the memory, so that no later tensor can take this one's place; not the tensor
        # itself, which Paddle 2.6 frees too early.
        alive.append(tensor.detach())
        place = tensor.data_ptr()
        if place not in weights:
            size = int(np.prod(tensor.shape)) * tensor.element_size()
            sizes[place] = max(size, sizes.get(place, 0))
        return tensor

    model.train()
    images = paddle.randn([batch, 3, side, side])
    with paddle.autograd.saved_tensors_hooks(save, lambda tensor: tensor):
        F.cross_entropy(model(images), paddle.zeros([batch], dtype="int64"))
    return sum(sizes.values()) // batch


# One real step -----------------------------------------------------------------------------------


def check(pages: Sequence[str], **settings: Any) -> Iterator[dict[str, object]]:
    """Train each distinct model of the pages at its true shapes on the CPU: two steps on noise.

    Args:
        pages: names of ``PAGES``, all when empty.
        settings: profile, seeds, epochs and data_dir of ``experiment.plan``.

    Yields:
        Of the second step the loss, the time that passed and the processor's time, in seconds;
        the highest memory of the process; the memory that the steps alone need, measured in a
        second process that gives freed memory back; and what ``Cost`` counts of it, all in MiB.

    Raises:
        TrainingError: a model that cannot be trained, or whose loss is not finite.
    """
    for item in estimates(works(plans_without_data(pages, **settings)), DEFAULT):
        work, recipe = item.work, item.work.experiment.recipe
        as_trained = _ask("step", [work])[0]
        needed = _ask("step", [work], GIVE_BACK)[0]["needed"]
        counted = item.cost.step_bytes(recipe.batch_size)
        yield {
            "model": work.title,
            "data": work.data,
            "pixels": recipe.image_size,
            "batch": recipe.batch_size,
            "loss": f"{as_trained['loss']:.3f}",
            "seconds": f"{as_trained['seconds']:.1f}",
            "cpu_seconds": f"{as_trained['cpu_seconds']:.1f}",
            "peak_mib": round(as_trained["peak"] / MIB),
            "needed_mib": round(needed / MIB),
            "counted_mib": round(counted / MIB),
            "needed_by_counted": f"{needed / counted:.2f}",
        }


def step(experiment: Experiment, classes: int) -> dict[str, float]:
    """Two training steps in this process: loss and seconds of the second, memory in bytes."""
    before = _memory("VmRSS")
    recipe = experiment.recipe
    compute = computing.compute("cpu")
    computing.seed_everything(experiment.seed)
    model = build.build_model(experiment, classes)
    optimizer = build.build_optimizer(model, recipe)
    noise = Noise(recipe.batch_size, recipe.image_size, classes)
    for _ in range(2):  # momentum is made, and kernels are chosen, in the first one
        start = time.perf_counter(), time.process_time()
        loss, _ = loop.train_epoch(
            model, optimizer, compute.scaler(), recipe, 0, noise, tqdm(disable=True), compute
        )
        end = time.perf_counter(), time.process_time()
    peak = _memory("VmHWM")
    return {
        "loss": loss,
        "seconds": end[0] - start[0],
        "cpu_seconds": end[1] - start[1],
        "peak": peak,
        "needed": peak - before,
    }


@dataclass(frozen=True)
class Noise:
    """A loader of one batch of random pixels, the same in every epoch."""

    batch_size: int
    side: int
    classes: int

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batch: images [N, 3, side, side] and labels [N]."""
        shape = (self.batch_size, 3, self.side, self.side)
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        yield images, np.arange(self.batch_size) % self.classes


def _memory(field: str) -> int:
    """Bytes that this process holds (VmRSS), or the most that it ever held (VmHWM)."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _ask(
    measure: str, all_works: Sequence[Work], environment: Mapping[str, str] | None = None
) -> list[dict]:
    """``count`` or ``step`` of each work, in one new process on the CPU."""
    pairs = [[work.experiment.to_dict(), len(work.images.classes)] for work in all_works]
    answer = subprocess.run(
        [sys.executable, "-m", "attn_blocks.estimate"],
        text=True,
        capture_output=True,
        input=json.dumps({"measure": measure, "models": pairs}),
        env={**os.environ, **(environment or {})},
    )
    if answer.returncode:
        reason = answer.stderr.strip().splitlines()[-1:] or [
            f"{all_works[0].title}: ended by signal {-answer.returncode}; was memory short?"
        ]
        raise TrainingError(f"cannot {measure} {reason[0]}")
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    """Answer the request of ``_ask`` on standard input."""
    request = json.load(sys.stdin)
    device.select_device("cpu")
    measure = {"count": count, "step": step}[request["measure"]]
    found = []
    for values, classes in request["models"]:
        experiment = Experiment.from_dict(values)
        try:
            found.append(measure(experiment, classes))
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            sys.exit(f"{experiment.variant}: {lines[-1]}")
    print(json.dumps(found))


# In words ----------------------------------------------------------------------------------------


def report(pages: Sequence[str], gpu_name: str | None = None, **settings: Any) -> str:
    """The whole estimate as text; needs no data set and no GPU.

    Args:
        pages: names of ``PAGES``, all when empty.
        gpu_name: see ``find_gpu``.
        settings: profile, seeds, epochs and data_dir of ``experiment.plan``.
    """
    gpu = find_gpu(gpu_name)
    plans = plans_without_data(pages, **settings)
    *items, reference = estimates([*works(plans), published_senet()], gpu)
    labels = dict.fromkeys(c.images.label for page in plans for c in page.comparisons)
    return f"""Profile {plans[0].profile} on {gpu}
Data: {"; ".join(labels)}

{table(items).to_string()}

{summary(items)}

{HOW}
{reference_line(reference)}"""


def table(items: Sequence[Estimate]) -> pd.DataFrame:
    """A row a model."""
    rows = [
        {
            "Model": item.work.title,
            "Data": item.work.data,
            "Pixels": item.work.experiment.recipe.image_size,
            "Batch": item.work.experiment.recipe.batch_size,
            "Training GMACs/image": round(3 * item.cost.macs / 1e9, 2),
            "Kept MiB/image": round(item.cost.kept / MIB, 1),
            "Weights x 3 MiB": round(item.cost.step_bytes(0) / MIB),
            "Memory GiB": round(item.memory, 1),
            "Images/s": round(1 / item.image_seconds),
            "s/epoch": round(item.epoch_seconds, 1),
            "Epochs": item.work.experiment.recipe.epochs,
            "Hours/run": round(item.seconds / item.work.runs / 3600, 2),
            "Runs": item.work.runs,
        }
        for item in items
    ]
    return pd.DataFrame(rows).set_index("Model")


def summary(items: Sequence[Estimate]) -> str:
    """Total time and largest memory, and a line for each model that does not fit."""
    largest = max(items, key=lambda item: item.memory)
    total = (
        f"{sum(item.work.runs for item in items)} runs, one after the other: about "
        f"{duration(sum(item.seconds for item in items))}; at most {largest.memory:.1f} GiB of "
        f"memory, for {largest.work.title}."
    )
    return "\n".join([total, *filter(None, (item.warning for item in items))])


def published_senet() -> Work:
    """The one run whose time a write-up recorded: SENet as published on all of CIFAR-10."""
    plans = plans_without_data(["01_se"], os.devnull, profile="paper", seeds=0)
    return next(work for work in works(plans) if work.title == SENET_PUBLISHED.title)


def reference_line(item: Estimate) -> str:
    """What the same arithmetic gives for ``published_senet``, beside the write-up's record."""
    recorded = float(np.mean(read_json(RECORD)["seconds"]))
    then = replace(item, gpu=DEFAULT, precision=None)
    return (
        f"Check: {item.work.title} comes to {then.epoch_seconds:.0f} s an epoch in float32 on a "
        f"{DEFAULT.name}; its write-up recorded {recorded:.0f} s on a GPU of that class."
    )


def announcement(plans: Sequence[Plan], names: Collection[str]) -> str:
    """What is said before the experiments of these names are trained.

    Without a GPU some steps are trained, to say how long all of it would take here.
    """
    gpu = find_gpu()
    items = estimates(works(plans, names), gpu)
    lines = [f"Estimate for {gpu}:", summary(items)]
    if not plans[0].device.startswith("gpu"):
        try:
            here = f"about {duration(seconds_here(items))}, from training steps measured just now."
        except TrainingError as error:  # training may meet the same, and will say so itself
            here = f"how long that takes is not known, {error}"
        lines.append(f"This machine trains on its processor: {here}")
    lines.append(
        "It can be stopped at any time (Ctrl-C) and goes on from the last finished epoch. How the "
        f"estimate is made: attn-book estimate --profile {plans[0].profile}"
    )
    return "\n".join(lines)


def seconds_here(items: Sequence[Estimate]) -> float:
    """Time of all runs on this processor.

    One model of each data set is measured; the others of it count by multiply-accumulates.
    """
    paces: dict[str, float] = {}
    total = 0.0
    for item in items:
        work = item.work
        if work.data not in paces:
            measured = _ask("step", [work])[0]["seconds"]
            paces[work.data] = measured / work.experiment.recipe.batch_size / item.cost.macs
        total += work.epochs * work.epoch_images * item.cost.macs * paces[work.data]
    return total


def duration(seconds: float) -> str:
    """In words, with two digits: an estimate has no more."""
    units = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
    unit, length = next((u for u in units if seconds >= 2 * u[1]), ("seconds", 1))
    count = seconds / length
    return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"


if __name__ == "__main__":
    main()
