"""The driver: train what is missing, run the notebooks headless, write the summary.

Training comes first, in worker processes side by side; the notebooks then find their runs finished
and only read, plot and judge them. Whatever is finished is never made again: a run is known by its
experiment's hash, an executed page by a key over its notebook, parameters, runs and package.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from attn_blocks import provenance, results, runtime
from attn_blocks.errors import SettingError
from attn_blocks.experiment import CLAIMS, PAGES, Experiment, Plan, plan
from attn_blocks.files import PROJECT, atomic_write, sha256_of

NOTEBOOKS = PROJECT / "notebooks"
POLL_SECONDS = 0.5


def reproduce(
    pages: Sequence[str] = (),
    jobs: int | str | None = None,
    notebooks: bool = True,
    **settings: Any,
) -> int:
    """Train and execute ``pages`` (all when empty) and write the summary.

    Args:
        pages: names of ``PAGES``; also short forms such as "sge".
        jobs: how many processes work side by side; None or "auto" for one a core with small
            networks on the CPU, else one.
        notebooks: False trains only.
        settings: profile, seeds, data_dir, results_dir, device and epochs, as in
            ``experiment.plan``.

    Returns:
        The number of runs and pages that failed.
    """
    plans = [
        replace(plan(page_name(page), **settings), weights=notebooks) for page in pages or PAGES
    ]
    first = plans[0]
    jobs = job_count(jobs, first)
    _take_published(plans)
    _say_what_is_coming(plans, jobs)
    started = time.monotonic()
    failed = train_missing(plans, jobs)
    if notebooks:
        failed += execute(plans, jobs, settings)
    write_summary(plans)
    _print_results(plans)
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"\nDone in {minutes} min {seconds} s; everything is in {_short(first.results_dir)}")
    return failed


def page_name(name: str) -> str:
    """``"sge"``, ``"04"`` or ``"04_sge"`` as the page's full name."""
    matches = [page for page in PAGES if name == page or name in page.split("_")]
    if len(matches) != 1:
        raise SettingError(f"unknown page {name!r}; choose one of: {', '.join(PAGES)}")
    return matches[0]


def job_count(jobs: int | str | None, first: Plan) -> int:
    """The number of processes: as asked, or by profile and device."""
    if jobs in (None, "", "auto"):
        # Small networks do not keep two threads busy; two of them keep two cores busy.
        return 1 if first.profile == "paper" or first.device != "cpu" else runtime.cores()
    try:
        count = int(jobs)
    except ValueError:
        count = 0
    if count < 1:
        raise SettingError(f'jobs must be "auto" or a number from 1, not {jobs!r}')
    return count


def _say_what_is_coming(plans: Sequence[Plan], jobs: int) -> None:
    missing = len(_missing(plans))
    total = len(_unique(plans))
    labels = dict.fromkeys(c.images.label for p in plans for c in p.comparisons)
    print(
        f"Profile {plans[0].profile}: {len(plans)} pages, {total} runs, "
        f"{total - missing} of them finished"
    )
    print(f"Data: {'; '.join(labels)}")
    print(f"Device {plans[0].device}, {jobs} job{'s' * (jobs > 1)} at once", flush=True)


# Training ----------------------------------------------------------------------------------------


def _unique(plans: Iterable[Plan]) -> list[Experiment]:
    return list({e.name: e for p in plans for e in p.experiments}.values())


def _missing(plans: Sequence[Plan]) -> list[Experiment]:
    return [e for e in _unique(plans) if not results.is_done(plans[0], e)]


def _take_published(plans: Sequence[Plan]) -> None:
    """Finish runs by their published records, except where the pages want the weights as well."""
    taken = [
        what
        for what in _unique(plans)
        if not plans[0].needs_weights(what)
        and results.run_of(plans[0], what).status == "unfinished"
        and results.take_published(results.run_of(plans[0], what))
    ]
    if taken:
        print(f"{len(taken)} runs taken from book/published")


def train_missing(plans: Sequence[Plan], jobs: int) -> int:
    """Train what is not finished, ``jobs`` at once; return how many runs of the plans failed."""
    missing = _missing(plans)
    workers = Workers(plans[0], jobs)
    if missing:
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(workers.train, what): what for what in missing}
            try:
                _watch(futures, plans[0], jobs)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                workers.stop()
                _say_how_to_go_on(plans)
                raise
    failed = 0
    for what in _unique(plans):
        run = results.run_of(plans[0], what)
        if run.status != "finished":
            failed += 1
            reason = f"the process ended early; see {_short(run.folder)}/train.log"
            if run.status == "failed":
                reason = run.metrics["reason"]
            print(f"FAILED {what.name}: {reason}", file=sys.stderr)
    return failed


class Workers:
    """Training processes, each with its share of the processor's threads."""

    def __init__(self, settings: Plan, jobs: int) -> None:
        self.settings = settings
        self.environment = os.environ | {
            "OMP_NUM_THREADS": os.environ.get("ATTN_BLOCKS_THREADS")
            or str(max(1, runtime.cores() // jobs))
        }
        # A single worker shows its own bar; several would write over one another's.
        self.shows_bar = jobs == 1
        self.processes: set[subprocess.Popen] = set()
        self.stopping = threading.Event()

    def train(self, what: Experiment) -> int:
        """Train one experiment in a process of its own; return the exit code."""
        folder = results.run_of(self.settings, what).folder
        folder.mkdir(parents=True, exist_ok=True)
        request = {
            "experiment": what.to_dict(),
            "results_dir": str(self.settings.results_dir),
            "data_dir": str(self.settings.data_dir),
            "device": self.settings.device,
            "weights": self.settings.needs_weights(what),
        }
        with (folder / "train.log").open("w", encoding="utf-8") as log:
            if self.stopping.is_set():
                return -1
            process = subprocess.Popen(
                [sys.executable, "-m", "attn_blocks.train"], stdin=subprocess.PIPE, stdout=log,
                stderr=None if self.shows_bar else log, env=self.environment, text=True,
            )  # fmt: skip
            self.processes.add(process)
            process.communicate(json.dumps(request))
            self.processes.discard(process)
        return process.returncode

    def stop(self) -> None:
        """End all processes; what they saved stays."""
        self.stopping.set()
        for process in list(self.processes):
            process.terminate()


def _watch(futures: dict[Future, Experiment], settings: Plan, jobs: int) -> None:
    """Show progress in epochs, read from the runs' histories, and a line for each finished run."""
    epochs = sum(what.recipe.epochs for what in futures.values())
    waiting = dict(futures)
    quiet = jobs == 1
    bar = tqdm(
        total=epochs, desc="Training", unit="epoch", disable=quiet, dynamic_ncols=True,
        mininterval=0 if sys.stderr.isatty() else 30,
    )  # fmt: skip
    done = 0
    with bar:
        while waiting:
            time.sleep(POLL_SECONDS)
            runs = {f: results.run_of(settings, what) for f, what in futures.items()}
            counts = {f: _epochs_done(run) for f, run in runs.items()}
            active = [
                f"{what.variant} s{what.seed} {counts[f]}/{what.recipe.epochs}"
                for f, what in waiting.items()
                if f.running()
            ]
            bar.set_postfix_str(", ".join(active), refresh=False)
            bar.update(sum(counts.values()) - bar.n)
            for future in [f for f in waiting if f.done()]:
                what = waiting.pop(future)
                done += 1
                run = runs[future]
                words = run.status
                if run.status == "finished":
                    words = (
                        f"val accuracy {run.metrics['final_val_acc']:.3f} "
                        f"({run.metrics['seconds']:.0f} s)"
                    )
                tqdm.write(f"[{done:2}/{len(futures)}] {what.name}  {words}", file=sys.stdout)
                sys.stdout.flush()


def _epochs_done(run: results.Run) -> int:
    try:
        with (run.folder / "history.csv").open("rb") as stream:
            return max(0, sum(1 for _ in stream) - 1)
    except FileNotFoundError:
        return 0


def _say_how_to_go_on(plans: Sequence[Plan]) -> None:
    total, missing = len(_unique(plans)), len(_missing(plans))
    print(
        f"\nStopped: {total - missing} of {total} runs are finished, the others are saved up to "
        "their last epoch. The same command goes on from there.",
        file=sys.stderr,
    )


# Notebooks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageRun:
    """What a process needs to execute one notebook."""

    page: str
    parameters: dict[str, Any]
    source: Path
    output: Path
    key: str
    threads: int


def execute(plans: Sequence[Plan], jobs: int, settings: dict[str, Any]) -> int:
    """Execute the notebooks whose inputs changed, ``jobs`` at once; return how many failed."""
    pages = [_page_run(p, max(1, runtime.cores() // jobs), settings) for p in plans]
    stale = [page for page in pages if _key_of(page.output) != page.key]
    if len(stale) < len(pages):
        print(f"{len(pages) - len(stale)} pages are up to date")
    failed = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(stale)) or 1, mp_context=context) as pool:
        futures = {pool.submit(_execute_page, page): page for page in stale}
        for future in as_completed(futures):
            page, error = futures[future].page, future.result()
            if error is None:
                print(f"{page}: executed, {_short(futures[future].output)}", flush=True)
            else:
                failed += 1
                print(f"FAILED {page}\n{error}", file=sys.stderr, flush=True)
    return failed


def _page_run(page: Plan, threads: int, settings: dict[str, Any]) -> PageRun:
    source = NOTEBOOKS / f"{page.page}.ipynb"
    parameters = {
        "profile": page.profile,
        "seeds": list(page.seeds),
        "data_dir": str(page.data_dir),
        "results_dir": str(page.results_dir.parent),
        "device": page.device,
        "epochs": settings.get("epochs"),
    }
    digest = [sha256_of(source), json.dumps(parameters)]
    digest += [provenance.source_hash(path) for path in sorted(provenance.PACKAGE.rglob("*.py"))]
    for what in page.experiments:
        metrics = results.run_of(page, what).folder / "metrics.json"
        digest.append(sha256_of(metrics) if metrics.exists() else what.name)
    output = page.results_dir / "notebooks" / source.name
    return PageRun(page.page, parameters, source, output, _digest(digest), threads)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _key_of(executed: Path) -> str | None:
    try:
        notebook = json.loads(executed.read_text(encoding="utf-8"))
        return notebook["metadata"]["attn_blocks"]["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _execute_page(page: PageRun) -> str | None:
    """Execute one notebook; return None, or the traceback of what went wrong."""
    page.output.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be executing the same page; what it leaves need not be made again.
    with FileLock(page.output.with_name(f".{page.page}.lock")):
        return None if _key_of(page.output) == page.key else _execute_locked(page)


def _execute_locked(page: PageRun) -> str | None:
    import nbformat
    import papermill

    os.environ["OMP_NUM_THREADS"] = str(page.threads)
    partial = page.output.with_name(f".{page.page}.partial.ipynb")
    try:
        papermill.execute_notebook(
            str(page.source), str(partial), parameters=page.parameters, kernel_name="python3",
            cwd=str(page.source.parent), progress_bar=False,
            extra_arguments=["--log-level=ERROR"],  # a kernel warns of its local socket each time
        )  # fmt: skip
    except Exception as error:
        if partial.exists():
            partial.replace(page.output.with_name(f"{page.page}.failed.ipynb"))
        if isinstance(error, papermill.PapermillExecutionError):
            return str(error)
        return traceback.format_exc()
    notebook = nbformat.read(partial, as_version=4)
    notebook.metadata["attn_blocks"] = {"key": page.key}
    with atomic_write(page.output) as stream:
        nbformat.write(notebook, stream)
    partial.unlink()
    page.output.with_name(f"{page.page}.failed.ipynb").unlink(missing_ok=True)
    return None


# Summary -----------------------------------------------------------------------------------------


def write_summary(plans: Sequence[Plan]) -> None:
    """Write ``summary.csv`` (every run) and ``verdicts.csv`` (every claim the plans speak to)."""
    folder = plans[0].results_dir
    pages: dict[str, list[str]] = {}
    for page in plans:
        for what in page.experiments:
            pages.setdefault(what.name, []).append(page.page)
    results.write_csv(
        folder / "summary.csv", results.SUMMARY_COLUMNS, results.summary_rows(folder, pages)
    )
    judged = {v.claim: v.row() for page in plans for v in results.verdicts(page)}
    rows = [judged[claim] for claim in CLAIMS if claim in judged]
    results.write_csv(folder / "verdicts.csv", results.VERDICT_COLUMNS, rows)


def _print_results(plans: Sequence[Plan]) -> None:
    widest = {}
    for page in plans:
        for comparison in page.comparisons:
            known = widest.get(comparison.task)
            if known is None or len(comparison.titles) > len(known[1].titles):
                widest[comparison.task] = (page, comparison)
    for task, (page, comparison) in widest.items():
        table = results.accuracy_table(page, task).drop(
            columns="Best epoch (chosen on validation)"
        )
        print(f"\n{comparison.images.label}, profile {page.profile}, {page.device}")
        print(table.to_string())


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
