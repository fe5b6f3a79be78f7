"""The driver: train what is missing, run the notebooks headless, write the summary.

Runs are trained in worker processes side by side. A notebook is executed when its runs are
finished, and only reads, plots and judges them. Nothing finished is made again: a run is identified
by its experiment's hash, an executed page by a key over its notebook, parameters, runs and package.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from attn_blocks import device
from attn_blocks.errors import SettingError, StorageError, choose
from attn_blocks.files import folder_lock, need_checkout, remove_leftovers
from attn_book.analysis.words import counted
from attn_book.driver.pages import page_task
from attn_book.driver.processes import Task, run_tasks
from attn_book.driver.summary import part_profile, write_summary
from attn_book.driver.terminal import Progress, print_results, relative, say, titles_of
from attn_book.language import ENGLISH, LANGUAGES
from attn_book.records import planned, published, repair
from attn_book.records import run as records_run
from attn_book.study.design import EXTRA, ORDER
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GUIDES, PAGES, page_name
from attn_book.study.plan import Plan, load_task, plan
from attn_book.study.recipes import PROFILES
from attn_book.training.launch import Processes


def reproduce(
    pages: Sequence[str] = (),
    jobs: int | str | None = None,
    notebooks: bool = True,
    fresh: bool = False,
    language: str = ENGLISH,
    **settings: Any,
) -> int:
    """Train and execute ``pages`` (all if there are none) and write the summary.

    Args:
        pages: names of ``PAGES`` and ``GUIDES``; also short forms such as "sge". Where no notebooks
            are executed, names of ``PAGES``, and of ``design.EXTRA`` in the profile that they
            belong to. The study is trained in its own order.
        jobs: how many processes work side by side; None or "auto" for one a core with small
            networks on the CPU, else one.
        notebooks: False trains only.
        fresh: whether runs that are published are trained all the same.
        language: one of ``attn_book.language.LANGUAGES``, which the outputs of the pages speak.
        settings: profile, seeds, data_dir, results_dir, device and epochs, as in
            ``study.plan.plan``.

    Returns:
        The number of runs and pages that failed. A run that is known to diverge is none of them.

    Raises:
        SettingError: a setting or a language that cannot be, a page that there is nothing to do
            for, or notebooks where the packages are installed without them.
        StorageError: a disk is full, or the results folder cannot be written.
    """
    choose("language", language, LANGUAGES)
    if notebooks:
        need_checkout("reproduce")
    plans: list[Plan] = []
    try:
        plans += _plans(pages, notebooks, settings, fresh)
        jobs = job_count(jobs, plans[0])
        prepare(plans, fresh)
        _announce(plans, jobs)
        started = time.monotonic()
        failed = Schedule(plans, jobs, settings if notebooks else None, language).run()
        if _experiments(plans):  # guides have none to sum up
            with folder_lock(plans[0].results_dir, ".summary.lock"):
                for problem in remove_leftovers(plans[0].results_dir):
                    print(problem, file=sys.stderr)
                write_summary(plans[0].results_dir, plans)
    except (KeyboardInterrupt, StorageError):
        say_how_to_resume(plans)
        raise
    print_results(plans)
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"\nDone in {minutes} min {seconds} s; everything is in {relative(plans[0].results_dir)}")
    return failed


def prepare(plans: Sequence[Plan], fresh: bool = False) -> None:
    """Before anything is trained: settings checked, runs put in order, published records taken."""
    for experiment in missing_of(plans):
        Processes.from_environment().check(plans[0].device, experiment.recipe.batch_size)
    _put_in_order(plans)
    _use_published(plans, fresh)


def _plans(
    pages: Sequence[str], notebooks: bool, settings: dict[str, Any], fresh: bool = False
) -> list[Plan]:
    # Pages share tasks; listing the files of a large data set takes longer than all the rest.
    make = partial(plan, load=cache(load_task))
    if not pages and not notebooks and settings.get("profile") == "study":
        parts = [
            make(name, **{**settings, "seeds": settings.get("seeds") or seeds})
            for name, seeds in ORDER
        ]
    else:
        profile = settings.get("profile")
        names = [page_name(page) if notebooks else _trained(page, profile) for page in pages]
        every = (*PAGES, *GUIDES) if notebooks else PAGES
        parts = [make(name, **settings) for name in names or every]
    return [replace(part, fresh=fresh) for part in parts]


def _trained(name: str, profile: str | None) -> str:
    """The full name of a page or a part of the study that is trained without notebooks."""
    if name in EXTRA:
        if profile != (only := part_profile(name)):
            raise SettingError(f"{name} is a part of the profile {only}; choose --profile {only}")
        return name
    page = page_name(name)
    if page in GUIDES:
        raise SettingError(f"{page} trains nothing; execute it with: attn-book reproduce {page}")
    return page


def job_count(jobs: int | str | None, first: Plan) -> int:
    """How many runs are trained at once: as asked, or by profile, device and processes a run."""
    if jobs in (None, "", "auto"):
        # Small networks do not keep two threads busy; two of them keep two cores busy.
        alone = Processes.from_environment().total == 1
        small = first.profile != "paper" and first.device == "cpu"
        return device.cores() if alone and small else 1
    try:
        count = int(jobs)
    except ValueError:
        count = 0
    if count < 1:
        raise SettingError(f'jobs must be "auto" or a number from 1, not {jobs!r}')
    return count


def _announce(plans: Sequence[Plan], jobs: int) -> None:
    missing = [experiment.name for experiment in missing_of(plans)]
    lost = sum(run.status == "finished" for run in _runs(plans) if run.folder.name in missing)
    total = len(_experiments(plans))
    labels = dict.fromkeys(c.images.label for p in plans for c in p.comparisons)
    print(
        f"Profile {plans[0].profile}: {counted(len(plans), 'page')}, {counted(total, 'run')}, "
        f"{total - len(missing)} of them finished"
    )
    if lost:
        print(f"{counted(lost, 'run')} without weights: trained again, the record is set aside")
    if labels:
        print(f"Data: {'; '.join(labels)}")
    processes = Processes.from_environment().total
    each = f", {processes} processes each" if processes > 1 else ""
    print(f"Device {plans[0].device}, {jobs} job{'s' * (jobs > 1)} at once{each}", flush=True)
    if missing and plans[0].profile == "paper":
        from attn_book.analysis import estimate

        print(estimate.announcement(plans, missing), flush=True)


def _experiments(plans: Iterable[Plan]) -> list[Experiment]:
    return list({e.name: e for p in plans for e in p.experiments}.values())


def missing_of(plans: Sequence[Plan]) -> list[Experiment]:
    """The experiments of these plans that are still to be trained."""
    return [e for e in _experiments(plans) if not published.is_done(planned.run_of(plans[0], e))]


def _runs(plans: Sequence[Plan]) -> list[records_run.Run]:
    return [planned.run_of(plans[0], experiment) for experiment in _experiments(plans)]


def _use_published(plans: Sequence[Plan], fresh: bool) -> None:
    """Take published records for runs; if ``fresh``, remove those that were taken before."""
    if fresh:
        change, outcome = published.return_published, "of book/published are trained here instead"
    else:
        change, outcome = published.import_published_record, "taken from book/published"
    count = 0
    for run in filter(published.is_published, _runs(plans)):
        with folder_lock(run.folder, wait=False) as free:
            count += free and change(run)
    if count:
        print(f"{counted(count, 'run')} {outcome}")


def _put_in_order(plans: Sequence[Plan]) -> None:
    """Put the runs in order that no process works on, and say what was done.

    Of runs that are not asked for, damaged files are set aside too, where that can be done: the
    summary lists every run.
    """
    asked = {run.folder for run in _runs(plans)}
    for folder in records_run.folders_in(plans[0].results_dir / "runs"):
        tidy = repair.put_in_order if folder in asked else repair.set_aside_damaged_files
        try:
            with folder_lock(folder, wait=False) as free:
                for line in tidy(records_run.Run(folder)) if free else ():
                    print(line, file=sys.stderr)
        except StorageError as error:
            if folder in asked:
                raise
            print(error, file=sys.stderr)


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
        self.trainings = [_training_task(plans[0], e, jobs == 1) for e in self.missing.values()]
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
            print(f"Up to date: {counted(self.up_to_date, 'page')}")
        failed = self.failed_pages
        for run in (run for run in _runs(self.plans) if run.status != "finished"):
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
            say(f"FAILED {page.page}: left out, it needs {'; '.join(lacking)}", stream=sys.stderr)
        return bool(lacking)

    def _show_progress(self, running: Sequence[Task]) -> None:
        pages = self.up_to_date + self.executed + self.failed_pages
        self.progress.show(running, self.ended, pages)

    def _on_done(self, task: Task, notes: Sequence[str], error: str | None) -> list[Task]:
        if task.kind == "page":
            self._page_done(task, notes, error)
            return []
        self.ended[task.title] = error
        outcome = _outcome(records_run.Run(task.folder))
        line = f"[{len(self.ended):2}/{len(self.missing)}] {self.titles[task.title]}: {outcome}"
        say(*notes, line)
        return self._ready_pages()

    def _page_done(self, task: Task, notes: Sequence[str], error: str | None) -> None:
        say(*notes, stream=sys.stderr)
        if error is None:
            self.executed += 1
            say(f"{task.title}: executed, {relative(Path(task.request['output']))}")
        else:
            self.failed_pages += 1
            say(f"FAILED {task.title}", error, stream=sys.stderr)


def _training_task(settings: Plan, experiment: Experiment, shows_bar: bool) -> Task:
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


def _outcome(run: records_run.Run) -> str:
    if run.status != "finished":
        return run.status
    return f"accuracy {run.metrics['final_val_acc']:.3f} ({run.metrics['seconds']:.0f} s)"


def _why_failed(run: records_run.Run, error: str | None) -> str:
    if run.diverged:
        record = relative(run.folder / "metrics.json")
        return f"{run.metrics['reason']} (to try it again all the same, delete {record})"
    reason = error.strip().splitlines()[-1] if error else "it is not finished"
    log = run.folder / repair.LOG
    return f"{reason}; see {relative(log)}" if log.exists() else reason


def say_how_to_resume(plans: Sequence[Plan]) -> None:
    """After an interruption: what is saved."""
    saved = "Stopped before the first run."
    if plans:
        total, missing = len(_experiments(plans)), len(missing_of(plans))
        saved = (
            f"Stopped: {total - missing} of {total} runs are finished, the others are saved up to "
            "their last epoch; executed pages are kept."
        )
    print(f"\n{saved} The same command goes on from there.", file=sys.stderr)
