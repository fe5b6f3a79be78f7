"""The runs and pages of a command: made side by side, a page once its runs are done."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attn_blocks import device
from attn_blocks.errors import SettingError
from attn_book.analysis.words import counted
from attn_book.driver.pages import page_task
from attn_book.driver.processes import Task, run_tasks
from attn_book.driver.terminal import Progress, relative, tell, titles_of
from attn_book.language import ENGLISH
from attn_book.records import planned, published, repair
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES
from attn_book.training.launch import Processes


def experiments_of(plans: Iterable[Plan]) -> list[Experiment]:
    """The experiments of these plans, each once."""
    return list({e.name: e for p in plans for e in p.experiments}.values())


def missing_of(plans: Sequence[Plan]) -> list[Experiment]:
    """The experiments of these plans that are still to be trained."""
    return [e for e in experiments_of(plans) if not published.is_done(planned.run_of(plans[0], e))]


def runs_of(plans: Sequence[Plan]) -> list[Run]:
    """The runs of these plans, begun or not."""
    return [planned.run_of(plans[0], experiment) for experiment in experiments_of(plans)]


class Schedule:
    """The runs and pages that a command has to make, and its progress.

    A page is executed once its runs are done, but after all runs that can still be started: pages
    use the cores that the last runs leave free.

    Args:
        plans: of the pages.
        jobs: how many runs and pages are made at once.
        settings: of the notebooks, as in ``study.plan.plan``; None trains only.
        language: of the notebooks' outputs.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        jobs: int,
        settings: Mapping[str, Any] | None,
        language: str = ENGLISH,
    ):
        self.plans, self.jobs, self.settings = plans, jobs, settings or {}
        self.language = language
        self.missing = {experiment.name: experiment for experiment in missing_of(plans)}
        self.trainings = [training_task(plans[0], e, jobs == 1) for e in self.missing.values()]
        self.pages = [] if settings is None else list(plans)  # whose runs are not all done
        self.ended: dict[str, str | None] = {}  # runs, with their error
        self.up_to_date = self.executed = self.failed_pages = 0
        self.titles = titles_of(plans)
        self.progress = Progress(self.trainings, self.missing, len(self.pages), jobs == 1)

    def run(self) -> int:
        """Make all that is missing; return how many runs and pages failed."""
        tasks = [*self.trainings, *self._ready_pages()]
        with closing(self.progress):
            run_tasks(tasks, self.jobs, _environment(self.jobs), self._show_progress, self._on_done)
        if self.up_to_date:
            print(up_to_date(self.up_to_date))
        failed = self.failed_pages
        for run in (run for run in runs_of(self.plans) if run.status != "finished"):
            name = run.folder.name
            why = _why_failed(run, self.ended.get(name))
            print(
                f"{'DIVERGED' if run.diverged else 'FAILED'} {self.titles[name]}: {why}",
                file=sys.stderr,
            )
            # To diverge is a result: where it is on record already, it is no failure.
            failed += not run.diverged or name in self.missing
        return failed

    def _ready_pages(self) -> list[Task]:
        """The pages whose runs have all ended by now."""
        left = self.missing.keys() - self.ended.keys()
        ready: list[Plan] = []
        waiting: list[Plan] = []
        for page in self.pages:
            shown = {experiment.name for experiment in page.experiments}
            # A page of the study has the outcomes of whole families.
            of_study = PROFILES[page.profile].folds and shown
            done = not left if of_study else left.isdisjoint(shown)
            (ready if done else waiting).append(page)
        self.pages = waiting
        whole = [page for page in ready if not self._left_out(page)]
        tasks = [page_task(page, self.settings, self.language) for page in whole]
        stale = [task for task in tasks if not task.is_done()]
        self.up_to_date += len(tasks) - len(stale)
        return stale

    def _left_out(self, page: Plan) -> bool:
        """Whether one of its runs could not be made: its notebook would train it, unannounced."""
        lacking = [
            self.titles[experiment.name]
            for experiment in page.experiments
            if experiment.name in self.missing
            and not published.is_done(planned.run_of(page, experiment))
        ]
        if lacking:
            self.failed_pages += 1
            tell(f"FAILED {page.page}: left out, it needs {'; '.join(lacking)}", stream=sys.stderr)
        return bool(lacking)

    def _show_progress(self, running: Sequence[Task]) -> None:
        pages = self.up_to_date + self.executed + self.failed_pages
        self.progress.show(running, self.ended, pages)

    def _on_done(self, task: Task, notes: Sequence[str], error: str | None) -> list[Task]:
        if task.kind == "page":
            self._page_done(task, notes, error)
            return []
        self.ended[task.title] = error
        outcome = _outcome(Run(task.folder))
        line = f"[{len(self.ended):2}/{len(self.missing)}] {self.titles[task.title]}: {outcome}"
        tell(*notes, line)
        return self._ready_pages()

    def _page_done(self, task: Task, notes: Sequence[str], error: str | None) -> None:
        tell(*notes, stream=sys.stderr)
        if error is None:
            self.executed += 1
            tell(f"{task.title}: executed, {relative(Path(task.request['output']))}")
        else:
            self.failed_pages += 1
            tell(f"FAILED {task.title}", error, stream=sys.stderr)


def up_to_date(pages: int) -> str:
    """What is said of pages that need not be executed again."""
    return f"Up to date: {counted(pages, 'page')}"


def training_task(settings: Plan, experiment: Experiment, shows_bar: bool) -> Task:
    """What a worker process is given to train one run."""
    folder = planned.run_of(settings, experiment).folder
    request = {
        "experiment": experiment.to_dict(),
        "results_dir": str(folder.parents[1]),
        "data_dir": str(settings.data_dir),
        "device": settings.device,
        "fresh": settings.fresh,
    }
    log = None if shows_bar else folder / repair.LOG
    lock = ".claim"
    if Processes.from_environment().nodes > 1:  # the machines work on a run together
        lock += f"-{socket.gethostname()}-{os.getpid()}"
    return Task(
        experiment.name,
        "train",
        request,
        folder,
        lock,
        log,
        lambda: published.is_done(planned.run_of(settings, experiment)),
    )


def _environment(jobs: int) -> dict[str, str]:
    """The environment of a worker, with its share of the processor's threads."""
    threads = os.environ.get("ATTN_BLOCKS_THREADS") or str(max(1, device.cores() // jobs))
    if not threads.isdecimal() or not int(threads):
        raise SettingError(f"ATTN_BLOCKS_THREADS is {threads!r}; it must be a number from 1")
    return os.environ | {"OMP_NUM_THREADS": threads}


def _outcome(run: Run) -> str:
    if run.status != "finished":
        return run.status
    return f"accuracy {run.metrics['final_val_acc']:.3f} ({run.metrics['seconds']:.0f} s)"


def _why_failed(run: Run, error: str | None) -> str:
    if run.diverged:
        record = relative(run.folder / "metrics.json")
        return f"{run.metrics['reason']} (to try it again all the same, delete {record})"
    reason = error.strip().splitlines()[-1] if error else "it is not finished"
    log = run.folder / repair.LOG
    return f"{reason}; see {relative(log)}" if log.exists() else reason
