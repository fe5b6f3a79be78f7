"""What is measured on published networks beside their runs, and measured again to check it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddle import nn

from attn_blocks.datasets import ImageDataset
from attn_blocks.datasets.folder import FOLDS
from attn_blocks.errors import CheckpointError, DataError
from attn_blocks.files import read_json
from attn_book.analysis import attention as holding
from attn_book.analysis import faults as faulty
from attn_book.analysis import near_copies as looking
from attn_book.analysis.words import counted
from attn_book.records import attention, faults, near_copies
from attn_book.records.published import PUBLISHED, PublishError
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import compute as computing
from attn_book.training.checkpoint import load_model
from attn_book.training.compute import Compute


def faults_of(run: Run, published: Path, data_dir: str | Path | None = None) -> dict[str, Any]:
    """The contents of ``faults.json`` for a network whose weights are published; minutes.

    Args:
        run: see ``records.faults.subject``.
        published: the folder that holds the published profiles.
        data_dir: see ``datasets.data_folder``.

    Raises:
        DataError: the images that it was validated on are not here.
    """
    right = faulty.measure(*_ready(run, published, data_dir))
    return faults.record_of(run, right)


def attention_in(folder: Path, data_dir: str | Path | None = None) -> dict[str, Any]:
    """The contents of ``attention.json`` for a published folder; a minute.

    Raises:
        DataError: the images that the networks were validated on are not here.
    """
    return {
        title: attention.record_of(run, holding.measure(*_ready(run, folder.parent, data_dir)))
        for title, run in attention.subjects(folder).items()
    }


def copies_in(folder: Path, data_dir: str | Path | None = None) -> dict[str, Any]:
    """The contents of ``near_copies.json`` for a published folder; a minute.

    Raises:
        DataError: the images that the runs were trained on are not here.
    """
    found = {}
    for task, fingerprint in near_copies.tasks(folder).items():
        recipe, images, places = PROFILES[folder.name].recipes[task], [], []
        for fold in range(FOLDS):
            loaded = load_images(task, recipe, data_dir, fold)
            _check(loaded, fingerprint, "the published runs")
            images.append(len(loaded.val))
            places.append(looking.find(loaded))
        found[task] = fingerprint, images, places
    return near_copies.record_of(found)


def _ready(
    run: Run, published: Path, data_dir: str | Path | None
) -> tuple[nn.Layer, ImageDataset, Recipe, Compute]:
    """A published network, with the images of its fold and how the study computes."""
    experiment = run.experiment
    images = load_images(experiment.dataset, experiment.recipe, data_dir, experiment.fold)
    _check(images, experiment.fingerprint, run.folder.name)
    # On any machine: on the processor, in float32.
    compute = computing.compute("cpu")
    return load_model(run, published=published), images, experiment.recipe, compute


def _check(images: ImageDataset, fingerprint: str, whose: str) -> None:
    """Raise DataError if the images are others than those of that fingerprint."""
    if images.fingerprint != fingerprint:
        raise DataError(
            f"the images of {images.title} are others than those of {whose}; name the folder that "
            "holds them with ATTN_BLOCKS_DATA"
        )


def check_again(published: Path = PUBLISHED, data_dir: str | Path | None = None) -> list[str]:
    """Measure everything again; a sentence for each record.

    Raises:
        PublishError: there is none, or one is not about what is published.
        CheckpointError: counts differ by more than rounding explains.
        DataError: the images are not here.
    """
    sentences = []
    for records, again in (
        (faults, _faults_again),
        (attention, _attention_again),
        (near_copies, _copies_again),
    ):
        for path in sorted(published.glob(f"*/{records.FILE}")):
            if wrong := records.problems(path.parent):
                raise PublishError("; ".join(wrong))
            sentences += again(path.parent, data_dir)
    if not sentences:
        raise PublishError(f"no {faults.FILE} is published yet; make publish makes it")
    return sentences


def _faults_again(folder: Path, data_dir: str | Path | None) -> list[str]:
    run, known = faults.subject(folder), read_json(folder / faults.FILE)
    assert run is not None  # as ``problems`` has seen
    ours = faults_of(run, folder.parent, data_dir)
    most = _most_off(ours["right"], known["right"], ours["images"], folder / faults.FILE)
    return [f"{run.folder.name}: evaluated wrongly again, at most {most} off"]


def _attention_again(folder: Path, data_dir: str | Path | None) -> list[str]:
    known, sentences = attention.read(folder), []
    for title, ours in attention_in(folder, data_dir).items():
        counts, before = (
            {name: of[name] for name in attention.COUNTS} for of in (ours, known[title])
        )
        most = _most_off(counts, before, ours["images"], folder / attention.FILE)
        sentences.append(f"{ours['run']}: attention held still again, at most {most} off")
    return sentences


def _copies_again(folder: Path, data_dir: str | Path | None) -> list[str]:
    known, off = read_json(folder / near_copies.FILE), 0
    for task, of in copies_in(folder, data_dir).items():
        for images, ours, theirs in zip(
            of["images"], of["copied"], known[task]["copied"], strict=True
        ):
            apart = len({*ours} ^ {*theirs})
            if apart > near_copies.ROUNDING * images:
                raise CheckpointError(
                    f"{folder.name}/{near_copies.FILE}: of {images} images of {task} {apart} are "
                    "found otherwise than on record"
                )
            off += apart
    return [f"{folder.name}: near-copies looked for again, {counted(off, 'image')} off"]


def _most_off(ours: Mapping[str, int], known: Mapping[str, int], images: int, path: Path) -> str:
    """How many images the counts differ by at most; CheckpointError if that is no rounding."""
    off = {name: abs(count - known[name]) for name, count in ours.items()}
    name = max(off, key=lambda name: off[name])
    if off[name] > faults.ROUNDING * images:
        raise CheckpointError(
            f"{path.parent.name}/{path.name}: {name}: {ours[name]} images, its record says "
            f"{known[name]}"
        )
    return counted(off[name], "image")
