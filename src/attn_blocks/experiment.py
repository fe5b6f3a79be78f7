"""What is trained: one experiment, the recipes of each profile, and the comparisons of each page.

A *task* is a data set together with the way the write-ups train on it. All models of a comparison
follow the same recipe, so that only the model differs. Recipes are per profile (DESIGN: smoke,
quick, study, paper); where a profile may use the embedded images, it takes them in place of a real
data set that is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attn_blocks import datasets, runtime
from attn_blocks.errors import SettingError, choose
from attn_blocks.files import project_folder

SCHEDULES = ("constant", "cosine", "one_cycle")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the same for every model of a comparison.

    Attributes:
        width: factor on every channel count of the published network.
        stem: "imagenet", "small" or "cifar", see ``attn_blocks.models``.
        image_size: side of the square network input, in pixels.
        augmentation: "resized_crop", "pad_crop" or "rotate", see ``attn_blocks.datasets``.
        smallest_crop: of "resized_crop", the least share of an image's area; 0.08 is customary
            for ImageNet, small images and short trainings want more.
        epochs, batch_size: passes over the training images, images a step.
        learning_rate: the constant rate, or the highest one of the schedule.
        schedule: "constant"; "cosine", annealed once an epoch; "one_cycle", a linear rise over the
            first fifth of all steps and a cosine fall to zero over the rest.
        momentum, nesterov: of stochastic gradient descent.
        weight_decay: L2 coefficient, on every parameter but those of blocks whose official
            training code decays none (SRM), and on norms only if ``decay_norms``.
        train_images, validation_images: how many images are used, None for all.
    """

    width: float
    stem: str
    image_size: int
    augmentation: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "cosine"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norms: bool = True
    smallest_crop: float = 0.08
    train_images: int | None = None
    validation_images: int | None = None

    def __post_init__(self) -> None:
        choose("schedule", self.schedule, SCHEDULES)
        for name in ("width", "learning_rate", "smallest_crop", "momentum", "weight_decay"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise SettingError(f"{name} must be a finite number from 0, not {value!r}")
            if value == 0 and name not in ("momentum", "weight_decay"):
                raise SettingError(f"{name} must be a positive number, not {value!r}")
        for name in ("image_size", "epochs", "batch_size", "train_images", "validation_images"):
            value = getattr(self, name)
            if value is None and name.endswith("_images"):
                continue
            if type(value) is not int or value < 1:
                raise SettingError(f"{name} must be a whole number from 1, not {value!r}")
        for name in ("stem", "augmentation"):
            if not isinstance(getattr(self, name), str):
                raise SettingError(f"{name} must be a name, not {getattr(self, name)!r}")

    @property
    def stored_side(self) -> int:
        """Shorter side, in pixels, at which decoded images are kept: crops come from 8/7 of it."""
        return math.ceil(self.image_size * 8 / 7) if self.augmentation == "resized_crop" else (
            self.image_size
        )

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate at ``step`` of ``steps`` in ``epoch`` (all counted from 0)."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        progress = (epoch * steps + step + 1) / (self.epochs * steps)
        rise = 0.2
        if progress < rise:
            return self.learning_rate * progress / rise
        return self.learning_rate * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


@dataclass(frozen=True)
class Experiment:
    """One run: a model, a data set, a recipe and a seed. Its hash is the run's identity.

    Attributes:
        dataset: name of the data set that is really used ("shapes" for the embedded one).
        fingerprint: hash over the data set's files and split.
        model: a name of ``list_models()``; ``options`` are its keywords beyond the recipe's.
        recipe, seed: how it is trained.
    """

    dataset: str
    fingerprint: str
    model: str
    recipe: Recipe
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``from_dict`` reads it back."""
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "options": dict(self.options),
            "seed": self.seed,
            "recipe": asdict(self.recipe),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Experiment:
        """Read what ``to_dict`` wrote; unknown or missing fields raise SettingError."""
        try:
            found = cls(**{**values, "recipe": Recipe(**values["recipe"])})
            for name, kind in (("dataset", str), ("fingerprint", str), ("model", str),
                               ("seed", int), ("options", Mapping)):  # fmt: skip
                if not isinstance(getattr(found, name), kind):
                    raise TypeError(f"{name} is {getattr(found, name)!r}")
        except (KeyError, TypeError) as error:
            raise SettingError(f"not the description of an experiment: {error}") from error
        return found

    @cached_property
    def hash(self) -> str:
        """Eight hexadecimal digits that change with anything that changes the result."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def variant(self) -> str:
        """The model's name with its options: ``senet_cifar-squeeze_avg``."""
        return "-".join([self.model, *(f"{k}_{v}" for k, v in sorted(self.options.items()))])

    @property
    def name(self) -> str:
        """The run folder's name."""
        return f"{self.dataset}-{self.variant}-s{self.seed}-{self.hash}"


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model, its options, and how the page calls it.

    ``paper_recipe`` holds what the write-up set differently for this model alone; only the paper
    profile follows it.
    """

    model: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper_recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Models that are trained equally on one task, and shown in one plot."""

    task: str
    entries: tuple[Entry, ...]

    def entry(self, title: str) -> Entry:
        """The entry of that title."""
        choose("model", title, [entry.title for entry in self.entries])
        return next(entry for entry in self.entries if entry.title == title)


@dataclass(frozen=True)
class Claim:
    """A statement of a write-up or a paper: ``better`` beats ``worse`` on a task.

    Attributes:
        page: where it is discussed.
        better, worse: titles of entries; ``worse`` None makes it a claim that ``better`` reaches
            the accuracy ``target``, in percent, with the write-up's own settings: the paper
            profile alone can test that.
        reported: the write-up's difference in points, or its accuracy in percent; None where it
            reports no number.
        paper: the paper's own gain, in points.
        by_size: whether the claim is the size of the gain and not only its sign.
    """

    page: str
    task: str
    better: str
    worse: str | None
    reported: float | None = None
    paper: float | None = None
    by_size: bool = False
    target: float | None = None

    @property
    def text(self) -> str:
        """The claim as one line of a table."""
        if self.worse is None:
            return f"{self.better} reaches {self.target:.0f}% on {TASK_TITLES[self.task]}"
        size = f" by {self.reported:.1f} points" if self.by_size else ""
        return f"{self.better} > {self.worse}{size} on {TASK_TITLES[self.task]}"


TASK_TITLES = {"animals10": "Animals-10", "caltech16": "Caltech-16", "cifar10": "CIFAR-10"}

RESNET = Entry("resnet50", "ResNet-50")
SE = Entry("se_resnet50", "SE-ResNet-50")
GE = Entry("ge_resnet50", "GE-ResNet-50")
SRM = Entry("srm_resnet50", "SRM-ResNet-50")
SGE = Entry("sge_resnet50", "SGE-ResNet-50")
SA = Entry("sa_resnet50", "SA-ResNet-50")
NL = Entry("nl_resnet50", "NL-ResNet-50")
GC = Entry("gc_resnet50", "GC-ResNet-50")
BAT = Entry("bat_resnet50", "BAT-ResNet-50")
SENET_PUBLISHED = Entry("senet_cifar", "SENet as published", {"squeeze": "none"})
SENET_INTENDED = Entry("senet_cifar", "SENet as intended", {"squeeze": "avg"})
SENET_WITHOUT = Entry("senet_cifar", "SENet without SE", {"attn": False})
SA_INCEPTION = Entry(
    "sa_inception", "SA-Residual-Inception", paper_recipe={"weight_decay": 2e-4}
)
VGG = Entry("vgg19", "VGG-19")
MOBILENET = Entry("mobilenet_v2", "MobileNet-V2")


def _animals(*entries: Entry) -> Comparison:
    return Comparison("animals10", (RESNET, *entries))


SENETS = Comparison("cifar10", (SENET_PUBLISHED, SENET_INTENDED, SENET_WITHOUT))
CLASSICS = Comparison("caltech16", (SA_INCEPTION, RESNET, VGG, MOBILENET))

# The page of all comparisons shows their numbers alone; the others look into trained networks too.
OVERVIEW = "09_comparison"
PAGES: Mapping[str, tuple[Comparison, ...]] = MappingProxyType(
    {
        "01_se": (SENETS, _animals(SE)),
        "02_ge": (_animals(GE),),
        "03_srm": (_animals(SE, GE, SRM),),
        "04_sge": (_animals(SGE),),
        "05_sa": (CLASSICS, _animals(SA)),
        "06_nl": (_animals(NL),),
        "07_gc": (_animals(NL, GC),),
        "08_bat": (_animals(NL, GC, BAT),),
        OVERVIEW: (_animals(SE, GE, SRM, SGE, SA, NL, GC, BAT), SENETS, CLASSICS),
    }
)


# Final accuracies of the write-ups (EXPERIMENTS.md); its Caltech write-up shows curves only.
REPORTED: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("cifar10", SENET_PUBLISHED.title): 0.8721,
        ("animals10", RESNET.title): 0.5888,
        ("animals10", SE.title): 0.8730,
        ("animals10", GE.title): 0.8614,
        ("animals10", SRM.title): 0.8736,
        ("animals10", SGE.title): 0.8056,
        ("animals10", NL.title): 0.7976,
        ("animals10", GC.title): 0.8040,
        ("animals10", BAT.title): 0.8159,
    }
)


def _gain(
    page: str,
    better: Entry,
    worse: Entry,
    paper: float | None = None,
    task: str = "animals10",
    one_write_up: bool = True,
) -> tuple[Claim, ...]:
    """The claim that one model beats another and, where a large gain is reported, that it is so
    large: below two points a write-up's single run says at most which model won.

    Accuracies of two write-ups (``one_write_up`` False) have no difference that anybody reports.
    """
    accuracies = [REPORTED.get((task, entry.title)) for entry in (better, worse)]
    known = one_write_up and None not in accuracies
    reported = None if not known else round(100 * (accuracies[0] - accuracies[1]), 2)
    claim = Claim(page, task, better.title, worse.title, reported, paper)
    return (claim, replace(claim, by_size=True)) if (reported or 0) > 2 else (claim,)


# What the book tests. Gains named by a paper are top-1 points on ImageNet with ResNet-50.
CLAIMS: tuple[Claim, ...] = (
    Claim("01_se", "cifar10", SENET_PUBLISHED.title, None, 87.21, target=87.0),
    *_gain("01_se", SENET_INTENDED, SENET_PUBLISHED, task="cifar10"),
    *_gain("01_se", SENET_PUBLISHED, SENET_WITHOUT, task="cifar10"),
    *_gain("01_se", SE, RESNET, paper=1.15),
    *_gain("02_ge", GE, RESNET, paper=0.9),
    *_gain("03_srm", SRM, RESNET, paper=1.24),
    *_gain("03_srm", SRM, SE),
    *_gain("03_srm", SE, GE),
    *_gain("04_sge", SGE, RESNET, paper=1.2),
    *_gain("05_sa", SA_INCEPTION, RESNET, task="caltech16"),
    *_gain("05_sa", SA_INCEPTION, VGG, task="caltech16"),
    *_gain("05_sa", SA_INCEPTION, MOBILENET, task="caltech16"),
    *_gain("05_sa", SA, RESNET, paper=1.3),
    *_gain("06_nl", NL, RESNET, one_write_up=False),
    *_gain("07_gc", GC, RESNET, paper=0.8, one_write_up=False),
    *_gain("07_gc", GC, NL),
    *_gain("08_bat", BAT, RESNET, one_write_up=False),
    *_gain("08_bat", BAT, GC),
    *_gain("08_bat", BAT, NL),
)


@dataclass(frozen=True)
class Profile:
    """A size of the whole book: recipes per task, default seeds, and which images it may use.

    ``data`` is "embedded" (always the drawn shapes), "any" (real where found) or "real". Runs of a
    ``shared`` profile take hours: those that are published count as finished everywhere.
    """

    recipes: Mapping[str, Recipe]
    seeds: tuple[int, ...]
    data: str
    shared: bool = False


_SMALL = Recipe(
    width=0.25, stem="small", image_size=56, augmentation="resized_crop", smallest_crop=0.35,
    epochs=6, batch_size=32, learning_rate=0.1, schedule="one_cycle", weight_decay=5e-4,
    train_images=2000, validation_images=500,
)  # fmt: skip
_TINY = replace(
    _SMALL, width=1 / 16, epochs=2, batch_size=16, train_images=40, validation_images=20
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "smoke": Profile(
            {
                "animals10": _TINY,
                "cifar10": replace(_TINY, stem="cifar", image_size=32, augmentation="pad_crop"),
                # At the others' rate VGG-19, which has no normalisation, diverges.
                "caltech16": replace(
                    _TINY, stem="cifar", image_size=64, augmentation="rotate", learning_rate=0.02
                ),
            },
            seeds=(0,),
            data="embedded",
        ),
        "quick": Profile(
            {
                "animals10": _SMALL,
                "cifar10": replace(
                    _SMALL, width=0.125, stem="cifar", image_size=32, augmentation="pad_crop",
                    epochs=7,
                ),
                # Its maps stay large for the five halvings of SA-Residual-Inception.
                "caltech16": replace(
                    _SMALL, width=0.125, stem="cifar", image_size=64, augmentation="rotate",
                    epochs=8, learning_rate=0.02, train_images=1000,
                ),
            },
            seeds=(0,),
            data="any",
        ),
        # Sized for 14 hours on two cores and tuned on the plain networks, see book/tuning.
        "study": Profile(
            {
                "animals10": replace(
                    _SMALL, smallest_crop=0.25, epochs=30, batch_size=64,
                    train_images=None, validation_images=None,
                ),
                "cifar10": replace(
                    _SMALL, image_size=32, augmentation="pad_crop", epochs=16, batch_size=64,
                    train_images=None, validation_images=None,
                ),
                "caltech16": replace(
                    _SMALL, image_size=64, epochs=60, learning_rate=0.02,
                    train_images=None, validation_images=None,
                ),
            },
            seeds=(0, 1, 2),
            data="real",
            shared=True,
        ),
        # The write-ups' settings; for Animals-10 they state none, EXPERIMENTS fixes these.
        "paper": Profile(
            {
                "animals10": Recipe(
                    width=1.0, stem="imagenet", image_size=224, augmentation="resized_crop",
                    epochs=60, batch_size=32, learning_rate=0.01,
                ),
                "cifar10": Recipe(
                    width=1.0, stem="cifar", image_size=32, augmentation="pad_crop",
                    epochs=40, batch_size=128, learning_rate=0.1, schedule="constant",
                    nesterov=True,
                ),
                "caltech16": Recipe(
                    width=1.0, stem="imagenet", image_size=256, augmentation="rotate",
                    epochs=100, batch_size=32, learning_rate=0.01,
                ),
            },
            seeds=(0,),
            data="real",
            shared=True,
        ),
    }
)  # fmt: skip


def default_profile() -> str:
    """"paper" where there is a GPU, else "quick"."""
    return "paper" if runtime.has_gpu() else "quick"


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison with its data set and one experiment for each entry and seed."""

    comparison: Comparison
    images: datasets.ImageDataset
    recipe: Recipe
    experiments: tuple[tuple[Entry, Experiment], ...]

    @property
    def task(self) -> str:
        """Name of the task, which is that of the data set the write-up used."""
        return self.comparison.task

    @property
    def titles(self) -> list[str]:
        """The models' titles, in the order in which they are shown."""
        return [entry.title for entry in self.comparison.entries]


@dataclass(frozen=True)
class Plan:
    """Everything a page trains, resolved: profile, data, seeds, device and folders.

    ``weights`` is False where only the numbers of the runs are wanted, as by ``OVERVIEW``;
    ``fresh`` is True where every run is to be trained here, published or not.
    """

    page: str
    profile: str
    seeds: tuple[int, ...]
    device: str
    data_dir: Path
    results_dir: Path
    comparisons: tuple[PlannedComparison, ...]
    weights: bool = True
    fresh: bool = False

    @property
    def experiments(self) -> list[Experiment]:
        """All experiments of the page, each once."""
        unique = {e.name: e for c in self.comparisons for _, e in c.experiments}
        return list(unique.values())

    def needs_weights(self, what: Experiment) -> bool:
        """Whether a page looks into the trained network: it does into those of the first seed.

        All are needed if they are to be trained here: a published run has none.
        """
        return self.fresh or (self.weights and what.seed == self.seeds[0])

    def comparison(self, task: str) -> PlannedComparison:
        """The page's comparison on that task."""
        choose(f"task of {self.page}", task, [c.task for c in self.comparisons])
        return next(c for c in self.comparisons if c.task == task)

    def alone(self, task: str) -> Plan:
        """That task of the page by itself, with the seeds that are trained on it."""
        comparison = self.comparison(task)
        seeds = sorted({what.seed for _, what in comparison.experiments})
        return replace(self, comparisons=(comparison,), seeds=tuple(seeds))

    @property
    def provenance(self) -> str:
        """Profile, data, seeds and device in one line, for figures, tables and pages."""
        data = "; ".join(dict.fromkeys(c.images.label for c in self.comparisons))
        seeds = ", ".join(map(str, sorted(self.seeds)))
        return f"profile {self.profile} · {data} · seed{'s' * (len(self.seeds) > 1)} {seeds} · " + (
            self.device
        )

    def _repr_markdown_(self) -> str:
        warning = (
            ""
            if self.profile in ("study", "paper")
            else "\n\nThis is a small run to see everything work. It is **not** a reproduction."
        )
        return f"**{self.page}** — {self.provenance}{warning}"


def plan(
    page: str,
    profile: str | None = None,
    seeds: str | int | Iterable[int] | None = None,
    data_dir: str | Path | None = None,
    results_dir: str | Path | None = None,
    device: str | None = None,
    epochs: int | None = None,
    load: Callable[[str, str, Recipe, Path], datasets.ImageDataset] | None = None,
) -> Plan:
    """Resolve what ``page`` trains.

    Args:
        page: a name of ``PAGES``, such as ``"04_sge"``.
        profile: a name of ``PROFILES``; None for "paper" with a GPU and "quick" without.
        seeds: such as ``(0, 1, 2)`` or ``"0 1 2"``; None for the profile's own.
        data_dir: the data folder; None for ``$ATTN_BLOCKS_DATA``, else ``data``.
        results_dir: None for ``$ATTN_BLOCKS_RESULTS``, else ``results``; the profile's name is
            added to it.
        device: "cpu", "gpu", "gpu:1"; None for a GPU where there is one.
        epochs: trains for that many instead of the recipe's.
        load: gives the images in place of ``load_task``, for plans that are not trained or that
            share what was read.

    Raises:
        SettingError: an unknown name or a value that cannot be, with the valid ones.
        DataError: a data set that the profile needs is not there, with the command to get it.
    """
    profile = choose("profile", profile or default_profile(), PROFILES)
    comparisons = PAGES[choose("page", page, PAGES)]
    settings = PROFILES[profile]
    seeds = parse_seeds(seeds) if seeds is not None else settings.seeds
    data_dir = datasets.data_folder(data_dir)
    planned = []
    for comparison in comparisons:
        recipe = settings.recipes[comparison.task]
        if epochs is not None:
            recipe = replace(recipe, epochs=epochs)
        images = (load or load_task)(comparison.task, settings.data, recipe, data_dir)
        experiments = tuple(
            (entry, _experiment(entry, images, recipe, seed, profile))
            for entry in comparison.entries
            for seed in seeds
        )
        planned.append(PlannedComparison(comparison, images, recipe, experiments))
    return Plan(
        page=page,
        profile=profile,
        seeds=seeds,
        device=runtime.select_device(device),
        data_dir=data_dir,
        results_dir=results_folder(results_dir) / profile,
        comparisons=tuple(planned),
        weights=page != OVERVIEW,
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


def load_images(name: str, recipe: Recipe, data_dir: str | Path | None) -> datasets.ImageDataset:
    """The data set as the recipe wants it: stored size and number of images."""
    return datasets.load(
        name,
        data_dir,
        short_side=recipe.stored_side,
        train_images=recipe.train_images,
        val_images=recipe.validation_images,
    )


def _experiment(
    entry: Entry, images: datasets.ImageDataset, recipe: Recipe, seed: int, profile: str
) -> Experiment:
    if profile == "paper":
        recipe = replace(recipe, **entry.paper_recipe)
    return Experiment(
        images.name, images.fingerprint, entry.model, recipe, seed, dict(entry.options)
    )


def parse_seeds(seeds: str | int | Iterable[int]) -> tuple[int, ...]:
    """``"0 1 2"``, ``"0,1"``, ``3`` or ``(0, 1)`` as a tuple of different integers >= 0."""
    if isinstance(seeds, str):
        seeds = seeds.replace(",", " ").split()
    elif isinstance(seeds, int):
        seeds = [seeds]
    try:
        parsed = tuple(dict.fromkeys(int(seed) for seed in seeds))
    except (TypeError, ValueError):
        parsed = ()
    if not parsed or min(parsed) < 0:
        raise SettingError(f'seeds must be integers from 0, such as "0 1 2", not {seeds!r}')
    return parsed


def results_folder(results_dir: str | Path | None = None) -> Path:
    """The argument, else ``$ATTN_BLOCKS_RESULTS``, else ``results`` in the project."""
    return project_folder("results", "ATTN_BLOCKS_RESULTS", results_dir)
