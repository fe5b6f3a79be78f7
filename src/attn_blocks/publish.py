"""What the site shows: records and executed pages, copied out of the results and checked.

``book/published/<profile>/`` holds, for every finished run of the profile, its settings, history
and metrics; the two tables; and the executed notebooks. All of it is small text and figures, no
weights and no logs. A published folder explains itself: its tables and the site's are computed from
its records alone, without the images, and ``check`` finds what no longer fits.
"""

from __future__ import annotations

import base64
import io
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from PIL import Image

from attn_blocks import provenance
from attn_blocks.errors import AttnBlocksError, CheckpointError, choose
from attn_blocks.experiment import (
    OVERVIEW,
    PAGES,
    PROFILES,
    Comparison,
    Entry,
    Experiment,
    Plan,
    PlannedComparison,
    Recipe,
    results_folder,
)
from attn_blocks.files import sha256_of
from attn_blocks.reproduce import write_summary
from attn_blocks.results import PUBLISHED, READERS, RECORDS, Run, agreement, is_same, run_of
from attn_blocks.worker import Task, Worker

TABLES = ("summary.csv", "verdicts.csv")
LARGEST_NOTEBOOK = 1_500_000
# An absolute path names the machine that executed a page; an address or a fraction does not match.
MACHINE_PATH = re.compile(r"(?<![\w.:/<})\]])/[A-Za-z][\w.-]*/[\w.-]+")
LONGEST_RETRAINING = 15 * 60


class PublishError(AttnBlocksError):
    """Results that cannot be published, or published results that are wrong."""


# Records -> plans --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedImages:
    """What the records say of a data set; stands in for it where the images are not there."""

    name: str
    title: str
    label: str
    classes: tuple[str, ...]
    class_total: int
    train: range
    val: range


def recorded_plans(folder: Path) -> dict[str, Plan]:
    """The plan of every page as far as the runs below ``folder`` go, built from them alone.

    Args:
        folder: a profile's results or published folder; its name is the profile's.

    Returns:
        Page -> plan. A page none of whose comparisons has a run is left out, and so is a comparison
        without runs. The tables and figures of the package take these plans as any other.

    Raises:
        PublishError: runs of one comparison are on different images.
    """
    runs = _finished(folder)
    plans = {}
    for page, comparisons in PAGES.items():
        planned = [_planned(comparison, runs, folder.name) for comparison in comparisons]
        planned = [comparison for comparison in planned if comparison.experiments]
        if planned:
            plans[page] = _plan(page, folder, planned, runs)
    return plans


def _finished(folder: Path) -> dict[str, Run]:
    runs = [Run(path.parent) for path in sorted((folder / "runs").glob("*/metrics.json"))]
    return {run.folder.name: run for run in runs if run.status == "finished"}


def _entry(comparison: Comparison, what: Experiment, profile: str) -> Entry | None:
    """The entry of a comparison that an experiment belongs to, with the profile's very recipe."""
    for entry in comparison.entries:
        recipe: Recipe = PROFILES[profile].recipes[comparison.task]
        if profile == "paper":
            recipe = replace(recipe, **entry.paper_recipe)
        if (what.model, dict(what.options), what.recipe) == (
            entry.model, dict(entry.options), recipe,
        ) and what.dataset in (comparison.task, "shapes"):  # fmt: skip
            return entry
    return None


def _planned(comparison: Comparison, runs: dict[str, Run], profile: str) -> PlannedComparison:
    mine = [(_entry(comparison, run.experiment, profile), run) for run in runs.values()]
    mine = [(entry, run) for entry, run in mine if entry is not None]
    mine.sort(key=lambda pair: (comparison.entries.index(pair[0]), pair[1].experiment.seed))
    images = {run.experiment.fingerprint: _images(run) for _, run in mine}
    if len(images) > 1:
        labels = " and ".join(sorted(found.label for found in images.values()))
        raise PublishError(
            f"the runs of {comparison.task} are on different images: {labels}; keep one of them"
        )
    return PlannedComparison(
        comparison,
        next(iter(images.values()), None),
        PROFILES[profile].recipes[comparison.task],
        tuple((entry, run.experiment) for entry, run in mine),
    )


def _images(run: Run) -> RecordedImages:
    data = run.record["data"]
    return RecordedImages(
        run.experiment.dataset, data["title"], data["label"], tuple(data["classes"]),
        data["class_total"], range(data["train_images"]), range(data["validation_images"]),
    )  # fmt: skip


def _plan(
    page: str, folder: Path, planned: Sequence[PlannedComparison], runs: dict[str, Run]
) -> Plan:
    experiments = [what for comparison in planned for _, what in comparison.experiments]
    devices = {runs[what.name].record["compute"]["device"] for what in experiments}
    return Plan(
        page=page,
        profile=folder.name,
        seeds=tuple(sorted({what.seed for what in experiments})),
        device=" and ".join(sorted(devices)),
        data_dir=Path("data"),
        results_dir=folder,
        comparisons=tuple(planned),
    )


def lacking(plan: Plan) -> list[str]:
    """What a page shows and the records do not hold: a line for each missing run."""
    lines = []
    for comparison in PAGES[plan.page]:
        planned = [c for c in plan.comparisons if c.comparison == comparison]
        there = {(e.title, what.seed) for c in planned for e, what in c.experiments}
        lines += [
            f"{entry.title} on {comparison.task}, seed {seed}"
            for entry in comparison.entries
            for seed in plan.seeds
            if (entry.title, seed) not in there
        ]
    return lines


# Publishing --------------------------------------------------------------------------------------


def publish(
    profile: str, results_dir: str | Path | None = None, published: Path = PUBLISHED
) -> list[str]:
    """Add a profile's finished runs and executed pages to what is published.

    Runs that were published before stay, so that several machines can add to one study. A run is
    left out when its code has changed since, when it follows another recipe than the profile's, or
    when newer runs of its comparison are on other images. A page is left out while it was not
    executed, or one of its runs is not there.

    Args:
        profile: a name of ``PROFILES``.
        results_dir: see ``experiment.results_folder``.
        published: the folder that holds the published profiles.

    Returns:
        A line for each thing that was left out, with the reason.

    Raises:
        PublishError: there is nothing to publish, or what was put together does not pass ``check``;
            what was published before is then left as it was.
    """
    source = results_folder(results_dir) / choose("profile", profile, PROFILES)
    target = published / profile
    with _replacing(target) as staging:
        notes = _copy_runs([target, source], staging)
        plans = recorded_plans(staging)
        if not plans:
            raise PublishError(
                "\n".join([*notes, f"no finished run of the profile {profile} in {source}; "
                           f"run: make reproduce-all PROFILE={profile}"])
            )  # fmt: skip
        write_summary(list(plans.values()))
        _draw_gains(plans)
        for page in PAGES:
            notes += _copy_notebook(page, plans.get(page), [source, target], staging)
        problems = _problems_of(staging)
        if problems:
            raise PublishError("\n".join(problems))
    return list(dict.fromkeys(notes))


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A fresh folder of the same name that takes the target's place if nothing goes wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=target.parent) as temporary:
        staging = Path(temporary) / target.name
        staging.mkdir()
        yield staging
        if target.exists():
            target.rename(Path(temporary) / "replaced")
        staging.rename(target)


def _copy_runs(sources: Sequence[Path], staging: Path) -> list[str]:
    """Copy the records of all runs that can be shown, from later sources over earlier ones.

    A later run with the same numbers changes nothing: pages were executed on the earlier record.
    """
    notes, chosen = [], {}
    for run in (run for source in sources for run in _finished(source).values()):
        reason = _unfit(run, staging.name)
        known = chosen.get(run.folder.name)
        if reason:
            notes.append(f"left out {run.folder.name}: {reason}")
        elif known is None or not is_same(known, run):
            chosen[run.folder.name] = run
    newest = {}
    for run in sorted(chosen.values(), key=lambda run: run.metrics["finished"]):
        newest[_task(run, staging.name)] = run
    for name, run in chosen.items():
        shown = newest[_task(run, staging.name)]
        if run.experiment.fingerprint != shown.experiment.fingerprint:
            label = shown.record["data"]["label"]
            notes.append(f"left out {name}: newer runs of its comparison are on {label}")
            continue
        (staging / "runs" / name).mkdir(parents=True)
        for record in RECORDS:
            shutil.copyfile(run.folder / record, staging / "runs" / name / record)
    return notes


def _unfit(run: Run, profile: str) -> str | None:
    """Why a finished run cannot be shown, or None."""
    changed = provenance.changed_sources(run.record["sources"])
    if changed:
        return f"{', '.join(changed)} changed since it was made"
    if run.experiment.name != run.folder.name:
        return f"its settings are those of {run.experiment.name}"
    if _task(run, profile) is None:
        return f"it follows no recipe of the profile {profile}"
    return None


def _task(run: Run, profile: str) -> str | None:
    comparisons = [comparison for page in PAGES.values() for comparison in page]
    return next((c.task for c in comparisons if _entry(c, run.experiment, profile)), None)


def _draw_gains(plans: dict[str, Plan]) -> None:
    """The figure that opens the README: each block's gain over ResNet-50."""
    from attn_blocks import plots  # matplotlib takes a while to load, and a check draws nothing

    plan = plans.get(OVERVIEW)
    if plan and "animals10" in [comparison.task for comparison in plan.comparisons]:
        plots.show(plan.alone("animals10"), plots.gain_forest(plan), "gains")


def _copy_notebook(
    page: str, plan: Plan | None, sources: Sequence[Path], staging: Path
) -> list[str]:
    """Copy a page from the first source whose execution shows the published runs."""
    reasons = []
    for path in [source / "notebooks" / f"{page}.ipynb" for source in sources]:
        if not path.exists():
            continue
        notebook = nbformat.read(path, as_version=4)
        executed = notebook.metadata.get("papermill", {}).get("end_time")
        if executed and plan:
            notebook = cleaned(notebook)
            notebook.metadata["attn_blocks"] = {"executed": executed, "runs": _digests(plan)}
        reasons = _notebook_problems(page, notebook, plan)
        if not reasons:
            target = staging / "notebooks" / path.name
            target.parent.mkdir(exist_ok=True)
            nbformat.write(notebook, target)
            return []
    if not reasons and plan:
        reasons = [f"it is not executed; run: make reproduce-{page} PROFILE={staging.name}"]
    return [f"left out page {page}: {reason}" for reason in reasons]


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook without what belongs to the machine that ran it.

    Away go warnings and progress bars (stderr), papermill's and the kernel's notes, the folders
    among the parameters, and plain text where there is something better to show. Figures are packed
    tighter, pixel for pixel the same.
    """
    notebook = nbformat.from_dict(notebook)
    kept = ("kernelspec", "language_info")
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in kept}
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if "injected-parameters" in tags:
            lines = cell.source.splitlines()
            cell.source = "\n".join(line for line in lines if not re.match(r"\w+_dir\b", line))
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for data in (output.data for output in cell.get("outputs", ()) if "data" in output):
            if len(data) > 1:
                data.pop("text/plain", None)
            if "image/png" in data:
                data["image/png"] = _packed(data["image/png"])
    return notebook


def _packed(png: str) -> str:
    """A figure in the 256 colours that suit it best: a third of the size, and looks the same."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        image.convert("RGB").quantize(256).save(stream, "PNG", optimize=True)
    return min(png, base64.b64encode(stream.getvalue()).decode(), key=len)


def _digests(plan: Plan) -> dict[str, str]:
    """The runs of a page, each with the beginning of its metrics' SHA-256."""
    return {
        what.name: sha256_of(run_of(plan, what).folder / "metrics.json")[:12]
        for what in plan.experiments
    }


# Checking ----------------------------------------------------------------------------------------


def check(published: Path = PUBLISHED) -> list[str]:
    """What is wrong with the published results: a line for each problem, none if all is well.

    Every run must be finished, agree with itself and come from today's code; both tables must be
    what the records give; every page must show the runs that are published, and no folder of the
    machine that executed it.
    """
    folders = sorted(path for path in published.glob("*/") if not path.name.startswith("."))
    return [f"{folder.name}: {problem}" for folder in folders for problem in _problems_of(folder)]


def _problems_of(folder: Path) -> list[str]:
    if folder.name not in PROFILES:
        return [f"is not a profile; choose one of: {', '.join(PROFILES)}"]
    problems = [
        f"run {path.name}: {problem}"
        for path in sorted((folder / "runs").glob("*/"))
        for problem in _run_problems(Run(path), folder.name)
    ]
    if problems:
        return problems
    try:
        plans = recorded_plans(folder)
    except PublishError as error:
        return [str(error)]
    problems += _table_problems(folder)
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        page, notebook = path.stem, nbformat.read(path, as_version=4)
        problems += [
            f"page {page}: {problem}"
            for problem in _notebook_problems(page, notebook, plans.get(page))
        ]
    return problems


def _run_problems(run: Run, profile: str) -> list[str]:
    """What is wrong with a run's records: names, status, sources, and numbers among themselves."""
    names = sorted(path.name for path in run.folder.iterdir())
    if names != sorted(RECORDS):
        return [f"holds {', '.join(names)} instead of {', '.join(RECORDS)}"]
    try:
        for name in RECORDS:
            READERS[name](run.folder / name)
    except CheckpointError as error:
        return [str(error)]
    if run.status != "finished":
        return [f"is {run.status}"]
    unfit = _unfit(run, profile)
    problems = [unfit] if unfit else []
    metrics, accuracy = run.metrics, run.history["val_acc"]
    if len(accuracy) != run.experiment.recipe.epochs:
        problems.append(f"its history has {len(accuracy)} epochs")
        return problems
    best = int(np.argmax(accuracy))
    confusion = run.confusion
    computed = {
        "final_val_acc": accuracy[-1],
        "best_val_acc": accuracy[best],
        "best_epoch": best + 1,
        "seconds": round(float(run.history["seconds"].sum()), 1),
    }
    problems += [
        f"{name} is {metrics[name]}, its history gives {value}"
        for name, value in computed.items()
        if metrics[name] != value
    ]
    if abs(np.trace(confusion) / confusion.sum() - accuracy[-1]) > 1e-9:
        problems.append("its confusion matrix does not give its final accuracy")
    return problems


def _table_problems(folder: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / folder.name
        shutil.copytree(folder / "runs", again / "runs")
        write_summary(list(recorded_plans(again).values()))
        return [
            f"{name} is not what the records give; run: make publish PROFILE={folder.name}"
            for name in TABLES
            if not (folder / name).exists()
            or (folder / name).read_bytes() != (again / name).read_bytes()
        ]


def _notebook_problems(page: str, notebook: nbformat.NotebookNode, plan: Plan | None) -> list[str]:
    """What keeps an executed page from being shown beside the records."""
    if plan is None:
        return ["none of its runs is published"]
    missing = lacking(plan)
    if missing:
        return [f"no run of {line} is published" for line in missing]
    again = f"run: make reproduce-{page} PROFILE={plan.profile}"
    stamp = notebook.metadata.get("attn_blocks", {})
    if stamp.get("runs") != _digests(plan):
        return [f"it shows other runs than those that are published; {again}"]
    finished = max(run_of(plan, what).metrics["finished"] for what in plan.experiments)
    if stamp["executed"] < finished:
        return [f"it was executed before its last run was finished; {again}"]
    texts, images = _contents(notebook)
    if not any(plan.provenance in text for text in texts):
        return [f"it does not say of its results: {plan.provenance}; {again}"]
    problems = [
        f"names a folder of the machine that executed it: {found.group()}"
        for text in texts
        for found in MACHINE_PATH.finditer(text)
    ]
    size = len(nbformat.writes(notebook).encode())
    if size > LARGEST_NOTEBOOK:
        largest = max(images.values(), default=0)
        problems.append(
            f"has {size / 1e6:.1f} MB, more than {LARGEST_NOTEBOOK / 1e6} (its largest figure has "
            f"{largest / 1e6:.1f}, from: {max(images, key=images.get, default='')}); show fewer or "
            "smaller pictures in it, or lower figure.dpi in plots.STYLE"
        )
    return problems


def _contents(notebook: nbformat.NotebookNode) -> tuple[list[str], dict[str, int]]:
    """All texts of a notebook, and the sizes of its figures by the cell's last line."""
    texts, images = [], {}
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", ()):
            texts.append(output.get("text", ""))
            for kind, value in output.get("data", {}).items():
                if kind.startswith("image/"):
                    images[cell.source.splitlines()[-1]] = len(value)
                else:
                    texts.append(str(value))
    return texts, images


# Training a published run again ------------------------------------------------------------------


def retrain(name: str | None = None, published: Path = PUBLISHED, data_dir: Any = None) -> str:
    """Train a published run again, in a process with its number of threads, and compare.

    Args:
        name: the run's name; None for one that took at most 15 minutes, at random.
        published: the folder that holds the published profiles.
        data_dir: see ``datasets.data_folder``.

    Returns:
        A sentence: identical to the last bit, or how far the final accuracy is off.

    Raises:
        PublishError: there is no such run, or the training failed.
        CheckpointError: the final accuracy differs by more than ``results.tolerance``.
    """
    runs = {}
    for folder in sorted(published.glob("*/")):
        runs |= _finished(folder)
    if name is None:
        short = [n for n, run in runs.items() if run.metrics["seconds"] <= LONGEST_RETRAINING]
        if not short:
            raise PublishError("no published run is short enough to be trained again")
        name = random.choice(short)
    known = runs[choose("published run", name, runs)]
    compute = known.record["compute"]
    with tempfile.TemporaryDirectory() as temporary:
        request = {
            "experiment": known.experiment.to_dict(),
            "results_dir": temporary,
            "data_dir": data_dir and str(data_dir),
            "device": compute["device"],
        }
        environment = os.environ | {"OMP_NUM_THREADS": str(compute["threads"])}
        folder = Path(temporary)
        task = Task(name, "train", request, folder, ".claim", None, lambda: False)
        _, error = Worker(task, environment).answer()
        ours = Run(folder / "runs" / name)
        if error or ours.status != "finished":
            reason = error or ours.metrics["reason"]
            raise PublishError(f"{name} could not be trained again: {reason}")
        return agreement(known, ours)
