"""The data sets of the book, through one interface.

    >>> from attn_blocks import datasets
    >>> data = datasets.load("shapes", short_side=64)
    >>> data.label
    'Shapes (10 classes; 2,000 / 500 images)'
    >>> data.train[0].shape, int(data.train.labels[0])
    ((64, 64, 3), 0)

Images lie in the data folder (``$ATTN_BLOCKS_DATA``, else ``data/``) as ``<data set>/<class>/*``
or ``<data set>/{train,test}/<class>/*``. They are decoded once; every later start maps the result
into memory. Nothing here imports Paddle, but for ``prepare.download``, which asks it where CIFAR-10
is.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attn_blocks.datasets import animals10, caltech16, cifar10, collect, shapes
from attn_blocks.datasets.augment import Transform, create_transform
from attn_blocks.datasets.cache import Stored, cache_folder, key_of
from attn_blocks.datasets.folder import (
    TRAIN,
    VAL,
    LeftOut,
    check_fold,
    class_folders,
    count_images,
    reading,
    roots,
    scan,
)
from attn_blocks.datasets.images import ImageDataset, Images
from attn_blocks.datasets.loader import Loader
from attn_blocks.datasets.source import Source
from attn_blocks.errors import DataError, SettingError, choose
from attn_blocks.files import command_line, project_folder

__all__ = [
    "DATASETS",
    "ImageDataset",
    "Images",
    "Loader",
    "Source",
    "Status",
    "Transform",
    "create_transform",
    "data_folder",
    "find",
    "list_datasets",
    "load",
    "status",
    "status_report",
]

VARIABLE = "ATTN_BLOCKS_DATA"
DATASETS: dict[str, Source] = {
    source.name: source
    for source in (animals10.SOURCE, caltech16.SOURCE, cifar10.SOURCE, shapes.SOURCE)
}


@dataclass(frozen=True)
class Status:
    """One row of ``status()``; counts are 0 where nothing is found."""

    name: str
    title: str
    found: bool
    class_total: int
    classes: int = 0
    train: int = 0
    val: int = 0
    folder: Path | None = None
    note: str = ""


def list_datasets() -> list[str]:
    """The names of the data sets."""
    return sorted(DATASETS)


def data_folder(data_dir: str | os.PathLike | None = None) -> Path:
    """Where the data sets lie: ``data_dir``, else ``$ATTN_BLOCKS_DATA``, else ``data``.

    It need not be there, since ``prepare`` makes it.
    """
    return project_folder("data", VARIABLE, data_dir)


def _folder_to_read(data_dir: str | os.PathLike | None) -> Path:
    """The data folder; only the default one may be missing, which is as good as an empty one."""
    root = data_folder(data_dir)
    with reading(root):
        if root.is_dir() or root == project_folder("data"):
            return root
    named = f"as {VARIABLE} says" if data_dir is None else "as was asked for"
    raise DataError(
        f"{root} is no folder, so no data set can be read from it, {named}; name the folder "
        "that holds the data sets, or none to use what the project has"
    )


def find(name: str, data_dir: str | os.PathLike | None = None) -> Path | None:
    """The folder of a data set, or None when it is not there.

    Of several folders that may hold it the one of its own name is taken, else the one with the
    most images. The embedded ``shapes`` needs no files: for it the data folder is returned.

    Raises:
        SettingError: an unknown name, or a data folder that is no path.
        DataError: a data folder that was named is not there, a folder cannot be read, or two of
            its folders hold the same class.
    """
    source = DATASETS[choose("data set", name, list_datasets())]
    root = _folder_to_read(data_dir)
    if source is shapes.SOURCE:
        return root
    with reading(root):
        found = [root / folder for folder in source.folders if _class_paths(root / folder, source)]
        if len(found) < 2 or found[0].name == source.name:
            return found[0] if found else None
        return max(found, key=lambda folder: sum(map(count_images, _class_paths(folder, source))))


def _class_paths(folder: Path, source: Source) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for root in roots(folder) for path in class_folders(root, source).values()]


def status(data_dir: str | os.PathLike | None = None) -> list[Status]:
    """What is found of each data set, and how to get what is missing. Decodes nothing.

    Raises:
        SettingError: a data folder that is no path.
        DataError: a data folder that was named is not there or may not be read.
    """
    _folder_to_read(data_dir)
    return [_status(DATASETS[name], data_dir) for name in list_datasets()]


def _status(source: Source, data_dir: str | os.PathLike | None) -> Status:
    total = len(source.class_names)
    if source is shapes.SOURCE:
        return Status(
            name=source.name,
            title=source.title,
            found=True,
            classes=total,
            class_total=total,
            train=shapes.TRAIN_IMAGES,
            val=shapes.VAL_IMAGES,
            note="embedded: drawn when it is first used",
        )
    folder = None
    try:
        folder = find(source.name, data_dir)
        if folder is not None:
            listing = scan(folder, source)
            return Status(
                name=source.name,
                title=source.title,
                found=True,
                classes=len(listing.classes),
                class_total=total,
                train=listing.count(TRAIN),
                val=listing.count(VAL),
                folder=folder,
                note="" if len(listing.classes) == total else f"complete set: {source.how_to_get}",
            )
        note = source.how_to_get
    except DataError as error:
        note = str(error)
    return Status(
        name=source.name,
        title=source.title,
        found=False,
        class_total=total,
        folder=folder,
        note=note,
    )


def status_report(data_dir: str | os.PathLike | None = None) -> str:
    """``status()`` as text for the terminal."""
    lines = [f"Data folder: {data_folder(data_dir).resolve()}"]
    for row in status(data_dir):
        if row.found:
            classes = f"{row.classes}/{row.class_total} classes"
            images = f"{row.train:,} / {row.val:,} images"
            lines.append(f"  {row.name:10}  {classes:14}  {images:22}  {row.folder or ''}".rstrip())
        else:
            lines.append(f"  {row.name:10}  missing")
        if row.note:
            lines.append(f"  {'':10}  {row.note}")
    return "\n".join(lines)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    short_side: int = 64,
    cache_dir: str | os.PathLike | None = None,
    train_images: int | None = None,
    val_images: int | None = None,
    fold: int = 0,
) -> ImageDataset:
    """Load a data set, decoding it first if that has not been done.

    Args:
        name: one of ``list_datasets()``.
        data_dir: the data folder; see ``data_folder``.
        short_side: the shorter side of the images is scaled down to at most this many pixels.
        cache_dir: where decoded images are kept; None: ``$ATTN_BLOCKS_CACHE``, else ``.cache``
            in the data folder, else the user's cache folder.
        train_images, val_images: at most this many images of each part, an equal share of every
            class, chosen by a fixed shuffle; None for all.
        fold: which fifth of the images is for validation, 0 to 4. Data sets that come split have
            fold 0 alone.

    Raises:
        SettingError: an unknown name, a folder that is no path, or a number that cannot work, such
            as a fold other than 0 of a data set that comes split.
        DataError: the data set, or a data folder that was named, is missing or cannot be read; it
            has one class, an empty one or one in two folders, or has lost more than 1% of a class
            to damaged files; or its cache cannot be read or written.
    """
    source = DATASETS[choose("data set", name, list_datasets())]
    if short_side < 1:
        raise SettingError(f"short_side is {short_side}; it must be at least 1 pixel")
    cache = cache_folder(_folder_to_read(data_dir), cache_dir)
    skipped: tuple[LeftOut, ...] = ()
    check_fold(fold)
    if source is shapes.SOURCE:
        if fold:
            raise SettingError(f"{source.title} comes split; fold {fold} of it does not exist")
        classes = source.class_names
        stored = shapes.collect(short_side, cache)
    else:
        folder = find(name, data_dir)
        if folder is None:
            raise DataError(_missing(source, data_folder(data_dir)))
        listing = scan(folder, source)
        parts = listing.parts(fold)
        stored = collect.collect(source, listing, short_side, cache)
        classes, skipped = listing.classes, listing.left_out
        _warn_of_other_classes(source, classes)
    limits = {"train_images": train_images, "val_images": val_images}

    def choose_images(stored: Stored) -> list[np.ndarray]:
        return [
            _share(stored, part, len(classes), limit, argument)
            for part, (argument, limit) in zip((TRAIN, VAL), limits.items(), strict=True)
        ]

    chosen = choose_images(stored)
    used = np.concatenate(chosen)
    fingerprint = key_of(
        [stored.names[i] for i in used], [stored.digests[i] for i in used], stored.parts[used]
    )
    if fold:  # one cache and one fingerprint serve all folds
        stored = replace(stored, parts=np.array([parts[name] for name in stored.names]))
        chosen = choose_images(stored)
    return ImageDataset(
        name=source.name,
        title=source.title,
        classes=tuple(classes),
        class_total=len(source.class_names),
        train=stored.images.subset(chosen[TRAIN]),
        val=stored.images.subset(chosen[VAL]),
        fingerprint=fingerprint,
        left_out=tuple((name, reason) for name, reason, _ in (*skipped, *stored.left_out)),
        duplicates=tuple(collect.duplicates(stored)),
    )


def _share(stored: Stored, part: int, classes: int, limit: int | None, argument: str) -> np.ndarray:
    """The positions of the images of a part, at most ``limit``, as equal over classes as can be."""
    inside = np.flatnonzero(stored.parts == part)
    if limit is None:
        return inside
    if limit < classes:
        raise SettingError(f"{argument} is {limit}; at least one of each of {classes} classes")
    chosen = []
    for label in range(classes):
        # Ordered by a hash of the name: the same shuffle on every machine, and a smaller share
        # is always part of a larger one.
        of_class = sorted(
            (index for index in inside if stored.images.labels[index] == label),
            key=lambda index: hashlib.sha256(os.fsencode(stored.names[index])).digest(),
        )
        chosen += of_class[: limit // classes + (label < limit % classes)]
    return np.asarray(sorted(chosen), dtype=np.int64)


def _missing(source: Source, root: Path) -> str:
    split = "train/ and test/ with " if source.own_split else ""
    return (
        f"{source.title} is not in {root}: looked for the folders {', '.join(source.folders)} "
        f"holding {split}the class folders {source.class_list}. To get it, {source.how_to_get}. "
        f"If you have it: {command_line()} data prepare {source.name} SOURCE, where SOURCE "
        "is its folder, zip or tar; or set ATTN_BLOCKS_DATA to the folder that holds it"
    )


def _warn_of_other_classes(source: Source, classes: Sequence[str]) -> None:
    others = [name for name in classes if name not in source.class_names]
    if others:
        warnings.warn(
            f"{source.title}: {', '.join(others)} are not among the {len(source.class_names)} "
            "classes that the rule gives on the complete data set; this copy is a part of it",
            stacklevel=3,
        )
