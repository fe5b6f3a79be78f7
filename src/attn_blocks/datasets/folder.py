"""Class folders: which images a data set has and which part each belongs to. Opens no image."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from attn_blocks.datasets.source import Source
from attn_blocks.errors import DataError, SettingError
from attn_blocks.files import command_line

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
TRAIN, VAL = 0, 1
NO_CLASS, ANY_CLASS = -1, 0
PARTS = ("train", "test")
FOLDS = 5


class File(NamedTuple):
    """One image file; ``name`` is relative to the data set, with the class in English.

    ``fold`` is the fold in which it is a validation image, None where the folder itself is split.
    ``part`` is its part in fold 0.
    """

    name: str
    path: str
    label: int
    part: int
    fold: int | None
    size: int
    mtime_ns: int


class LeftOut(NamedTuple):
    """A file that is not used; ``label`` is its class, or -1 for what is no image of any."""

    name: str
    reason: str
    label: int


@dataclass(frozen=True)
class Listing:
    """What lies in a data set's folder, in the order of labels and names."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[File, ...]
    left_out: tuple[LeftOut, ...]

    def count(self, part: int) -> int:
        """The number of images in a part."""
        return sum(file.part == part for file in self.files)

    def parts(self, fold: int) -> dict[str, int]:
        """The part of each image, by name, where ``fold`` of ``FOLDS`` is for validation.

        Raises:
            SettingError: there is no such fold, or the folder is split already.
            DataError: a class has no image in it.
        """
        check_fold(fold)
        if fold and any(file.fold is None for file in self.files):
            raise SettingError(
                f"{self.folder} is split into train/ and test/, so that fold {fold} of it does not "
                "exist; use fold 0"
            )
        if fold == 0:
            return {file.name: file.part for file in self.files}
        there = {file.label for file in self.files if file.fold == fold}
        missing = [name for label, name in enumerate(self.classes) if label not in there]
        if missing:
            raise DataError(
                f"{self.folder}: class {missing[0]!r} has no image in fold {fold}; each class "
                f"needs {FOLDS} images"
            )
        return {file.name: VAL if file.fold == fold else TRAIN for file in self.files}


def check_fold(fold: int) -> None:
    """Raise SettingError unless ``fold`` is one of the folds."""
    if type(fold) is not int or not 0 <= fold < FOLDS:
        raise SettingError(f"fold is {fold!r}; it must be a whole number from 0 to {FOLDS - 1}")


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files never are."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


@contextmanager
def reading(folder: Path, otherwise: str = "name another folder") -> Iterator[None]:
    """Raise DataError, with the way out, where the system refuses to read ``folder`` or below."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}; change who may "
            f"read it, or {otherwise}"
        ) from error


def has_parts(folder: Path) -> bool:
    """Whether the folder is laid out as ``{train,test}/<class>/*``."""
    return all((folder / part).is_dir() for part in PARTS)


def roots(folder: Path) -> list[Path]:
    """The folders that hold the class folders: ``train/`` and ``test/``, or ``folder`` itself."""
    return [folder / part for part in PARTS] if has_parts(folder) else [folder]


def class_folders(folder: Path, source: Source) -> dict[str, Path]:
    """The class folders directly below ``folder``, by class name.

    Raises:
        DataError: two folders claim the same class, such as ``dog`` and ``cane``.
    """
    found: dict[str, Path] = {}
    for child in _subfolders(folder):
        name = source.class_of(child.name)
        if name is not None and name in found:
            raise DataError(
                f"{folder}: the folders {found[name].name!r} and {child.name!r} both hold the "
                f"class {name!r} of {source.title}; merge them into one"
            )
        if name is not None:
            found[name] = child
    return found


def scan(folder: Path, source: Source) -> Listing:
    """List the images that a data set uses.

    Names are sorted by code point, never in the order of the file system. A folder with ``train/``
    and ``test/`` is split so; in others file ``i`` of each class is a validation image of fold
    ``i % 5``, so that every fold is a split of 8:2. Left out, with the reason: links that lead out
    of the folder, back to themselves or to folders; images in folders inside a class folder;
    folders that are no class.

    Raises:
        DataError: no class or one class, a class without images in one of the parts, no ``train/``
            and ``test/`` in a data set that is used with its own split only, or a folder or file
            that cannot be read.
    """
    folder = Path(os.path.realpath(folder))
    with reading(folder):
        return _scan(folder, source)


def _scan(folder: Path, source: Source) -> Listing:
    parts: dict[int | None, Path]  # None where the parts are divided here
    if has_parts(folder):
        parts = {part: folder / name for part, name in enumerate(PARTS)}
    elif source.own_split:
        raise DataError(
            f"{folder} has no train/ and test/ folders, which {source.title} is split by; "
            f"to get it {source.how_to_get}"
        )
    else:
        parts = {None: folder}
    found = {part: class_folders(root, source) for part, root in parts.items()}
    candidates = {
        name: {
            part: _list_class(folders[name], folder)
            for part, folders in found.items()
            if name in folders
        }
        for name in {name for folders in found.values() for name in folders}
    }
    classes = _choose(candidates, source)
    files: list[File] = []
    left_out = [
        entry
        for root in parts.values()
        for entry in (*_no_class(root, folder, source), *_circles(root, folder))
    ]
    for label, name in enumerate(classes):
        for part in parts:
            entries, lost = candidates[name].get(part, ([], []))
            left_out += [
                entry if entry.label == NO_CLASS else entry._replace(label=label) for entry in lost
            ]
            prefix = f"{PARTS[part]}/{name}" if part is not None else name
            for number, entry in enumerate(entries[: source.max_per_class]):
                fold = number % FOLDS if part is None else None
                split = part if part is not None else VAL if fold == 0 else TRAIN
                stat = entry.stat()
                files.append(
                    File(
                        f"{prefix}/{entry.name}",
                        entry.path,
                        label,
                        split,
                        fold,
                        stat.st_size,
                        stat.st_mtime_ns,
                    )
                )
    listing = Listing(folder, tuple(classes), tuple(files), tuple(left_out))
    _check(listing, source)
    return listing


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, but for links that lead in circles.

    Raises:
        DataError: it cannot be read.
    """
    return [entry for entry in _all_entries(folder) if not _leads_in_a_circle(entry)]


def _all_entries(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder):
        return sorted(os.scandir(folder), key=lambda entry: entry.name)


def _leads_in_a_circle(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link that leads to itself or to a folder that it lies in."""
    if not entry.is_symlink():
        return False
    try:
        target = Path(os.path.realpath(entry.path, strict=True))
    except OSError as error:
        return error.errno == errno.ELOOP
    return Path(os.path.realpath(Path(entry.path).parent)).is_relative_to(target)


def _circles(folder: Path, root: Path) -> list[LeftOut]:
    """The links directly in a folder that lead in circles."""
    return [
        LeftOut(_relative(entry.path, root), "a link that leads back to where it lies", NO_CLASS)
        for entry in _all_entries(folder)
        if _leads_in_a_circle(entry)
    ]


def count_images(folder: Path) -> int:
    """How many files with an image's name lie in a folder."""
    return sum(is_image_name(entry.name) for entry in entries_of(folder))


def _subfolders(folder: Path) -> list[Path]:
    return [
        folder / entry.name
        for entry in entries_of(folder)
        if entry.name[0] != "." and entry.is_dir()
    ]


def _choose(candidates: dict[str, dict], source: Source) -> list[str]:
    """The classes in the order of their labels; the largest where there are more than wanted."""
    wanted = len(source.class_names)
    names = sorted(candidates)
    if source.other_classes and len(names) > wanted:
        count = {
            name: sum(len(entries) for entries, _ in candidates[name].values()) for name in names
        }
        names = sorted(sorted(names, key=lambda name: (-count[name], name))[:wanted])
    known = [name for name in source.class_names if name in names]
    return known + [name for name in names if name not in source.class_names]


def _list_class(folder: Path, root: Path) -> tuple[list[os.DirEntry[str]], list[LeftOut]]:
    """The usable image files of a class folder, and what is not; its label is to be set."""
    entries: list[os.DirEntry[str]] = []
    lost: list[LeftOut] = []

    def leave_out(path: str, reason: str, label: int = ANY_CLASS) -> None:
        lost.append(LeftOut(_relative(path, root), reason, label))

    if not _inside(str(folder), root):
        leave_out(str(folder), "the class folder is a link that leads out of the data set")
        return entries, lost
    lost += _circles(folder, root)
    for entry in entries_of(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not _inside(entry.path, root):
            leave_out(entry.path, "a link that leads out of the data set")
        elif is_image_name(entry.name) and entry.is_file():
            entries.append(entry)
        elif entry.is_symlink() and entry.is_dir():
            # What it leads to lies elsewhere in the data set, so no image is lost.
            leave_out(entry.path, "a link to a folder", NO_CLASS)
        elif entry.is_dir():
            for path in _walk(entry.path):
                leave_out(path, "in a folder inside the class folder")
        elif is_image_name(entry.name):
            leave_out(entry.path, "not a regular file")
    return entries, lost


def _walk(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_image_name(name):
                yield f"{root}/{name}"


def _no_class(root: Path, folder: Path, source: Source) -> list[LeftOut]:
    """Folders with images that are not a class of this data set."""
    return [
        LeftOut(
            _relative(str(child), folder), f"a folder that is no class of {source.title}", NO_CLASS
        )
        for child in _subfolders(root)
        if source.class_of(child.name) is None
        and child.name not in source.excluded
        and count_images(child)
    ]


def _check(listing: Listing, source: Source) -> None:
    folder, classes = listing.folder, listing.classes
    again = f"{command_line()} data prepare {source.name} SOURCE"
    if len(classes) < 2:
        what = f"only the class {classes[0]!r}" if classes else "no class folder"
        raise DataError(
            f"{folder} holds {what} of {source.title}; at least two of its classes are needed "
            f"({', '.join(source.class_names)}); {again} unpacks a complete set"
        )
    count = {(label, part): 0 for label in range(len(classes)) for part in (TRAIN, VAL)}
    for file in listing.files:
        count[file.label, file.part] += 1
    for (label, part), number in count.items():
        if number == 0:
            where = "training" if part == TRAIN else "validation"
            hints = [
                f"{name!r} is {reason}" for name, reason, at in listing.left_out if at == label
            ]
            hint = f" ({hints[0]}; {len(hints)} such)" if hints else ""
            raise DataError(
                f"{folder}: class {classes[label]!r} has no image for {where}{hint}; put images "
                f"directly into its folder, remove the folder, or run {again}"
            )


def _inside(path: str, root: Path) -> bool:
    return os.path.realpath(path).startswith(f"{root}{os.sep}")


def _relative(path: str, root: Path) -> str:
    return os.path.relpath(path, root)
