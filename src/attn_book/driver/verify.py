"""What is published, checked: records, tables and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attn_blocks.errors import CheckpointError, SettingError
from attn_book.driver.executed import notebook_problems, read_page
from attn_book.driver.numbers import other_numbers
from attn_book.driver.summary import tables
from attn_book.language import ENGLISH, LANGUAGES, in_language, language, speaking
from attn_book.records import attention, faults, first_study, full_size, near_copies
from attn_book.records.published import PUBLISHED, WEIGHTS_FOLDER, PublishError
from attn_book.records.reading import RECORDS
from attn_book.records.recorded import entry_of, finished_runs, recorded_plans
from attn_book.records.repair import READERS, disagreements
from attn_book.records.run import Run, folders_in
from attn_book.records.seal import broken_seals
from attn_book.records.semantics import changed_parts
from attn_book.study.design import EXTRA
from attn_book.study.pages import PAGES
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

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
    """The task of the comparison that a profile has the run in; None where it is in none."""
    comparisons = [comparison for page in (*PAGES.values(), *EXTRA.values()) for comparison in page]
    return next((c.task for c in comparisons if entry_of(c, run.experiment, profile)), None)


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
    finished = finished_runs(folder)
    if not finished:
        return [*seals, f"no finished run is published; {FIRST_PUBLISH}"]
    problems += [
        f"{path.name} are weights of no run that is published"
        for path in sorted((folder / WEIGHTS_FOLDER).glob("*"))
        if path.stem not in finished
    ]
    for records in (faults, attention, near_copies):
        problems += records.problems(folder)
    problems += _table_problems(folder, plans)
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
        return _diverged_problems(run, names, profile)
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
    return ([unfit] if unfit else []) + disagreements(run)


def _diverged_problems(run: Run, names: Sequence[str], profile: str) -> list[str]:
    """What is wrong with the records of a run that diverged, which end where it did."""
    try:
        for name in names:
            READERS[name](run.folder / name)
    except CheckpointError as error:
        return [str(error)]
    unfit = why_unfit(run, profile)
    return [unfit] if unfit else []


def _table_problems(folder: Path, plans: Mapping[str, Plan]) -> list[str]:
    return [
        f"{name} is not what the records give; run: make publish PROFILE={folder.name}"
        for name, text in tables(folder, [*plans.values()]).items()
        if not _holds(folder / name, text)
    ]


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:  # missing or unreadable, as the seal says
        return False
