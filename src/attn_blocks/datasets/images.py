"""Decoded images in memory maps, and a data set of two such parts: train and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """Images of any size, one after the other in a flat read-only array.

    Attributes:
        pixels: uint8, flat; RGB, rows from the top, usually a memory map shared by all processes.
        offsets: int64 [N], where each image starts in ``pixels``.
        sizes: int32 [N, 2], height and width in pixels.
        labels: int64 [N], the class of each image.
    """

    pixels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image ``index`` as a read-only uint8 view [H, W, 3]."""
        height, width = self.sizes[index]
        start = self.offsets[index]
        return self.pixels[start : start + 3 * int(height) * int(width)].reshape(height, width, 3)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Images:
        """The images ``indices``, in that order, of the same pixels."""
        indices = np.asarray(indices, dtype=np.int64)
        return Images(self.pixels, self.offsets[indices], self.sizes[indices], self.labels[indices])


@dataclass(frozen=True)
class ImageDataset:
    """A data set ready to train on.

    Attributes:
        name, title: as in ``list_datasets()``, and for people.
        classes: the classes that are there, by label.
        class_total: how many classes the complete data set has.
        train, val: the two parts.
        fingerprint: SHA-256 over names, contents and split of the images that fold 0 uses, where
            their number is limited of its share; the same on any machine, whatever the stored size
            and the fold.
        left_out: (file, reason) of every image that is not used.
        duplicates: (training file, validation file) pairs of equal content.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    class_total: int
    train: Images
    val: Images
    fingerprint: str
    left_out: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What a figure is captioned with, see ``label_of``."""
        sizes = len(self.classes), self.class_total, len(self.train), len(self.val)
        return label_of(self.title, *sizes)


def label_of(title: str, classes: int, class_total: int, train: int, val: int) -> str:
    """A data set with its sizes, as ``Animals-10 (4 of 10 classes; 9 / 2 images)``."""
    share = "" if classes == class_total else f" of {class_total}"
    return f"{title} ({classes}{share} classes; {train:,} / {val:,} images)"
