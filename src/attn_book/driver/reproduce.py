"""The driver: train what is missing, run the notebooks headless, write the summary.

Runs are trained in worker processes side by side. A notebook is executed when its runs are
finished, and only reads, plots and judges them. Nothing finished is made again: a run is identified
by its experiment's hash, an executed page by a key over its notebook, parameters, runs and package.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from attn_blocks import device
from attn_blocks.errors import SettingError, StorageError, choose
from attn_blocks.files import folder_lock, need_checkout, remove_leftovers
from attn_book.analysis.words import counted
from attn_book.driver.schedule import Schedule, experiments_of, missing_of, runs_of
from attn_book.driver.summary import part_profile, write_summary
from attn_book.driver.terminal import print_results, relative
from attn_book.language import ENGLISH, LANGUAGES
from attn_book.records import published, repair
from attn_book.records.run import Run, folders_in
from attn_book.study.design import EXTRA, ORDER
from attn_book.study.pages import GUIDES, PAGES, page_name
from attn_book.study.plan import Plan, load_task, plan
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
        if experiments_of(plans):  # guides have none to sum up
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
    lost = sum(run.status == "finished" for run in runs_of(plans) if run.folder.name in missing)
    total = len(experiments_of(plans))
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


def _use_published(plans: Sequence[Plan], fresh: bool) -> None:
    """Take published records for runs; if ``fresh``, remove those that were taken before."""
    if fresh:
        change, outcome = published.return_published, "of book/published are trained here instead"
    else:
        change, outcome = published.import_published_record, "taken from book/published"
    count = 0
    for run in filter(published.is_published, runs_of(plans)):
        with folder_lock(run.folder, wait=False) as free:
            count += free and change(run)
    if count:
        print(f"{counted(count, 'run')} {outcome}")


def _put_in_order(plans: Sequence[Plan]) -> None:
    """Put the runs in order that no process works on, and say what was done.

    Of runs that are not asked for, damaged files are set aside too, where that can be done: the
    summary lists every run.
    """
    asked = {run.folder for run in runs_of(plans)}
    for folder in folders_in(plans[0].results_dir / "runs"):
        tidy = repair.put_in_order if folder in asked else repair.set_aside_damaged_files
        try:
            with folder_lock(folder, wait=False) as free:
                for line in tidy(Run(folder)) if free else ():
                    print(line, file=sys.stderr)
        except StorageError as error:
            if folder in asked:
                raise
            print(error, file=sys.stderr)


def say_how_to_resume(plans: Sequence[Plan]) -> None:
    """After an interruption: what is saved."""
    saved = "Stopped before the first run."
    if plans:
        total, missing = len(experiments_of(plans)), len(missing_of(plans))
        saved = (
            f"Stopped: {total - missing} of {total} runs are finished, the others are saved up to "
            "their last epoch; executed pages are kept."
        )
    print(f"\n{saved} The same command goes on from there.", file=sys.stderr)
