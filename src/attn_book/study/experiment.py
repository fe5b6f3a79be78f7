"""How a network is trained (Recipe), and one training of one network (Experiment)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from attn_blocks.datasets.folder import check_fold
from attn_blocks.errors import SettingError, choose

SCHEDULES = (
    "constant",
    "cosine",
    "cosine_by_batch",
    "one_cycle",
    "steps",
    "steps_by_batch",
)
DECAYS = ("mixing", "gains", "all")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the same for every model of a comparison.

    Attributes:
        width: factor on every channel count of the published network.
        stem: "imagenet", "small" or "cifar", see ``attn_blocks.models``.
        image_size: side of the square network input, in pixels.
        augmentation: a name of ``create_transform`` in ``attn_blocks.datasets``.
        smallest_crop: of "resized_crop", the least share of an image's area; 0.08 is customary
            for ImageNet, small images and short trainings want more.
        epochs, batch_size: passes over the training images, images a step.
        learning_rate: the constant rate, or the highest one of the schedule.
        schedule: "constant"; "cosine", annealed once an epoch; "one_cycle", a linear rise over the
            first fifth of all steps and a cosine fall to zero over the rest; "steps", divided by
            ten after each third of the epochs. "cosine_by_batch" and "steps_by_batch" are those
            schedules with their epochs counted in batches, so that the first swings up and down
            many times and the second falls to nothing within an epoch: what ``paddle.Model.fit``
            makes of a schedule that was meant for epochs.
        momentum, nesterov: of stochastic gradient descent.
        weight_decay: L2 coefficient.
        decay: what it acts on: "mixing", the weights that mix channels and nothing else; "gains",
            also what attention blocks hold beside their layers; "all", every parameter. See
            ``decayed_parameters`` in ``training.build``.
        drop_last: whether a last batch that is not full is left out.
        reversed_statistics: whether mean and standard deviation of the channels are applied in
            reverse order, blue's to red.
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
    decay: str = "mixing"
    smallest_crop: float = 0.08
    drop_last: bool = True
    reversed_statistics: bool = False
    train_images: int | None = None
    validation_images: int | None = None

    def __post_init__(self) -> None:
        choose("schedule", self.schedule, SCHEDULES)
        choose("decay", self.decay, DECAYS)
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
        for name in ("nesterov", "drop_last", "reversed_statistics"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in ("stem", "augmentation"):
            if not isinstance(getattr(self, name), str):
                raise SettingError(f"{name} must be a name, not {getattr(self, name)!r}")

    @property
    def stored_side(self) -> int:
        """Shorter side, in pixels, at which decoded images are kept: crops come from 8/7 of it."""
        if self.augmentation in ("resized_crop", "center_crop"):
            return math.ceil(self.image_size * 8 / 7)
        return self.image_size

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate at ``step`` of ``steps`` in ``epoch`` (all counted from 0)."""
        if self.schedule == "constant":
            return self.learning_rate
        counted = epoch * steps + step if self.schedule.endswith("_by_batch") else epoch
        if self.schedule.startswith("cosine"):
            return self.learning_rate * (1 + math.cos(math.pi * counted / self.epochs)) / 2
        if self.schedule.startswith("steps"):
            return self.learning_rate * 0.1 ** (3 * counted // self.epochs)
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
        fold: which fifth of the images it is validated on, see ``datasets.load``; fold 0 is the
            write-ups' split.
    """

    dataset: str
    fingerprint: str
    model: str
    recipe: Recipe
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    fold: int = 0

    def __post_init__(self) -> None:
        check_fold(self.fold)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``from_dict`` reads it back."""
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "options": dict(self.options),
            "fold": self.fold,
            "seed": self.seed,
            "recipe": asdict(self.recipe),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Experiment:
        """Read what ``to_dict`` wrote; unknown or missing fields raise SettingError."""
        try:
            found = cls(**{**values, "recipe": Recipe(**values["recipe"])})
            for name, kind in (
                ("dataset", str),
                ("fingerprint", str),
                ("model", str),
                ("seed", int),
                ("options", Mapping),
            ):
                if not isinstance(getattr(found, name), kind):
                    raise TypeError(f"{name} is {getattr(found, name)!r}")
        except (KeyError, TypeError) as error:
            raise SettingError(f"not the description of an experiment: {error}") from error
        return found

    @cached_property
    def hash(self) -> str:
        """Eight hexadecimal digits that change with anything that changes the result.

        A setting at its default is left out: a new setting renames no run that does without it.
        """
        values = self.to_dict()
        for setting in fields(Recipe):
            if values["recipe"][setting.name] == setting.default:
                del values["recipe"][setting.name]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def variant(self) -> str:
        """The model's name with its options, fit for a folder: ``senet_cifar-squeeze_avg``."""
        words = [self.model, *(f"{k}_{v}" for k, v in sorted(self.options.items()))]
        return re.sub(r"[^\w.-]", "_", "-".join(words))  # a block of the reader's own has a colon

    @property
    def name(self) -> str:
        """The run folder's name."""
        return f"{self.dataset}-{self.variant}-f{self.fold}-s{self.seed}-{self.hash}"
