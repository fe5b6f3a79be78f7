"""What the networks at full width reached, in numbers computed from their records.

``book/full_size.md`` shows them. The study's own runs stand beside them where they are published,
and are never put into one comparison with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from attn_book.analysis.evidence import Evidence, of_folder
from attn_book.analysis.findings.compared import plain_of
from attn_book.analysis.statistics import mcnemar
from attn_book.records import full_size
from attn_book.records.full_size import FullSize
from attn_book.records.published import PUBLISHED
from attn_book.study.pages import CLASSICS, NINE, RESNET, SENETS, Comparison, title_for

ANIMALS, CALTECH, CIFAR = "animals10", "caltech16", "cifar10"
COMPARISONS = {ANIMALS: NINE, CALTECH: CLASSICS, CIFAR: SENETS}
RECORDS, STUDY = PUBLISHED / full_size.FOLDER, PUBLISHED / "study"


class Found:
    """The records of the GPU, and the study's runs that stand beside them.

    Args:
        folder: the published folder of these records.
        study: that of the profile "study".

    Attributes:
        trainings: task -> seed -> title -> record. The networks of one seed share their images.
    """

    def __init__(self, folder: Path = RECORDS, study: Path = STUDY) -> None:
        self.records = full_size.records(folder)
        self.study = study
        self.trainings = {
            task: {
                seed: _titled(
                    comparison, [r for r in self.records if (r.task, r.seed) == (task, seed)]
                )
                for seed in sorted({r.seed for r in self.records if r.task == task})
            }
            for task, comparison in COMPARISONS.items()
        }

    def networks(self, task: str) -> dict[str, FullSize]:
        """The first training of each network of a task."""
        return next(iter(self.trainings[task].values()))

    def baseline(self, task: str) -> str:
        """The first network of a task without a block, which the others are held against."""
        plain = plain_of(self.networks(task))
        assert plain is not None  # a record without its baseline would say nothing
        return plain

    @property
    def animals(self) -> dict[int, dict[str, FullSize]]:
        """Of Animals-10: seed -> title -> its training."""
        return self.trainings[ANIMALS]

    def all_of(self, title: str) -> list[FullSize]:
        """The trainings of a network on Animals-10."""
        return [networks[title] for networks in self.animals.values()]

    @property
    def plain(self) -> list[FullSize]:
        """The plain ResNet-50's trainings, one a seed."""
        return self.all_of(RESNET.title)

    @cached_property
    def blocks(self) -> dict[str, list[FullSize]]:
        """The trainings of the networks with a block on Animals-10, the best mean first."""
        titles = [title for title in self.networks(ANIMALS) if title != RESNET.title]
        ranked = sorted(titles, key=lambda title: -self.gain(ANIMALS, title))
        return {title: self.all_of(title) for title in ranked}

    def gains(self, task: str, title: str) -> list[float]:
        """Points above the task's baseline after the last epoch of each training."""
        baseline = self.baseline(task)
        return [
            100 * (networks[title].accuracy - networks[baseline].accuracy)
            for networks in self.trainings[task].values()
        ]

    def gain(self, task: str, title: str) -> float:
        """The mean of ``gains``."""
        return float(np.mean(self.gains(task, title)))

    def gains_after(self, epochs: Sequence[int]) -> dict[str, list[float]]:
        """Block -> points above ResNet-50 on Animals-10 after so many epochs, mean against mean."""
        rows = [epoch - 1 for epoch in epochs]
        plain = mean_course(self.plain)
        return {
            title: [100 * float(ahead) for ahead in (mean_course(of) - plain)[rows]]
            for title, of in self.blocks.items()
        }

    def errors(self, title: str) -> list[float]:
        """Of each training's gain on Animals-10, what the images alone leave, in points."""
        pairs = zip(self.all_of(title), self.plain, strict=True)
        return [standard_error(one.right, plain.right) for one, plain in pairs]

    def error(self, title: str) -> float:
        """Of the mean gain, the same; each training has validation images of its own."""
        errors = self.errors(title)
        return math.hypot(*errors) / len(errors)

    @cached_property
    def small(self) -> dict[str, Evidence]:
        """Task -> the study's runs of the same networks, small."""
        return {task: of_folder(self.study, of) for task, of in COMPARISONS.items()}


def _titled(comparison: Comparison, records: Iterable[FullSize]) -> dict[str, FullSize]:
    known = {title_for(record.model, record.options): record for record in records}
    return {e.title: known[e.title] for e in comparison.entries if e.title in known}


def mean_course(trainings: Sequence[FullSize]) -> np.ndarray:
    """Validation accuracy after each epoch, from 0 to 1, the mean of a network's trainings."""
    return np.mean([one.accuracies for one in trainings], axis=0)


def standard_error(right: np.ndarray, baseline: np.ndarray) -> float:
    """Of the difference of two accuracies on the same images, in points; of the images alone.

    Args:
        right, baseline: whether each image is judged right by the one network and by the other.
    """
    won, lost = mcnemar(right, baseline)
    images = len(right)
    return 100 * math.sqrt(won + lost - (won - lost) ** 2 / images) / images
