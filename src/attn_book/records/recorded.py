"""Plans made from records alone, without images: published tables and figures need no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attn_book.records.published import PublishError
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import PAGES, Comparison, Entry, seeds_of
from attn_book.study.plan import Plan, PlannedComparison, fold_of
from attn_book.study.recipes import PROFILES


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
    fingerprint: str


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
    runs = finished_runs(folder)
    plans = {}
    for page, comparisons in PAGES.items():
        every = [_planned(comparison, runs, folder.name) for comparison in comparisons]
        planned = [comparison for comparison in every if comparison is not None]
        if planned:
            plans[page] = _plan(page, folder, planned, runs)
    return plans


def ended_runs(folder: Path) -> dict[str, Run]:
    """The runs below a profile's folder that finished or diverged, by name."""
    paths = sorted((folder / "runs").glob("*/metrics.json"))
    runs = [Run(path.parent) for path in paths if (path.parent / "experiment.json").exists()]
    return {run.folder.name: run for run in runs if run.has_ended}


def finished_runs(folder: Path) -> dict[str, Run]:
    """Those that finished."""
    return {name: run for name, run in ended_runs(folder).items() if run.status == "finished"}


def runs_by_title(folder: Path, comparison: Comparison) -> dict[str, list[Run]]:
    """Title -> a comparison's runs on its own images that ended, in the order of the seeds.

    Args:
        folder: a profile's results or published folder; its name is the profile's.
    """
    found: dict[str, list[Run]] = {entry.title: [] for entry in comparison.entries}
    for run in sorted(ended_runs(folder).values(), key=lambda run: run.experiment.seed):
        entry = entry_of(comparison, run.experiment, folder.name)
        if entry is not None and run.experiment.dataset == comparison.task:
            found[entry.title].append(run)
    return found


def entry_of(comparison: Comparison, experiment: Experiment, profile: str) -> Entry | None:
    """The entry of a comparison that an experiment belongs to, with the profile's very recipe."""
    settings = PROFILES[profile]
    # In a study of folds, other seeds than its own, and other folds than the seed's, are of trials.
    seeds_fold = fold_of(experiment.seed, comparison.task, profile)
    if settings.folds and experiment.fold != seeds_fold:
        return None
    for entry in comparison.entries:
        if settings.folds and experiment.seed not in seeds_of(comparison, entry, settings.seeds):
            continue
        recipe: Recipe = settings.recipes[comparison.task]
        recipe = replace(recipe, **entry.changes.get(profile, {}))
        if (experiment.model, dict(experiment.options), experiment.recipe) == (
            entry.model,
            dict(entry.options),
            recipe,
        ) and experiment.dataset in (comparison.task, "shapes"):
            return entry
    return None


def _planned(
    comparison: Comparison, runs: dict[str, Run], profile: str
) -> PlannedComparison | None:
    """A comparison with its runs; None if it has none."""
    mine = [
        (entry, run)
        for run in runs.values()
        if (entry := entry_of(comparison, run.experiment, profile)) is not None
    ]
    if not mine:
        return None
    mine.sort(key=lambda pair: (comparison.entries.index(pair[0]), pair[1].experiment.seed))
    # Folds differ by an image or two; a plan that is trained has the numbers of the first.
    by_fold = sorted((run for _, run in mine), key=lambda run: -run.experiment.fold)
    images = {run.experiment.fingerprint: _images(run) for run in by_fold}
    if len(images) > 1:
        labels = " and ".join(sorted(found.label for found in images.values()))
        raise PublishError(
            f"the runs of {comparison.task} are on different images: {labels}; keep one of them"
        )
    return PlannedComparison(
        comparison,
        next(iter(images.values())),
        PROFILES[profile].recipes[comparison.task],
        tuple((entry, run.experiment) for entry, run in mine),
    )


def _images(run: Run) -> RecordedImages:
    data = run.record["data"]
    return RecordedImages(
        run.experiment.dataset,
        data["title"],
        data["label"],
        tuple(data["classes"]),
        data["class_total"],
        range(data["train_images"]),
        range(data["validation_images"]),
        run.experiment.fingerprint,
    )


def _plan(
    page: str, folder: Path, planned: Sequence[PlannedComparison], runs: dict[str, Run]
) -> Plan:
    experiments = [experiment for comparison in planned for _, experiment in comparison.experiments]
    devices = {runs[experiment.name].record["compute"]["device"] for experiment in experiments}
    return Plan(
        page=page,
        profile=folder.name,
        seeds=tuple(sorted({experiment.seed for experiment in experiments})),
        device=" and ".join(sorted(devices)),
        data_dir=Path("data"),
        results_dir=folder,
        comparisons=tuple(planned),
    )


def wanted_of(
    comparisons: Iterable[Comparison], seeds: tuple[int, ...]
) -> list[tuple[str, str, int]]:
    """(task, title, seed) of every run of some comparisons, each once, in their order."""
    wanted = (
        (comparison.task, entry.title, seed)
        for comparison in comparisons
        for entry in comparison.entries
        for seed in seeds_of(comparison, entry, seeds)
    )
    return list(dict.fromkeys(wanted))


def ended_of(
    comparisons: Iterable[Comparison], runs: Iterable[Run], profile: str
) -> set[tuple[str, str, int]]:
    """(task, title, seed) of those of ``runs`` that are of some comparisons."""
    experiments = [run.experiment for run in runs]
    return {
        (comparison.task, entry.title, experiment.seed)
        for comparison in comparisons
        for experiment in experiments
        if (entry := entry_of(comparison, experiment, profile)) is not None
    }


def lacking(plan: Plan) -> list[str]:
    """What a page shows and the records do not hold: a line for each missing run."""
    diverged = [run for run in ended_runs(plan.results_dir).values() if run.diverged]
    there = ended_of([c.comparison for c in plan.comparisons], diverged, plan.profile)
    for c in plan.comparisons:
        there |= {(c.task, entry.title, experiment.seed) for entry, experiment in c.experiments}
    return [
        f"{title} on {task}, seed {seed}"
        for task, title, seed in wanted_of(PAGES[plan.page], plan.seeds)
        if (task, title, seed) not in there
    ]
