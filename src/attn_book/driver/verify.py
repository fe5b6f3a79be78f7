"""What is published, checked: records, tables and pages; one run trained again."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from attn_blocks.errors import CheckpointError, SettingError, choose, reason_of
from attn_blocks.files import PROJECT, sha256_of
from attn_book.analysis import verdicts
from attn_book.driver.numbers import other_numbers
from attn_book.driver.processes import Task, Worker
from attn_book.driver.summary import write_summary
from attn_book.language import ENGLISH, LANGUAGES, in_language, language, speaking
from attn_book.records import faults, first_study, full_size
from attn_book.records.logits import fits, read_logits
from attn_book.records.published import PUBLISHED, WEIGHTS_FOLDER, PublishError
from attn_book.records.reading import RECORDS
from attn_book.records.recorded import entry_of, finished_runs, lacking, recorded_plans
from attn_book.records.repair import READERS
from attn_book.records.reproduction import check_reproduction
from attn_book.records.run import Run, folders_in
from attn_book.records.seal import broken_seals
from attn_book.records.semantics import changed_parts
from attn_book.study.design import EXTRA
from attn_book.study.pages import GUIDES, PAGES
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

TABLES = ("summary.csv", "verdicts.csv")
LARGEST_NOTEBOOK = 1_500_000
# An absolute path names the machine that executed a page; an address or a fraction does not match.
MACHINE_PATH = re.compile(r"(?<![\w.:/<})\]])/[A-Za-z][\w.-]*/[\w.-]+")
SHOWN_KINDS = ("text/plain", "text/markdown", "text/html", "text/latex", "image/png")
ACTIVE = re.compile(
    r"<\s*/?\s*(?:script|iframe|object|embed|link|meta|base|form|svg)\b"
    r"|<[^>]*[\s/]on\w+\s*="
    r"|javascript:",
    re.IGNORECASE,
)
LONGEST_RETRAINING = 15 * 60
FIRST_PUBLISH = "run: make reproduce-all PROFILE=quick, then: make publish PROFILE=quick"


def why_unfit(run: Run, profile: str) -> str | None:
    """Why a run that has ended cannot be shown, or None."""
    try:
        changed = changed_parts(run.record["semantics"], run.experiment)
    except SettingError as error:  # a network of the reader's own
        return str(error)
    if changed:
        return f"{', '.join(changed)} changed since it was made"
    if run.experiment.name != run.folder.name:
        return f"its settings are those of {run.experiment.name}"
    if task_of(run, profile) is None:
        return f"it follows no recipe of the profile {profile}"
    return None


def task_of(run: Run, profile: str) -> str | None:
    comparisons = [comparison for page in (*PAGES.values(), *EXTRA.values()) for comparison in page]
    return next((c.task for c in comparisons if entry_of(c, run.experiment, profile)), None)


def digests(plan: Plan) -> dict[str, str]:
    """The runs that a page shows or judges by, each with the beginning of its metrics' SHA-256."""
    return {
        run.folder.name: sha256_of(run.folder / "metrics.json")[:12]
        for run in verdicts.runs_behind(plan)
    }


def check(published: Path = PUBLISHED) -> list[str]:
    """What is wrong with the published results: a line for each problem, none if all is well.

    Every file must be as it was published, and there must be no other. Every run must have finished
    or diverged, be consistent and of today's semantics; both tables must be what the records give;
    every page must show the runs that are published, nothing that a browser would run, and no
    folder of the machine that executed it. A folder in which nothing is published is a problem.
    """
    found = sorted(published.iterdir()) if published.is_dir() else []
    problems = [f"{path.name}: {problem}" for path in found for problem in problems_of(path)]
    if not problems and not any(path.name in PROFILES for path in found):
        return [f"nothing is published in {published}; {FIRST_PUBLISH}"]
    return problems


def problems_of(folder: Path) -> list[str]:
    """What is wrong with a published folder: a profile's, or one of records of another form."""
    if not folder.is_dir():
        return ["does not belong to what was published"]
    for others in (full_size, first_study):
        if folder.name == others.FOLDER:
            return others.problems(folder)
    if left := re.fullmatch(r"\.(\w+)\..+\.tmp", folder.name):  # see ``files.atomic_folder``
        again = f"make publish PROFILE={left[1]}"
        return [f"was left by an interrupted publish; to put that right, run: {again}"]
    if folder.name not in PROFILES:
        return [f"is not a profile; choose one of: {', '.join(PROFILES)}"]
    seals = broken_seals(folder)
    problems = [
        f"run {path.name}: {problem}"
        for path in folders_in(folder / "runs")
        for problem in _run_problems(Run(path), folder.name)
    ]
    if problems:
        return seals + problems
    try:
        plans = recorded_plans(folder)
    except PublishError as error:
        return [*seals, str(error)]
    if not finished_runs(folder):
        return [*seals, f"no finished run is published; {FIRST_PUBLISH}"]
    problems += [
        f"{path.name} are weights of no run that is published"
        for path in sorted((folder / WEIGHTS_FOLDER).glob("*"))
        if path.stem not in finished_runs(folder)
    ]
    problems += faults.problems(folder)
    problems += _table_problems(folder)
    for chosen in LANGUAGES:
        for path in sorted(in_language(folder / "notebooks", chosen).glob("*.ipynb")):
            page = path.stem if chosen == ENGLISH else f"{path.stem} in {chosen}"
            with speaking(chosen):
                found = _page_problems(path, plans.get(path.stem))
            problems += [f"page {page}: {problem}" for problem in found]
    return seals + problems


def _page_problems(path: Path, plan: Plan | None) -> list[str]:
    """What is wrong with a page in today's language."""
    try:
        page = read_page(path)
        problems = notebook_problems(path.stem, page, plan)
        english = path.parents[1] / path.name
        if language() != ENGLISH and english.exists():
            problems += other_numbers(read_page(english), page)
        return problems
    except CheckpointError as error:
        return [str(error)]


def _run_problems(run: Run, profile: str) -> list[str]:
    """What is wrong with a run's records: names, status, sources, and numbers among themselves."""
    names = sorted(path.name for path in run.folder.iterdir() if path.is_file())
    if run.diverged and "experiment.json" in names and set(names) < set(RECORDS):
        return _diverged_problems(run, profile)
    if names != sorted(RECORDS):
        return [f"holds {', '.join(names)} instead of {', '.join(RECORDS)}"]
    try:
        for name in RECORDS:
            READERS[name](run.folder / name)
    except CheckpointError as error:
        return [str(error)]
    if run.status != "finished":
        return [f"is {run.status}"]
    unfit = why_unfit(run, profile)
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
    if not fits(*read_logits(run.folder / "logits.safetensors"), confusion):
        problems.append("its logits do not give its confusion matrix")
    return problems


def _diverged_problems(run: Run, profile: str) -> list[str]:
    """What is wrong with the records of a run that diverged, which end where it did."""
    try:
        for path in sorted(run.folder.iterdir()):
            READERS[path.name](path)
    except CheckpointError as error:
        return [str(error)]
    unfit = why_unfit(run, profile)
    return [unfit] if unfit else []


def _table_problems(folder: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / folder.name
        shutil.copytree(folder / "runs", again / "runs")
        write_summary(again, list(recorded_plans(again).values()))
        return [
            f"{name} is not what the records give; run: make publish PROFILE={folder.name}"
            for name in TABLES
            if not (folder / name).exists()
            or (folder / name).read_bytes() != (again / name).read_bytes()
        ]


def read_page(path: Path) -> nbformat.NotebookNode:
    """A notebook; what is none, or is damaged, raises CheckpointError."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # damage makes nbformat raise anything
        reason = reason_of(error).splitlines()[0]
        raise CheckpointError(
            f"{path.name} is no whole notebook ({reason}); execute the page and publish it again"
        ) from error
    return notebook


def notebook_problems(page: str, notebook: nbformat.NotebookNode, plan: Plan | None) -> list[str]:
    """What keeps an executed page from being shown beside the records."""
    if page in GUIDES:
        return _guide_problems(page, notebook)
    if plan is None:
        return ["none of its runs is published"]
    missing = lacking(plan)
    if missing:
        return [f"no run of {line} is published" for line in missing]
    again = f"run: make reproduce-{page} PROFILE={plan.profile}"
    stamp = notebook.metadata.get("attn_blocks")
    try:
        runs, executed = stamp["runs"], _time(stamp["executed"])
    except (KeyError, TypeError, ValueError):
        return [f"its stamp, of what it shows and when it was executed, is {stamp!r}; {again}"]
    if runs != digests(plan):
        return [f"it shows other runs than those that are published; {again}"]
    if executed < max(_time(run.metrics["finished"]) for run in verdicts.runs_behind(plan)):
        return [f"it was executed before its last run was finished; {again}"]
    if not any(plan.provenance in text for text in _contents(notebook)[0]):
        return [f"it does not say of its results: {plan.provenance}; {again}"]
    return _unfit_contents(notebook)


def _guide_problems(guide: str, notebook: nbformat.NotebookNode) -> list[str]:
    """What keeps an executed guide from being shown: it must be of today's text and code."""
    again = f"run: make reproduce-{guide} PROFILE=quick"
    stamp = notebook.metadata.get("attn_blocks")
    try:
        _time(stamp["executed"])
    except (KeyError, TypeError, ValueError):
        return [f"its stamp, of when it was executed, is {stamp!r}; {again}"]
    source = read_page(PROJECT / "notebooks" / f"{guide}.ipynb")
    cells, today = ([cell.source for cell in n.cells] for n in (notebook, source))
    if cells != today:
        return [f"it is another text than notebooks/{guide}.ipynb; {again}"]
    return _unfit_contents(notebook)


def _unfit_contents(notebook: nbformat.NotebookNode) -> list[str]:
    """What no page may hold: what a browser would run, a machine's folders, too many pictures."""
    texts, images = _contents(notebook)
    problems = [f"holds what a browser would run: {found!a}" for found in _active(notebook)]
    problems += [
        f"names a folder of the machine that executed it: {found.group()}"
        for text in texts
        for found in MACHINE_PATH.finditer(text)
    ]
    size = len(nbformat.writes(notebook).encode())
    if size > LARGEST_NOTEBOOK:
        largest, cell = max(((n, cell) for cell, n in images.items()), default=(0, ""))
        problems.append(
            f"has {size / 1e6:.1f} MB, more than {LARGEST_NOTEBOOK / 1e6} (its largest figure has "
            f"{largest / 1e6:.1f}, from: {cell}); show fewer or smaller pictures in it, or lower "
            "figure.dpi in plots.STYLE"
        )
    return problems


def _time(text: str) -> datetime:
    """A date with its time; one without a zone is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _active(notebook: nbformat.NotebookNode) -> list[str]:
    """What a browser would run in the site's page: scripts, and outputs of unusual kinds."""
    found = []
    for cell in notebook.cells:
        markup = [cell.source] if cell.cell_type != "code" else []
        for kind, value in (
            item for output in cell.get("outputs", ()) for item in output.get("data", {}).items()
        ):
            if kind not in SHOWN_KINDS:
                found.append(kind)
            elif kind in ("text/html", "text/markdown"):
                markup.append(value)
        found += [match.group() for text in markup for match in ACTIVE.finditer(text)]
    return found


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
        CheckpointError: the final accuracy differs by more than ``reproduction.tolerance``.
    """
    runs: dict[str, Run] = {}
    for folder in folders_in(published):
        runs |= finished_runs(folder)
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
        _, error = Worker(task, environment).result()
        ours = Run(folder / "runs" / name)
        if error or ours.status != "finished":
            reason = error or ours.metrics["reason"]
            raise PublishError(f"{name} could not be trained again: {reason}")
        return check_reproduction(known, ours)
