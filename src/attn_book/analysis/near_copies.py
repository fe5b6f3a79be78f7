"""Validation images that have a near-copy among the training images of their fold.

Data sets that were collected from the web hold the same photograph more than once, stored again at
another quality or size, or mirrored, so that comparing files finds nothing. A validation image of
which the network has seen a copy says less of images that it has never seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from attn_blocks.datasets import ImageDataset, Images
from attn_blocks.datasets.folder import FOLDS
from attn_book.analysis.evidence import of_folder
from attn_book.analysis.tables import DASH, signed
from attn_book.analysis.words import block_of, clauses, listed, sentences
from attn_book.language import _, say
from attn_book.records import near_copies
from attn_book.study.pages import NINE, RESNET, TASK_TITLES

# A near-copy has a thumbnail that correlates by more than this with the image's or with that of its
# mirror image, and then differs in a pixel and channel by less than this on average.
THUMBNAIL, ALIKE = 16, 0.95  # pixels a side, grey
SIDE, APART = 56, 6  # pixels a side; of 255
CHUNK = 256


def find(images: ImageDataset) -> np.ndarray:
    """The validation images, by their place, that have a near-copy among the training images."""
    seen, asked = _Small(images.train), _Small(images.val)
    copied = {
        one
        for one, other, turned in _alike(asked, seen)
        if _is_copy(asked, one, seen, other, turned)
    }
    return np.array(sorted(copied), dtype=int)


# What they change --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """A network beside ResNet-50, in points over the folds that both have: (of it, the gain)."""

    every: tuple[float, float]
    without: tuple[float, float]


def gains(folder: Path) -> dict[str, Gain]:
    """Title -> accuracy and gain on all validation images, and on those without near-copies.

    Args:
        folder: a profile's results or published folder.
    """
    found, copied = of_folder(folder, NINE), near_copies.read(folder, NINE.task)
    if copied is None:
        return {}

    def accuracy(title: str, fold: int, left_out: np.ndarray) -> float:
        right, _labels = found.right(title, fold)  # of the study's runs, seed k has fold k
        return 100 * float(np.delete(right, left_out).mean())

    def beside(
        title: str, folds: Sequence[int], left_out: Sequence[np.ndarray]
    ) -> tuple[float, float]:
        ours, plain = (
            float(np.mean([accuracy(t, fold, left_out[fold]) for fold in folds]))
            for t in (title, RESNET.title)
        )
        return ours, ours - plain

    none = [np.array([], dtype=int)] * FOLDS
    return {
        title: Gain(beside(title, folds, none), beside(title, folds, copied.places))
        for title in found.wanted
        if (folds := found.shared(title, RESNET.title))
    }


def table(folder: Path) -> pd.DataFrame:
    """The nine networks' accuracies and gains, on all validation images and without near-copies."""
    found, rows = of_folder(folder, NINE), {}
    for title, gain in gains(folder).items():
        row = {}
        for (ours, more), of in (
            (gain.every, _("all images")),
            (gain.without, _("without near-copies")),
        ):
            row[say("Accuracy, {images}", images=of)] = f"{ours:.2f}%"
            row[say("Points above {network}, {images}", network=RESNET.title, images=of)] = (
                DASH if title == RESNET.title else signed(more)
            )
        rows[title] = {**row, _("Runs"): found.progress(title, RESNET.title)}
    return pd.DataFrame(rows).T.rename_axis(_("Network"))


def in_words(folder: Path) -> str:
    """How many there are, and how far they change the gains; nothing while none were looked for."""
    parts = []
    for task in TASK_TITLES:
        copied = near_copies.read(folder, task)
        if copied is not None:
            parts.append(_counted(task, copied))
            parts.append(_changed(folder) if task == NINE.task else "")
    return sentences(parts)


def _counted(task: str, copied: near_copies.Copied) -> str:
    return say(
        "Of the validation images of the {folds} folds of {task}, {counts} have a near-copy among "
        "the training images of their fold, {share:.1%} of all.",
        folds=len(copied.places),
        task=TASK_TITLES[task],
        counts=listed(str(len(places)) for places in copied.places),
        share=sum(map(len, copied.places)) / sum(copied.images),
    )


def _changed(folder: Path) -> str:
    """What the gains of the nine become without them."""
    blocks = {t: gain for t, gain in gains(folder).items() if t != RESNET.title}
    if not blocks:
        return ""
    shifts = {title: abs(gain.without[1] - gain.every[1]) for title, gain in blocks.items()}
    most = max(shifts, key=lambda title: shifts[title])
    turned = [t for t, gain in blocks.items() if (gain.without[1] > 0) != (gain.every[1] > 0)]
    most_in_words = say(
        "Without them a difference to {network} changes by at most {most:.2f} points ({block})",
        network=RESNET.title,
        most=shifts[most],
        block=block_of(most),
    )
    signs = _("none changes its sign")
    if turned:
        signs = say("another sign have {blocks}", blocks=listed(map(block_of, turned)))
    return say("{text}.", text=clauses([most_in_words, signs]))


# Small images ------------------------------------------------------------------------------------


class _Small:
    """Images at two small sizes: colours [N, SIDE, SIDE, 3], and standardised grey thumbnails."""

    def __init__(self, images: Images) -> None:
        every = [Image.fromarray(images[index]) for index in range(len(images))]
        self.colours = np.stack([np.asarray(one.resize((SIDE, SIDE))) for one in every])
        size = THUMBNAIL, THUMBNAIL
        grey = np.stack([np.asarray(one.convert("L").resize(size)) for one in every])
        self.grey = _standardised(grey)
        self.mirrored = _standardised(grey[:, :, ::-1])


def _standardised(grey: np.ndarray) -> np.ndarray:
    """Rows of length 1 and mean 0, so that their products are correlations."""
    flat = grey.reshape(len(grey), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _alike(asked: _Small, seen: _Small) -> Iterator[tuple[int, int, bool]]:
    """(image asked about, image seen, whether mirrored) of thumbnails that correlate."""
    for start in range(0, len(asked.grey), CHUNK):
        for mirrored, thumbnails in ((False, asked.grey), (True, asked.mirrored)):
            correlations = thumbnails[start : start + CHUNK] @ seen.grey.T
            for row, column in np.argwhere(correlations > ALIKE):
                yield start + int(row), int(column), mirrored


def _is_copy(asked: _Small, one: int, seen: _Small, other: int, mirrored: bool) -> bool:
    image = asked.colours[one]
    image = image[:, ::-1] if mirrored else image
    return float(np.abs(image.astype(int) - seen.colours[other]).mean()) < APART
