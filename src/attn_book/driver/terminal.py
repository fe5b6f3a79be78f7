"""What a command shows on the terminal: a bar of epochs, one of pages, and the results."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from attn_book.analysis import tables
from attn_book.driver.processes import Task
from attn_book.records.reading import epochs_done
from attn_book.study.experiment import Experiment
from attn_book.study.pages import TASK_TITLES, title_of
from attn_book.study.plan import Plan, PlannedComparison

# The bar of a worker, at the end of its log: the share of the run that is trained.
WORKERS_BAR = re.compile(rb"(\d+\.\d)%\|")
LOG_END = 4096  # bytes
LINE = "{desc} {percentage:3.0f}%|{bar:8}| {n:.4g}/{total} {unit}, {remaining} left{postfix}"
ROOM_TAKEN = 58  # letters of that line, at most, before the names at its end
# Columns of the accuracy table that fit 80 letters; summary.csv has the others.
COLUMNS = ("Final accuracy", "Standard deviation", "Runs", "Reported")


def tell(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines, around a progress bar if one is shown."""
    stream = stream or sys.stdout
    for line in lines:
        tqdm.write(line, file=stream)
    stream.flush()


def titles_of(plans: Sequence[Plan]) -> dict[str, str]:
    """Run -> ``SE-ResNet-50 on Animals-10, fold 0, seed 1``; the last two where there are more."""
    entries = [
        (f"{entry.title} on {TASK_TITLES[comparison.task]}", experiment)
        for page in plans
        for comparison in page.comparisons
        for entry, experiment in comparison.experiments
    ]
    several = len({(experiment.fold, experiment.seed) for _, experiment in entries}) > 1
    return {
        experiment.name: title + f", fold {experiment.fold}, seed {experiment.seed}" * several
        for title, experiment in entries
    }


class Progress:
    """A bar of the epochs that are trained, and when they are, one of the pages.

    Args:
        trainings: the tasks that train, and ``experiments`` what each trains, by its title.
        pages: how many pages there are; 0 to execute none.
        workers_show_bars: whether each worker shows a bar of its own, so that none is needed here.
    """

    def __init__(
        self,
        trainings: Sequence[Task],
        experiments: dict[str, Experiment],
        pages: int,
        workers_show_bars: bool,
    ):
        self.trainings, self.experiments = trainings, experiments
        epochs = sum(experiment.recipe.epochs for experiment in experiments.values())
        self.epochs = _bar("Training", epochs, "epochs", workers_show_bars or not epochs)
        self.pages = _bar("Pages", pages, "pages", True)

    def show(self, running: Sequence[Task], ended: Collection[str], pages_done: int) -> None:
        """Bring the bar up to date.

        Args:
            running: the tasks that are worked on.
            ended: the titles of the trainings that have ended.
            pages_done: how many pages are executed, up to date or failed.
        """
        if len(ended) == len(self.experiments):
            self.epochs.close()
            self._show_pages([task.title for task in running], pages_done)
        elif not self.epochs.disable:
            active = {task.title for task in running}
            counts = {
                task.title: _epochs_so_far(
                    task, self.experiments[task.title].recipe.epochs, task.title in active
                )
                for task in self.trainings
            }
            names = [
                f"{title_of(e)} {int(counts[name])}/{e.recipe.epochs}"
                for name, e in self.experiments.items()
                if name in active
            ]
            _set(self.epochs, sum(counts.values()), names)

    def _show_pages(self, executing: Sequence[str], done: int) -> None:
        if not self.pages.total or (self.pages.disable and not executing):
            return
        if self.pages.disable:  # the first page that has to be executed
            self.pages = _bar("Pages", int(self.pages.total), "pages", False)
        _set(self.pages, done, executing)

    def close(self) -> None:
        """Take the bars off the terminal."""
        self.epochs.close()
        self.pages.close()


def _bar(title: str, total: int, unit: str, disable: bool) -> tqdm:
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        bar_format=LINE,
        dynamic_ncols=True,
        mininterval=0 if sys.stderr.isatty() else 30,
        disable=disable,
    )


def _set(bar: tqdm, count: float, names: Sequence[str]) -> None:
    bar.set_postfix_str(_fitting(names), refresh=False)
    bar.update(count - bar.n)


def _fitting(names: Sequence[str]) -> str:
    """As many names as the rest of a line holds, and how many more there are."""
    room = shutil.get_terminal_size().columns - ROOM_TAKEN
    for shown in range(len(names), 0, -1):
        more = [f"+{len(names) - shown}"] * (shown < len(names))
        line = ", ".join([*names[:shown], *more])
        if len(line) <= room:
            return line
    return ""


def _epochs_so_far(task: Task, epochs: int, running: bool) -> float:
    """The epochs of a run that are done, and the share of the one that its worker is in."""
    done = epochs_done(task.folder)
    if not running or task.log is None:
        return done
    try:
        with task.log.open("rb") as stream:
            stream.seek(max(0, task.log.stat().st_size - LOG_END))
            shares = WORKERS_BAR.findall(stream.read())
    except OSError:
        return done
    share = float(shares[-1]) / 100 * epochs if shares else 0
    return min(max(done, share), done + 1, epochs)


def print_results(plans: Sequence[Plan]) -> None:
    """The accuracies of every task, from the page that compares the most models on it."""
    for task, (page, comparison) in _widest(plans).items():
        drawings = comparison.images.name != task
        table = tables.accuracy_table(page, task)
        # A number that was reported on photographs says nothing beside one on drawings.
        shown = [c for c in COLUMNS if c in table and not (drawings and c == "Reported")]
        print(f"\n{TASK_TITLES[task]}{', on drawings in its place' * drawings}")
        print(f"{comparison.images.label}, profile {page.profile}, {page.device}")
        print(table[shown].to_string())


def _widest(plans: Sequence[Plan]) -> dict[str, tuple[Plan, PlannedComparison]]:
    """Task -> the page that compares the most models on it; parts of one comparison as a whole."""
    found: dict[str, tuple[Plan, PlannedComparison]] = {}
    for page in plans:
        for part in page.comparisons:
            known = found[part.task][1] if part.task in found else None
            if known is not None and known.comparison == part.comparison:
                runs = {e.name: (entry, e) for entry, e in (*known.experiments, *part.experiments)}
                whole = replace(part, experiments=tuple(runs.values()))
                found[part.task] = replace(page, comparisons=(whole,)), whole
            elif known is None or len(part.titles) > len(known.titles):
                found[part.task] = page, part
    return found


def relative(path: Path) -> Path:
    """A path as short as it can be given from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
