"""The driver: train what is missing, run the notebooks headless, write the summary.

Runs are trained in worker processes side by side; a notebook follows when its runs are finished,
and only reads, plots and judges them. Whatever is finished is never made again: a run is known by
its experiment's hash, an executed page by a key over its notebook, parameters, runs and package.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from attn_blocks import provenance, reference, results, runtime
from attn_blocks.errors import AttnBlocksError, SettingError, StorageError
from attn_blocks.experiment import CLAIMS, PAGES, Experiment, Plan, load_task, plan
from attn_blocks.files import (
    NO_ROOM,
    PROJECT,
    atomic_write,
    hold,
    read_json,
    remove_leftovers,
    sha256_of,
    storage_error,
)
from attn_blocks.parallel import Processes, epochs_done
from attn_blocks.worker import Task, WorkerError, work_through

NOTEBOOKS = PROJECT / "notebooks"


def reproduce(
    pages: Sequence[str] = (),
    jobs: int | str | None = None,
    notebooks: bool = True,
    fresh: bool = False,
    **settings: Any,
) -> int:
    """Train and execute ``pages`` (all when empty) and write the summary.

    Args:
        pages: names of ``PAGES``; also short forms such as "sge".
        jobs: how many processes work side by side; None or "auto" for one a core with small
            networks on the CPU, else one.
        notebooks: False trains only.
        fresh: whether runs that are published are trained all the same.
        settings: profile, seeds, data_dir, results_dir, device and epochs, as in
            ``experiment.plan``.

    Returns:
        The number of runs and pages that failed.

    Raises:
        StorageError: a disk is full, or the results folder cannot be written.
    """
    plans: list[Plan] = []
    try:
        plans += _plans(pages or PAGES, notebooks, settings, fresh)
        jobs = job_count(jobs, plans[0])
        for what in _missing(plans):
            Processes.from_environment().check(plans[0].device, what.recipe.batch_size)
        _mend(plans)
        _use_published(plans, fresh)
        _say_what_is_coming(plans, jobs)
        started = time.monotonic()
        failed = Work(plans, jobs, settings if notebooks else None).do()
        with hold(plans[0].results_dir, ".summary.lock"):
            for problem in remove_leftovers(plans[0].results_dir):
                print(problem, file=sys.stderr)
            write_summary(plans)
    except (KeyboardInterrupt, StorageError):
        _say_how_to_go_on(plans)
        raise
    _print_results(plans)
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"\nDone in {minutes} min {seconds} s; everything is in {_short(plans[0].results_dir)}")
    return failed


def _plans(
    pages: Iterable[str], notebooks: bool, settings: dict[str, Any], fresh: bool = False
) -> list[Plan]:
    # Pages share tasks; listing the files of a large data set takes longer than all the rest.
    load = cache(load_task)
    plans = [plan(page_name(page), **settings, load=load) for page in pages]
    # They share runs as well: one page that looks into the networks wants weights for all.
    weights = notebooks and any(page.weights for page in plans)
    return [replace(page, weights=weights, fresh=fresh) for page in plans]


def page_name(name: str) -> str:
    """``"sge"``, ``"04"`` or ``"04_sge"`` as the page's full name."""
    matches = [page for page in PAGES if name == page or name in page.split("_")]
    if len(matches) != 1:
        raise SettingError(f"unknown page {name!r}; choose one of: {', '.join(PAGES)}")
    return matches[0]


def job_count(jobs: int | str | None, first: Plan) -> int:
    """How many runs are trained at once: as asked, or by profile, device and processes a run."""
    if jobs in (None, "", "auto"):
        # Small networks do not keep two threads busy; two of them keep two cores busy.
        alone = Processes.from_environment().total == 1
        small = first.profile != "paper" and first.device == "cpu"
        return runtime.cores() if alone and small else 1
    try:
        count = int(jobs)
    except ValueError:
        count = 0
    if count < 1:
        raise SettingError(f'jobs must be "auto" or a number from 1, not {jobs!r}')
    return count


def _say_what_is_coming(plans: Sequence[Plan], jobs: int) -> None:
    missing = [what.name for what in _missing(plans)]
    total = len(_unique(plans))
    labels = dict.fromkeys(c.images.label for p in plans for c in p.comparisons)
    print(
        f"Profile {plans[0].profile}: {len(plans)} pages, {total} runs, "
        f"{total - len(missing)} of them finished"
    )
    print(f"Data: {'; '.join(labels)}")
    processes = Processes.from_environment().total
    each = f", {processes} processes each" if processes > 1 else ""
    print(f"Device {plans[0].device}, {jobs} job{'s' * (jobs > 1)} at once{each}", flush=True)
    if missing and plans[0].profile == "paper":
        from attn_blocks import estimate

        print(estimate.announcement(plans, missing), flush=True)


# Runs and pages ----------------------------------------------------------------------------------


def _unique(plans: Iterable[Plan]) -> list[Experiment]:
    return list({e.name: e for p in plans for e in p.experiments}.values())


def _missing(plans: Sequence[Plan]) -> list[Experiment]:
    return [e for e in _unique(plans) if not results.is_done(plans[0], e)]


def _runs(plans: Sequence[Plan]) -> list[results.Run]:
    return [results.run_of(plans[0], what) for what in _unique(plans)]


def _use_published(plans: Sequence[Plan], fresh: bool) -> None:
    """Finish runs by their published records; if ``fresh``, give back those that were taken."""
    if fresh:
        change, words = results.return_published, "of book/published are trained here instead"
    else:
        change, words = results.take_published, "taken from book/published"
    count = sum(change(run) for run in _runs(plans))
    if count:
        print(f"{count} runs {words}")


def _mend(plans: Sequence[Plan]) -> None:
    """Name and remove what is half-written in runs that no process works on."""
    runs = _runs(plans)
    for run in [*runs, *(run.repeat for run in runs)]:
        if run.folder.is_dir():
            with hold(run.folder, wait=False) as free:
                for problem in results.mend(run) if free else ():
                    print(problem, file=sys.stderr)


class Work:
    """The runs and pages that a command has to make, and how far it is.

    A page is executed once its runs are done, but after all runs that can still be begun: pages
    use the cores that the last runs leave free.

    Args:
        plans: of the pages.
        jobs: how many runs and pages are made at once.
        settings: of the notebooks, as in ``experiment.plan``; None trains only.
    """

    def __init__(self, plans: Sequence[Plan], jobs: int, settings: Mapping[str, Any] | None):
        self.plans, self.jobs, self.settings = plans, jobs, settings
        self.missing = {what.name: what for what in _missing(plans)}
        self.trainings = [_training(plans[0], w, jobs == 1) for w in self.missing.values()]
        self.pages = [] if settings is None else list(plans)  # whose runs are not all done
        self.ended: dict[str, str | None] = {}  # runs, with what went wrong
        self.up_to_date = self.failed_pages = 0
        self.bar = tqdm(
            total=sum(what.recipe.epochs for what in self.missing.values()), desc="Training",
            unit="epoch", dynamic_ncols=True, mininterval=0 if sys.stderr.isatty() else 30,
            disable=jobs == 1 or not self.missing,  # a single worker shows a bar of its own
        )  # fmt: skip

    def do(self) -> int:
        """Make all that is missing; return how many runs and pages failed."""
        tasks = [*self.trainings, *self._ready_pages()]
        with self.bar:
            work_through(tasks, self.jobs, _environment(self.jobs), self._turn, self._done)
        if self.up_to_date:
            print(f"{self.up_to_date} pages are up to date")
        failed = [run for run in _runs(self.plans) if run.status != "finished"]
        for run in failed:
            name = run.folder.name
            print(f"FAILED {name}: {_why_failed(run, self.ended.get(name))}", file=sys.stderr)
        return len(failed) + self.failed_pages

    def _ready_pages(self) -> list[Task]:
        """The pages whose runs have all ended by now."""
        left = self.missing.keys() - self.ended.keys()
        ready, waiting = [], []
        for page in self.pages:
            done = left.isdisjoint(what.name for what in page.experiments)
            (ready if done else waiting).append(page)
        self.pages = waiting
        tasks = [_execution(page, self.settings) for page in ready]
        stale = [task for task in tasks if not task.is_done()]
        self.up_to_date += len(tasks) - len(stale)
        return stale

    def _turn(self, running: Sequence[Task]) -> None:
        if self.bar.disable:  # not shown, or closed
            return
        counts = {task.title: epochs_done(task.folder) for task in self.trainings}
        active = [self.missing[task.title] for task in running if task.title in self.missing]
        words = [f"{w.variant} s{w.seed} {counts[w.name]}/{w.recipe.epochs}" for w in active]
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        self.bar.update(sum(counts.values()) - self.bar.n)
        if len(self.ended) == len(self.missing):
            self.bar.close()

    def _done(self, task: Task, notes: Sequence[str], error: str | None) -> list[Task]:
        if task.kind == "page":
            self._page_done(task, notes, error)
            return []
        self.ended[task.title] = error
        outcome = _outcome(results.Run(task.folder))
        line = f"[{len(self.ended):2}/{len(self.missing)}] {task.title}  {outcome}"
        _say(*notes, line)
        return self._ready_pages()

    def _page_done(self, task: Task, notes: Sequence[str], error: str | None) -> None:
        _say(*notes, stream=sys.stderr)
        if error is None:
            _say(f"{task.title}: executed, {_short(Path(task.request['output']))}")
        else:
            self.failed_pages += 1
            _say(f"FAILED {task.title}", error, stream=sys.stderr)


def _say(*lines: str, stream: TextIO | None = None) -> None:
    """Print around a progress bar that may be there."""
    stream = stream or sys.stdout
    for line in lines:
        tqdm.write(line, file=stream)
    stream.flush()


def _training(settings: Plan, what: Experiment, shows_bar: bool) -> Task:
    folder = results.training_of(settings, what).folder
    request = {
        "experiment": what.to_dict(),
        "results_dir": str(folder.parents[1]),
        "data_dir": str(settings.data_dir),
        "device": settings.device,
        "weights": settings.needs_weights(what),
    }
    log = None if shows_bar else folder / "train.log"
    claim = ".claim"
    if Processes.from_environment().nodes > 1:  # the machines work on a run together
        claim += f"-{socket.gethostname()}-{os.getpid()}"
    return Task(
        what.name, "train", request, folder, claim, log, lambda: results.is_done(settings, what)
    )


def _environment(jobs: int) -> dict[str, str]:
    """Of a worker: its share of the processor's threads."""
    threads = os.environ.get("ATTN_BLOCKS_THREADS") or str(max(1, runtime.cores() // jobs))
    return os.environ | {"OMP_NUM_THREADS": threads}


def _outcome(run: results.Run) -> str:
    if run.status != "finished":
        return run.status
    return f"val accuracy {run.metrics['final_val_acc']:.3f} ({run.metrics['seconds']:.0f} s)"


def _why_failed(run: results.Run, error: str | None) -> str:
    if run.status == "failed":
        return (
            f"{run.metrics['reason']} (to try it again all the same, delete {_short(run.folder)})"
        )
    reason = error.strip().splitlines()[-1] if error else "it is not finished"
    log = run.folder / "train.log"
    return f"{reason}; see {_short(log)}" if log.exists() else reason


def _say_how_to_go_on(plans: Sequence[Plan]) -> None:
    saved = "Stopped before the first run."
    if plans:
        total, missing = len(_unique(plans)), len(_missing(plans))
        saved = (
            f"Stopped: {total - missing} of {total} runs are finished, the others are saved up to "
            "their last epoch; executed pages are kept."
        )
    print(f"\n{saved} The same command goes on from there.", file=sys.stderr)


# Notebooks ---------------------------------------------------------------------------------------


def _execution(page: Plan, settings: Mapping[str, Any]) -> Task:
    source = NOTEBOOKS / f"{page.page}.ipynb"
    output = page.results_dir / "notebooks" / source.name
    parameters = {
        "profile": page.profile,
        "seeds": list(page.seeds),
        "data_dir": str(page.data_dir),
        "results_dir": str(page.results_dir.parent),
        "device": page.device,
        "epochs": settings.get("epochs"),
    }
    # A page compares its block with the recordings of the paper's code where there are any.
    recordings = str(bool(os.environ.get(reference.VARIABLE)))
    digest = [sha256_of(source), json.dumps(parameters), recordings, *_package_hashes()]
    for what in page.experiments:
        metrics = results.run_of(page, what).folder / "metrics.json"
        digest.append(sha256_of(metrics) if metrics.exists() else what.name)
    key = hashlib.sha256("\n".join(digest).encode()).hexdigest()[:16]
    request = {
        "source": str(source), "output": str(output), "parameters": parameters, "key": key,
        "failures": results.failures(page),
    }  # fmt: skip
    return Task(
        page.page, "page", request, output.parent, f".{page.page}.lock", None,
        lambda: _key_of(output) == key,
    )  # fmt: skip


@cache
def _package_hashes() -> list[str]:
    return [provenance.source_hash(path) for path in sorted(provenance.PACKAGE.rglob("*.py"))]


def _key_of(executed: Path) -> str | None:
    """The key of an executed page; None where there is none, or no whole one."""
    try:
        return read_json(executed)["metadata"]["attn_blocks"]["key"]
    except (AttnBlocksError, OSError, KeyError, TypeError):
        return None


def execute_page(
    source: str, output: str, parameters: dict[str, Any], key: str, failures: Sequence[str] = ()
) -> None:
    """Execute one notebook: what a worker does that holds the page's lock.

    Args:
        source, output: the notebook, and where the executed one goes.
        parameters: of its parameters cell.
        key: what ``_key_of`` is to find in the executed page.
        failures: a line for each of its runs that failed. With any, the page goes on where a cell
            fails, and says of the cell that it was left out.

    Raises:
        WorkerError: a cell failed; the page as far as it went is kept as ``<page>.failed.ipynb``.
        StorageError: the disk is full.
    """
    import nbformat
    import papermill

    output = Path(output)
    for problem in _mend_page(output):
        warnings.warn(problem, stacklevel=2)
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    try:
        papermill.execute_notebook(
            source, str(partial), parameters=parameters, kernel_name="python3",
            cwd=str(Path(source).parent), progress_bar=False,
            # A kernel warns of its local socket each time, and calls it an error when it is
            # interrupted, as every kernel is before it is ended.
            extra_arguments=["--log-level=CRITICAL"],
            allow_errors=bool(failures),
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        if error.ename == "StorageError" or f"[Errno {errno.ENOSPC}]" in error.evalue:
            partial.unlink(missing_ok=True)
            raise StorageError(error.evalue, OSError(errno.ENOSPC, "")) from error
        if not failures:
            partial.replace(failed)
            raise WorkerError(str(error)) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            partial.unlink(missing_ok=True)
            raise storage_error(error, partial) from error
        raise
    notebook = nbformat.read(partial, as_version=4)
    if failures:
        _leave_out_failed_cells(notebook, failures)
    notebook.metadata["attn_blocks"] = {"key": key}
    with atomic_write(output) as stream:
        nbformat.write(notebook, stream)
    partial.unlink()
    failed.unlink(missing_ok=True)


def _leave_out_failed_cells(notebook: Any, failures: Sequence[str]) -> None:
    """Put a line in place of each error, since the page's runs are what is wrong."""
    import nbformat
    from papermill.execute import remove_error_markers

    remove_error_markers(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                line = f"Left out, it needs a run that failed. {'; '.join(failures)}"
                cell.outputs = [nbformat.v4.new_output("stream", text=f"{line}\n")]
                break


def _mend_page(output: Path) -> list[str]:
    """Remove what an interrupted execution left half-written; a line for each file."""
    page = output.stem
    problems = remove_leftovers(output.parent, f".{page}.*.ipynb")
    problems += remove_leftovers(output.parent, f".{page}.*.tmp")
    problems += remove_leftovers(output.parent.parent / "figures", f".{page}_*.tmp")
    if output.exists():
        try:
            read_json(output)
        except AttnBlocksError as error:
            problems.append(str(error))
            output.unlink()
    return problems


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
        table = results.accuracy_table(page, task).drop(columns="Best epoch (chosen on validation)")
        print(f"\n{comparison.images.label}, profile {page.profile}, {page.device}")
        print(table.to_string())


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
