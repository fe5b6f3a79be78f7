"""What is on record of a task: its networks' runs by fold, and the numbers that verdicts need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from attn_blocks import datasets
from attn_blocks.errors import CheckpointError, SettingError
from attn_book.analysis import statistics
from attn_book.analysis.statistics import Values
from attn_book.analysis.words import counted
from attn_book.language import say
from attn_book.records.planned import run_of
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import RecordedImages, ended_runs, entry_of, runs_by_title
from attn_book.records.run import Run
from attn_book.records.semantics import changed_parts
from attn_book.study.design import HALF_THE_EPOCHS, TWICE_THE_EPOCHS
from attn_book.study.pages import OVERVIEW, PAGES, Comparison, seeds_of
from attn_book.study.plan import Plan, PlannedComparison
from attn_book.study.recipes import PROFILES

CONSTANT = 0.005  # the least share of predictions that a block which is at work changes
# ResNet-50 alone, the first network of each.
LENGTHS = replace(
    HALF_THE_EPOCHS, entries=(HALF_THE_EPOCHS.entries[0], TWICE_THE_EPOCHS.entries[0])
)


@dataclass(frozen=True)
class Evidence:
    """The runs of a task's networks.

    Attributes:
        is_own: whether the images are those that claims on the task are about.
        folds: whether each seed is validated on a fold of its own; a data set that comes split has
            one set of validation images for all.
        wanted: title -> the seeds that are trained; run k of a network has fold and seed k.
        runs: title -> seed -> its finished run.
        diverged: title -> seed -> why the run ended early. Such a run has ended as well.
    """

    is_own: bool
    folds: bool
    wanted: Mapping[str, Sequence[int]]
    runs: Mapping[str, Mapping[int, Run]]
    diverged: Mapping[str, Mapping[int, str]]

    @property
    def is_complete(self) -> bool:
        """Whether every run of every network has ended, finished or diverged."""
        return all(self.has_ended(title, seeds) for title, seeds in self.wanted.items())

    @property
    def ended(self) -> int:
        """How many of the runs that are wanted have ended, finished or diverged."""
        return sum(self.has_ended(t, [seed]) for t, seeds in self.wanted.items() for seed in seeds)

    def has_ended(self, title: str, seeds: Iterable[int]) -> bool:
        """Whether a network's runs of these seeds have ended, finished or diverged."""
        return set(seeds) <= self.runs[title].keys() | self.diverged[title].keys()

    @cached_property
    def accuracies(self) -> Values:
        """Final validation accuracies in points, by title and seed."""
        return {
            title: {seed: 100 * run.metrics["final_val_acc"] for seed, run in runs.items()}
            for title, runs in self.runs.items()
        }

    @cached_property
    def log_odds(self) -> Values:
        """The same in log-odds."""
        return {
            title: {seed: float(statistics.log_odds(points / 100)) for seed, points in row.items()}
            for title, row in self.accuracies.items()
        }

    def shared(self, *titles: str) -> list[int]:
        """The seeds that all of these networks finished."""
        return sorted(set.intersection(*(set(self.runs[title]) for title in titles)))

    def gains(self, title: str, other: str) -> dict[int, float]:
        """Seed -> by how many points a network is above another one, where both finished."""
        ours, theirs = self.accuracies[title], self.accuracies[other]
        return {seed: ours[seed] - theirs[seed] for seed in self.shared(title, other)}

    def progress(self, *titles: str) -> str:
        """How many runs these networks share of those that are wanted: "3 of 5 folds"."""
        done = len(self.shared(*titles))
        wanted = len(set.intersection(*(set(self.wanted[title]) for title in titles)))
        return share_of_runs(done, wanted, self.folds) + self.ended_early(*titles)

    def ended_early(self, *titles: str) -> str:
        """ ", 1 run diverged" of these networks; empty if none did."""
        count = sum(len(self.diverged.get(title, ())) for title in titles)
        return say(", {runs} diverged", runs=counted(count, "run")) if count else ""

    def is_constant(self, title: str) -> bool:
        """Whether a network's blocks do the same to all images, by the mean of its runs."""
        changed = [
            run.metrics["frozen"]["changed"]
            for run in self.runs[title].values()
            if "frozen" in run.metrics
        ]
        return bool(changed) and float(np.mean(changed)) < CONSTANT

    def right(self, title: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(whether a run is right on each validation image, the images' classes)."""
        logits, labels = self.runs[title][seed].logits
        return logits.argmax(axis=1) == labels, labels

    def right_alone(self, better: str, worse: str) -> tuple[int, int]:
        """McNemar's counts, added up over the seeds that both have."""
        counts = [
            statistics.mcnemar(self._right[better][seed], self._right[worse][seed])
            for seed in self.shared(better, worse)
        ]
        return sum(first for first, _ in counts), sum(second for _, second in counts)

    def drawn(self, better: str, worse: str) -> np.ndarray:
        """Accuracies on images drawn again, [draws, seeds, 2], over the seeds that both have.

        Where all seeds have the same images, the seeds are drawn again as well.
        """
        both = [
            [self._drawn[t][seed] for t in (better, worse)] for seed in self.shared(better, worse)
        ]
        accuracies = np.moveaxis(np.array(both), 2, 0)
        return accuracies if self.folds else statistics.draw_seeds(accuracies, np.random.PCG64(1))

    @cached_property
    def _seen(self) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
        return {t: {seed: self.right(t, seed) for seed in runs} for t, runs in self.runs.items()}

    @cached_property
    def _right(self) -> dict[str, dict[int, np.ndarray]]:
        return {
            t: {seed: right for seed, (right, _) in row.items()} for t, row in self._seen.items()
        }

    @cached_property
    def _drawn(self) -> dict[str, dict[int, np.ndarray]]:
        """Accuracies on images drawn again, by title and seed, [draws]."""
        bits = np.random.PCG64(0)
        every = [(title, seed) for title, runs in self.runs.items() for seed in sorted(runs)]
        seeds = sorted({seed for _, seed in every})
        found: dict[str, dict[int, np.ndarray]] = {title: {} for title in self.runs}
        # The runs of a fold get the same draws; where all have the same images, all do.
        for group in [[r for r in every if r[1] == s] for s in seeds] if self.folds else [every]:
            labels = self._seen[group[0][0]][group[0][1]][1]
            for title, seed in group:
                if not np.array_equal(self._seen[title][seed][1], labels):
                    folder = self.runs[title][seed].folder
                    raise CheckpointError(
                        f"{folder} is not about the images of the other runs that it is compared "
                        "with; remove it and train it again"
                    )
            right = np.stack([self._right[title][seed] for title, seed in group])
            accuracies = statistics.draw_images(right, labels, bits)
            for (title, seed), of_run in zip(group, accuracies.T, strict=True):
                found[title][seed] = of_run
        return found


def share_of_runs(done: int, wanted: int, folds: bool) -> str:
    """How many runs there are of those that are wanted: "3 of 5 folds", "1 of 1 seed"."""
    unit = counted(wanted, "fold") if folds else counted(wanted, "seed")
    return say("{done} of {wanted}", done=done, wanted=unit)


def on_record(plan: Plan) -> dict[str, Evidence]:
    """What there is, by task: in a profile of folds the whole study, else the page's own runs.

    A page of the study shows a part of a family, and the residual and the corrections need all of
    it: what lies in the plan's results folder, and what is published where that is not the same.
    Runs on other images than the plan's are left out; of a task that the page does not have, those
    on other images than the run that was finished last.
    """
    settings = PROFILES[plan.profile]
    if not settings.folds:
        return {planned.task: of_page(plan, planned) for planned in plan.comparisons}
    ended = ended_of_study(plan)
    known = {c.task: c.images.fingerprint for c in plan.comparisons}
    found = {}
    for comparison in PAGES[OVERVIEW]:
        runs = _of_comparison(comparison, ended, plan.profile, known.get(comparison.task))
        stamps = [(run.folder / "metrics.json").stat().st_mtime_ns for _, run in runs]
        found[comparison.task] = _of_study(comparison.task, plan.profile, (*runs,), (*stamps,))
    return found


def of_page(plan: Plan, planned: PlannedComparison) -> Evidence:
    """What there is of a comparison of a page: its own runs."""
    wanted: dict[str, list[int]] = {title: [] for title in planned.titles}
    for entry, experiment in planned.experiments:
        wanted[entry.title].append(experiment.seed)
    runs = [(entry.title, run_of(plan, experiment)) for entry, experiment in planned.experiments]
    return Evidence(
        planned.images.name == planned.task,
        False,
        wanted,
        *_sorted(wanted, runs),
    )


def _of_comparison(
    comparison: Comparison, ended: Sequence[Run], profile: str, fingerprint: str | None
) -> list[tuple[str, Run]]:
    """(title, run) of the runs of a comparison on its own images."""
    runs = [
        (entry.title, run)
        for run in ended
        if run.experiment.dataset == comparison.task
        and (entry := entry_of(comparison, run.experiment, profile)) is not None
    ]
    finished = [run for _, run in runs if run.status == "finished"]
    if fingerprint is None and finished:
        newest = max(finished, key=lambda run: run.metrics["finished"])
        fingerprint = newest.experiment.fingerprint
    return [(title, run) for title, run in runs if run.experiment.fingerprint == fingerprint]


@lru_cache(maxsize=16)
def _of_study(
    task: str, profile: str, runs: tuple[tuple[str, Run], ...], stamps: tuple[int, ...]
) -> Evidence:
    """Kept while no record changes: drawing images takes seconds, and every table needs it."""
    return _of_runs(next(c for c in PAGES[OVERVIEW] if c.task == task), profile, runs)


def of_folder(folder: Path, comparison: Comparison) -> Evidence:
    """What a folder of the study has of a comparison, be it of a page or of ``study.design``.

    Args:
        folder: the profile's results or published folder; its name is the profile's.
    """
    runs = [(t, run) for t, of in runs_by_title(folder, comparison).items() for run in of]
    return _of_runs(comparison, folder.name, runs)


def _of_runs(comparison: Comparison, profile: str, runs: Sequence[tuple[str, Run]]) -> Evidence:
    seeds = PROFILES[profile].seeds
    wanted = {entry.title: seeds_of(comparison, entry, seeds) for entry in comparison.entries}
    folds = not datasets.DATASETS[comparison.task].own_split
    return Evidence(True, folds, wanted, *_sorted(wanted, runs))


def other_lengths(plan: Plan, task: str) -> dict[int, list[Run]]:
    """Epochs -> ResNet-50's finished runs of that length, on a task's images; only in the study."""
    found: dict[int, list[Run]] = {}
    if task != LENGTHS.task or not PROFILES[plan.profile].folds:
        return found
    fingerprint = plan.comparison(task).images.fingerprint
    for _, run in _of_comparison(LENGTHS, ended_of_study(plan), plan.profile, fingerprint):
        if run.status == "finished":
            found.setdefault(run.experiment.recipe.epochs, []).append(run)
    return found


def ended_of_study(plan: Plan) -> list[Run]:
    """The profile's runs that ended, those of the results folder in place of published ones.

    Nothing takes the place of a published run that diverged: that is a result as any other.
    """
    is_live = not any(isinstance(c.images, RecordedImages) for c in plan.comparisons)
    if not is_live:
        found = _current(ended_runs(plan.results_dir))
    else:
        found = _current(ended_runs(PUBLISHED / plan.profile))
        diverged = {name for name, run in found.items() if run.diverged}
        ours = _current(ended_runs(plan.results_dir))
        found |= {name: run for name, run in ours.items() if name not in diverged}
    return [found[name] for name in sorted(found)]


def _current(runs: Mapping[str, Run]) -> dict[str, Run]:
    """Those of today's semantics, and of networks that are known here."""
    found = {}
    for name, run in runs.items():
        with suppress(SettingError):
            if not changed_parts(run.record["semantics"], run.experiment):
                found[name] = run
    return found


def _sorted(
    wanted: Mapping[str, Sequence[int]], runs: Sequence[tuple[str, Run]]
) -> tuple[dict[str, dict[int, Run]], dict[str, dict[int, str]]]:
    """Finished runs, and the reasons of diverged ones, by title and seed."""
    finished: dict[str, dict[int, Run]] = {title: {} for title in wanted}
    diverged: dict[str, dict[int, str]] = {title: {} for title in wanted}
    for title, run in runs:
        if run.status == "finished":
            finished[title][run.experiment.seed] = run
        elif run.diverged:
            diverged[title][run.experiment.seed] = run.metrics["reason"]
    return finished, diverged
