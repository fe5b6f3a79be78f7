"""What a page trains, resolved: profile, images, seeds, device and folders.

Where a profile may use the embedded images, it takes them in place of a real data set that is not
there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from attn_blocks import datasets
from attn_blocks.datasets.folder import FOLDS
from attn_blocks.device import gpu_problem, select_device
from attn_blocks.errors import SettingError, choose
from attn_blocks.files import printable, project_folder
from attn_book.language import N_, _, say
from attn_book.study.design import EXTRA
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import GUIDES, PAGES, Comparison, Entry, seeds_of
from attn_book.study.recipes import PROFILES, default_profile

RESULTS = "ATTN_BLOCKS_RESULTS"  # of the environment: the results folder
# What ``attn_blocks.datasets`` calls images: title, classes, and how many there are.
LABEL = re.compile(
    r"(?P<title>.+) \((?P<classes>\d+)( of (?P<total>\d+))? classes; "
    r"(?P<train>[\d,]+) / (?P<val>[\d,]+) images\)"
)


class PlannedImages(Protocol):
    """What a plan has to know of its images: an ``ImageDataset``, or a record of one."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def class_total(self) -> int: ...
    @property
    def train(self) -> Sized: ...
    @property
    def val(self) -> Sized: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison with its data set and one experiment for each entry and seed."""

    comparison: Comparison
    images: PlannedImages
    recipe: Recipe
    experiments: tuple[tuple[Entry, Experiment], ...]

    @property
    def task(self) -> str:
        """Name of the task, which is that of the data set the write-up used."""
        return self.comparison.task

    @property
    def loaded(self) -> datasets.ImageDataset:
        """The images themselves, for those who look at them; not every plan has them."""
        if not isinstance(self.images, datasets.ImageDataset):
            raise SettingError(f"{self.images.title}: only the record of the images is here")
        return self.images

    @property
    def titles(self) -> list[str]:
        """The models' titles, in the order in which they are shown."""
        return [entry.title for entry in self.comparison.entries]


@dataclass(frozen=True)
class Plan:
    """Everything a page trains, resolved: profile, data, seeds, device and folders.

    ``fresh`` is True where every run is to be trained here, published or not.
    """

    page: str
    profile: str
    seeds: tuple[int, ...]
    device: str
    data_dir: Path
    results_dir: Path
    comparisons: tuple[PlannedComparison, ...]
    fresh: bool = False

    @property
    def experiments(self) -> list[Experiment]:
        """All experiments of the page, each once."""
        unique = {e.name: e for c in self.comparisons for _, e in c.experiments}
        return list(unique.values())

    def comparison(self, task: str) -> PlannedComparison:
        """The page's comparison on that task."""
        choose(f"task of {self.page}", task, [c.task for c in self.comparisons])
        return next(c for c in self.comparisons if c.task == task)

    def alone(self, task: str) -> Plan:
        """That task of the page by itself, with the seeds that are trained on it."""
        comparison = self.comparison(task)
        seeds = sorted({experiment.seed for _, experiment in comparison.experiments})
        return replace(self, comparisons=(comparison,), seeds=tuple(seeds))

    @property
    def provenance(self) -> str:
        """Profile, data, sizes, seeds and device in one line, for figures, tables and pages."""
        images = [
            images_in_words(c.images.label, c.recipe.image_size, c.recipe.width)
            for c in self.comparisons
        ]
        template = N_("profile {profile} · {data} · seed {seeds} · {device}")
        if len(self.seeds) > 1:
            template = N_("profile {profile} · {data} · seeds {seeds} · {device}")
        if any(experiment.fold for experiment in self.experiments):
            template = N_("profile {profile} · {data} · folds and seeds {seeds} · {device}")
        return say(
            template,
            profile=self.profile,
            data=_("; ").join(dict.fromkeys(images)),
            seeds=_(", ").join(map(str, sorted(self.seeds))),
            device=self.device,
        )

    def _repr_markdown_(self) -> str:
        text = f"**{self.page}** — {self.provenance}"
        if self.profile in ("study", "paper"):
            return text
        warning = _("This is a small run to see everything work. It is **not** a reproduction.")
        return f"{text}\n\n{warning}"


def data_label(label: str) -> str:
    """A data set's label, such as ``ImageDataset.label``, in today's language."""
    found = LABEL.fullmatch(label)
    if found is None:
        return label
    template = N_("{title} ({classes} classes; {train} / {val} images)")
    if found["total"]:
        template = N_("{title} ({classes} of {total} classes; {train} / {val} images)")
    return say(template, **found.groupdict())


def images_in_words(label: str, pixels: int, width: float) -> str:
    """A data set's label with the side of its images and the width of the networks."""
    return say(
        "{images}, {pixels} px, width {width:g}",
        images=data_label(label),
        pixels=pixels,
        width=width,
    )


def plan(
    page: str,
    profile: str | None = None,
    seeds: str | int | Iterable[int] | None = None,
    data_dir: str | Path | None = None,
    results_dir: str | Path | None = None,
    device: str | None = None,
    epochs: int | None = None,
    load: Callable[[str, str, Recipe, Path], PlannedImages] | None = None,
    comparisons: Sequence[Comparison] | None = None,
) -> Plan:
    """Resolve what ``page`` trains.

    Args:
        page: a name of ``PAGES``, such as ``"04_sge"``, of ``GUIDES`` or of ``design.EXTRA``.
        profile: a name of ``PROFILES``; None for "paper" with a GPU, and "quick" without or
            on "cpu".
        seeds: such as ``(0, 1, 2)`` or ``"0 1 2"``; None for the profile's own.
        data_dir: the data folder; None for ``$ATTN_BLOCKS_DATA``, else ``data``.
        results_dir: None for ``$ATTN_BLOCKS_RESULTS``, else ``results``; the profile's name is
            added to it.
        device: "cpu", "gpu", "gpu:1"; None for a GPU where there is one.
        epochs: trains for that many instead of the recipe's.
        load: loads the images in place of ``load_task``, for plans that are not trained or that
            share a listing.
        comparisons: what is trained in place of the page's own; ``page`` is any name then.

    Raises:
        SettingError: an unknown name or an invalid value, with the valid ones; or the paper
            profile where this Paddle cannot use the GPU that is here, and no device was chosen.
        DataError: a data set that the profile needs is not there, with the command to get it.
    """
    profile = choose("profile", profile or default_profile(device), PROFILES)
    if profile == "paper" and device is None and (problem := gpu_problem()):
        raise SettingError(f"the paper profile is made for the GPU, but {problem}")
    if comparisons is None:
        known = {**PAGES, **GUIDES, **EXTRA}
        comparisons = known[choose("page", page, known)]
    settings = PROFILES[profile]
    asked = parse_seeds(seeds) if seeds is not None else None
    data_dir, results_dir = datasets.data_folder(data_dir), results_folder(results_dir)
    for folder in (data_dir, results_dir):
        if printable(str(folder)) != str(folder):
            raise SettingError(
                f"notebooks cannot be told of the folder {str(folder)!a}: its name holds letters "
                "that are not UTF-8 or cannot be printed; rename it"
            )
    planned = []
    for comparison in comparisons:
        recipe = settings.recipes[comparison.task]
        if epochs is not None:
            recipe = replace(recipe, epochs=epochs)
        images = (load or load_task)(comparison.task, settings.data, recipe, data_dir)
        experiments = tuple(
            (entry, _experiment(entry, images, recipe, seed, profile))
            for entry in comparison.entries
            for seed in asked or seeds_of(comparison, entry, settings.seeds)
        )
        planned.append(PlannedComparison(comparison, images, recipe, experiments))
    used = {experiment.seed for c in planned for _, experiment in c.experiments}
    return Plan(
        page=page,
        profile=profile,
        seeds=asked or tuple(sorted(used)),
        device=select_device(device),
        data_dir=data_dir,
        results_dir=results_dir / profile,
        comparisons=tuple(planned),
    )


def load_task(task: str, data: str, recipe: Recipe, data_dir: Path) -> datasets.ImageDataset:
    """The images of a task: its own data set, or the embedded one where the profile may.

    Args:
        data: which images the profile may use, see ``Profile``.
    """
    found = data != "embedded" and datasets.find(task, data_dir) is not None
    # load() of a missing data set raises the error that says how to get it.
    name = task if found or data == "real" else "shapes"
    return load_images(name, recipe, data_dir)


def load_images(
    name: str, recipe: Recipe, data_dir: str | Path | None, fold: int = 0
) -> datasets.ImageDataset:
    """The data set as the recipe wants it: stored size and number of images."""
    return datasets.load(
        name,
        data_dir,
        short_side=recipe.stored_side,
        train_images=recipe.train_images,
        val_images=recipe.validation_images,
        fold=fold,
    )


def _experiment(
    entry: Entry, images: PlannedImages, recipe: Recipe, seed: int, profile: str
) -> Experiment:
    recipe = replace(recipe, **entry.changes.get(profile, {}))
    fold = fold_of(seed, images.name, profile)
    return Experiment(
        images.name, images.fingerprint, entry.model, recipe, seed, dict(entry.options), fold
    )


def fold_of(seed: int, dataset: str, profile: str) -> int:
    """The fold that a seed is validated on; 0 without folds, and on data sets that come split."""
    by_folds = PROFILES[profile].folds and not datasets.DATASETS[dataset].own_split
    return seed % FOLDS if by_folds else 0


def parse_seeds(seeds: str | int | Iterable[int]) -> tuple[int, ...]:
    """``"0 1 2"``, ``"0,1"``, ``3`` or ``(0, 1)`` as a tuple of different integers from 0."""
    values: Iterable[str | int]
    if isinstance(seeds, str):
        values = seeds.replace(",", " ").split()
    elif isinstance(seeds, int):
        values = [seeds]
    else:
        values = seeds
    try:
        parsed = tuple(dict.fromkeys(int(value) for value in values))
    except (TypeError, ValueError, OverflowError):  # the last for infinity
        parsed = ()
    # Larger ones fit into no record.
    if not parsed or not 0 <= min(parsed) <= max(parsed) < 2**63:
        raise SettingError(
            f'seeds must be integers from 0 to 2^63 - 1, such as "0 1 2", not {values!r}'
        )
    return parsed


def results_folder(results_dir: str | Path | None = None) -> Path:
    """The argument, else ``$ATTN_BLOCKS_RESULTS``, else ``results`` in the project."""
    return project_folder("results", RESULTS, results_dir)
