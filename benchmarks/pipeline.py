"""What surrounds the training step: jobs side by side, the loader, memory, pages and saving.

    python benchmarks/pipeline.py [jobs data memory] [--rounds 5]
    python benchmarks/pipeline.py reproduce          # a whole quick book: twenty minutes

Everything is measured on the networks, recipes and images of the quick profile, and every figure
is set against another one of the same run. Writes ``pipeline.csv`` and, for ``reproduce``,
``reproduce.csv``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import common
from common import Worker

from attn_blocks import datasets, device
from attn_book.driver import reproduce, schedule
from attn_book.records import planned
from attn_book.study import plan as planning
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GUIDES, PAGES
from attn_book.study.plan import Plan
from attn_book.training import compute as computing

PARTS = ("jobs", "data", "memory")
PAGE = "09_comparison"  # it has every model of the book
# One network of each task, by its title: what the jobs train.
JOBS = {
    "animals10": "ResNet-50",
    "cifar10": "SENet as intended",
    "caltech16": "SA-Residual-Inception",
}
TURN = 1.5  # seconds
WORDS = {
    "title": "Jobs, loader and memory",
    "about": "Networks, recipes and images of the quick profile. Two jobs run the same network in "
    "two processes; their images a second are added.",
}
REPRODUCE_WORDS = {
    "title": "What a whole quick book takes beside training",
    "about": "make reproduce-all PROFILE=quick from nothing, phase by phase, and once more with "
    "nothing left to do.",
}


def row(
    experiment: str, value: float, unit: str, against: str, base: float, goal: str = "–"
) -> dict[str, object]:
    """A line of the table: something measured, what it is set against, and the ratio of the two."""
    shown = {"what": experiment, "value": number(value), "unit": unit, "against": against}
    shown |= {"base": number(base), "ratio": number(value / base), "goal": goal}
    common.show(shown)
    return shown


def number(value: float) -> str:
    """Three digits, or from 100 on one after the point: what was measured is never shown as 0."""
    return f"{value:,.1f}" if value >= 100 else f"{value:.3g}"


# A worker's side ---------------------------------------------------------------------------------


def build(experiment: dict, data_dir: str) -> tuple[common.Steps, dict]:
    """Steps of one experiment: train on the next batch, load it only, save a checkpoint."""
    import paddle

    from attn_book.training import build, checkpoint

    paddle.set_device("cpu")
    asked = Experiment.from_dict(experiment)
    images = planning.load_images(asked.dataset, asked.recipe, data_dir)
    computing.seed_everything(asked.seed)
    model = build.build_model(asked, len(images.classes))
    model.train()
    optimiser = build.build_optimizer(model, asked.recipe)
    loader, _ = build.build_loaders(images, asked.recipe, asked.seed)
    training, loading = batches(loader), batches(loader)
    folder = Path(tempfile.mkdtemp(prefix="attn-blocks-bench-"))

    def train_step() -> None:
        pixels, labels = map(paddle.to_tensor, next(training))
        loss = paddle.nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimiser.step()
        optimiser.clear_grad()
        float(loss)

    def save() -> None:
        path = folder / "last.safetensors"
        checkpoint.save_checkpoint(path, model, 1, optimizer=optimiser)
        path.unlink()

    steps = {"train": train_step, "load": lambda: next(loading), "save": save}
    return steps, {"batches": len(loader)}


def batches(loader: datasets.Loader) -> Iterator[datasets.loader.Batch]:
    """The batches of one epoch after the other, without end."""
    for epoch in itertools.count():
        yield from loader.epoch(epoch)


def read_all(name: str, short_side: int, data_dir: str) -> dict[str, float]:
    """Read every image of a data set once; what that cost this process, in MB.

    ``grown`` is memory of its own, ``copied`` the part of the mapped pixels that is not shared.
    """
    images = datasets.load(name, data_dir, short_side=short_side).train
    transform = datasets.create_transform("pad_crop", short_side, (0.5,) * 3, (0.5,) * 3, True)
    loader = datasets.Loader(images, 32, transform)
    next(iter(loader.epoch(0)))  # what a loader of any length needs
    before = own_memory()
    for _ in loader.epoch(1):
        pass
    return {
        "set": images.pixels.nbytes / 1e6,
        "grown": own_memory() - before,
        "copied": copied("pixels.u8"),
    }


def own_memory() -> float:
    """Memory of this process alone that no file backs, MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"RssAnon:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def copied(name: str) -> float:
    """How much of the mapped file ``name`` this process holds for itself, MB."""
    smaps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.MULTILINE)
    found = [part for part in parts if part.partition("\n")[0].endswith(f"/{name}")]
    if not found:
        raise RuntimeError(f"{name} is not mapped into memory")
    fields = re.findall(r"^Anonymous:\s*(\d+) kB", "".join(found), re.MULTILINE)
    return sum(map(int, fields)) * 1024 / 1e6


def build_any(part: str, **arguments: object) -> tuple[common.Steps, dict]:
    return ({}, read_all(**arguments)) if part == "memory" else build(**arguments)


def worker(threads: int) -> Worker:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return Worker([sys.executable, __file__, "--serve"], environment)


# The measurements --------------------------------------------------------------------------------


def chosen(plan: Plan, task: str, title: str) -> Experiment:
    return next(
        experiment
        for entry, experiment in plan.comparison(task).experiments
        if entry.title == title
    )


def measure_jobs(plan: Plan, rounds: int) -> list[dict]:
    """Two jobs of one thread beside one job of one thread and one of two."""
    rows = []
    with worker(1) as first, worker(1) as second, worker(2) as wide:
        for task, title in JOBS.items():
            experiment = chosen(plan, task, title)
            for side in (first, second, wide):
                side.build(
                    part="jobs", experiment=experiment.to_dict(), data_dir=str(plan.data_dir)
                )
            batch = experiment.recipe.batch_size

            def alone(side: Worker, batch: int = batch) -> float:
                return batch / side.turn("train", TURN)

            def together(batch: int = batch) -> float:
                for side in (first, second):
                    side.begin("train", 2 * TURN)
                return sum(batch / side.finish() for side in (first, second))

            found = common.in_turns([together, partial(alone, first), partial(alone, wide)], rounds)
            total, one, two = (common.middle(found, side) for side in range(3))
            words = f"two jobs of one thread, {title}"
            rows.append(row(words, total, "images/s", "one job of one thread", one, "1.6 or more"))
            rows.append(row(words, total, "images/s", "one job of two threads", two))
    return rows


def measure_data(plan: Plan, rounds: int) -> list[dict]:
    """The loader of each task beside the fastest network that trains on it, on all cores."""
    rows = []
    with worker(device.cores()) as side:
        for comparison in plan.comparisons:
            recipe = comparison.recipe

            def speed(step: str, batch: int = recipe.batch_size) -> float:
                return batch / side.turn(step, TURN)

            def ready(experiment: Experiment) -> dict:
                return side.build(
                    part="data", experiment=experiment.to_dict(), data_dir=str(plan.data_dir)
                )

            speeds = {}
            for entry, experiment in comparison.experiments:
                ready(experiment)
                common.in_turns([partial(speed, "train")], 1)
                speeds[entry.title] = speed("train")
            title = max(speeds, key=speeds.get)
            steps = ready(chosen(plan, comparison.task, title))["batches"]
            found = common.in_turns([partial(speed, "load"), partial(speed, "train")], rounds)
            loaded, trained = common.middle(found, 0), common.middle(found, 1)
            words = f"loader with {recipe.augmentation}, {recipe.image_size} pixels"
            against = f"training the fastest network, {title}"
            rows.append(row(words, loaded, "images/s", against, trained, "5 or more"))
            saves = common.in_turns([partial(side.turn, "save", 0.5)], rounds)
            epoch = steps * recipe.batch_size / trained
            words = f"two checkpoints an epoch, {title}"
            against = "training steps of an epoch"
            rows.append(
                row(words, 2 * common.middle(saves, 0), "s", against, epoch, "less than 0.1")
            )
    return rows


def measure_memory(plan: Plan, rounds: int) -> list[dict]:
    """What two workers that read the same decoded images hold of them for themselves."""
    comparison = plan.comparison("animals10")
    asked = {
        "part": "memory",
        "name": comparison.images.name,
        "short_side": comparison.recipe.stored_side,
        "data_dir": str(plan.data_dir),
    }
    with worker(1) as first, worker(1) as second:
        first.build(**asked)
        found = second.build(**asked)
    words, against = f"reads all of {comparison.images.title}", "the decoded images"
    return [
        row(
            f"pixels that a worker copies while it {words}",
            found["copied"],
            "MB",
            against,
            found["set"],
            "0",
        ),
        row(
            f"own memory of a worker, grown while it {words}",
            found["grown"],
            "MB",
            against,
            found["set"],
            "less than 1",
        ),
    ]


MEASURES: dict[str, Callable[[Plan, int], list[dict]]] = {
    "jobs": measure_jobs,
    "data": measure_data,
    "memory": measure_memory,
}


def reproduce_all(settings: dict[str, object]) -> tuple[float, float, str]:
    """Run the command; seconds until its last run was trained, seconds in all, and what it said."""
    call = [sys.executable, "-m", "attn_book", "reproduce"]
    for name, value in settings.items():
        call += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    said, start, trained = [], time.perf_counter(), 0.0
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            said.append(line)
            if re.match(r"\[ *\d+/\d+\] ", line):  # a run is trained
                trained = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(call)} failed; its messages are above")
    return trained, time.perf_counter() - start, "".join(said)


def page_seconds(page: Path) -> float:
    """How long a page took to execute, its kernel's start and end included."""
    return json.loads(page.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"]


def measure_reproduce(settings: dict[str, object]) -> list[dict]:
    """A whole book from nothing, phase by phase, and a second call that finds it finished."""
    training, whole, _ = reproduce_all(settings)
    _, second, said = reproduce_all(settings)
    plans = [planning.plan(page, **settings) for page in PAGES]
    jobs = reproduce.job_count("auto", plans[0])
    runs = {
        experiment.name: planned.run_of(plans[0], experiment)
        for p in plans
        for experiment in p.experiments
    }
    steps = sum(run.metrics["seconds"] for run in runs.values()) / jobs
    # From the description of a run, written when it begins, to its results, written at its end.
    loops = (
        sum(
            (run.folder / "metrics.json").stat().st_mtime
            - (run.folder / "experiment.json").stat().st_mtime
            for run in runs.values()
        )
        / jobs
    )
    pages = sum(map(page_seconds, plans[0].results_dir.glob("notebooks/*.ipynb"))) / jobs
    loop = f"training and validation, {jobs} at once"
    peak = max(run.metrics["peak_memory_mb"] for run in runs.values())
    after = "notebooks, papermill, plots and tables after the last run"
    rows = [
        row("validation and saving", loops - steps, "s", "training steps", steps),
        row("start and end of the runs' processes", training - loops, "s", loop, loops),
        row(f"pages, {jobs} at once, of which some beside the last runs", pages, "s", loop, loops),
        row(after, whole - training, "s", loop, loops, "0.1 or less"),
        row("whole command", whole, "s", loop, loops),
        row("highest memory of a run", peak, "MB", "two gigabytes", 2000, "1 or less"),
    ]
    if schedule.up_to_date(len(PAGES) + len(GUIDES)) in said:
        rows.append(row("second call", second, "s", "ten seconds", 10, "1 or less"))
    else:  # the package was edited meanwhile
        print(f"The second call did something and is left out:\n{said}", file=sys.stderr)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    if "--serve" in (sys.argv if arguments is None else arguments):
        common.serve(build_any)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (these by default), reproduce"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed turns a side (%(default)s)")
    parser.add_argument("--data-dir", type=Path, help="the data folder, see attn-book data")
    parser.add_argument("--epochs", type=int, help="of reproduce, in place of the recipes'")
    parser.add_argument(
        "--results-dir",
        type=Path,
        help="an empty folder in which reproduce makes "
        "its book, to be kept; a temporary one by default",
    )
    parser.add_argument("--results", type=Path, help=common.FOLDERS)
    options = parser.parse_args(arguments)
    asked = options.parts or PARTS
    if unknown := set(asked) - {*PARTS, "reproduce"}:
        parser.error(f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}, reproduce")
    settings = {"profile": "quick", "data_dir": options.data_dir}
    told = {"threads": device.cores()}
    parts = [part for part in PARTS if part in asked]
    if parts:
        told["folder"] = common.results_folder(options.results, len(parts) == len(PARTS))
        plan = planning.plan(PAGE, **settings)
        rows = [line for part in parts for line in MEASURES[part](plan, options.rounds)]
        command = f"python benchmarks/pipeline.py {' '.join(parts)} --rounds {options.rounds}"
        print(common.record("pipeline", rows, command, **told, **WORDS))
    if "reproduce" in asked:
        with ExitStack() as stack:
            folder = options.results_dir or stack.enter_context(
                tempfile.TemporaryDirectory(prefix="attn-blocks-bench-")
            )
            settings |= {"results_dir": folder, "epochs": options.epochs}
            rows = measure_reproduce(settings)
        epochs = f" --epochs {options.epochs}" if options.epochs else ""
        told["folder"] = common.results_folder(options.results, not options.epochs)
        command = f"python benchmarks/pipeline.py reproduce{epochs}"
        print(common.record("reproduce", rows, command, **told, **REPRODUCE_WORDS))


if __name__ == "__main__":
    main()
