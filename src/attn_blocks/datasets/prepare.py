"""From what people have, a folder, zip or tar in any layout, to the layout of the data folder."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from attn_blocks.datasets import DATASETS, caltech16, cifar10, data_folder, list_datasets, shapes
from attn_blocks.datasets.archives import is_archive_name, unpack
from attn_blocks.datasets.collect import check_losses
from attn_blocks.datasets.decode import decode_files
from attn_blocks.datasets.download import fetch
from attn_blocks.datasets.folder import (
    LeftOut,
    class_folders,
    count_images,
    has_parts,
    is_image_name,
    reading,
    roots,
    scan,
)
from attn_blocks.datasets.progress import bar, say
from attn_blocks.datasets.source import Source
from attn_blocks.errors import DataError, SettingError, StorageError, choose
from attn_blocks.files import NO_ROOM, atomic_folder, folder_lock, recover_folder

DEPTH = 6
CHECK_SIDE = 32


def download(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Fetch the archive of a data set that a public address serves, for ``prepare`` to take.

    It goes to ``downloads/`` in the data folder, with a progress bar; a broken download goes on
    where it was, and the checksum decides. CIFAR-10's address and checksum are Paddle's
    (``paddle.vision.datasets.Cifar10``), Caltech-101's are Caltech's and torchvision's.

    Raises:
        SettingError: an unknown name, or ``shapes``, which is drawn.
        DataError: no public address serves it (the message says how to get it by hand), or the
            download failed.
    """
    source = _source_of(name)
    if name == "cifar10":
        from paddle.vision.datasets import cifar

        address, md5 = cifar.CIFAR10_URL, cifar.CIFAR10_MD5
    elif name == "caltech16":
        address, md5 = caltech16.ADDRESS, caltech16.MD5
    else:
        raise DataError(
            f"{source.title} is not served by a public address. To get it, {source.how_to_get}"
        )
    file_name = address.split("?")[0].rsplit("/", 1)[1]
    return fetch(address, data_folder(data_dir) / "downloads" / file_name, md5, source.title)


def prepare(
    name: str,
    source: str | os.PathLike | None,
    data_dir: str | os.PathLike | None = None,
    replace: bool = False,
) -> Path:
    """Lay a data set out in the data folder, with English class names, and check its images.

    Takes a folder, a zip or a tar of any compression, the class folders at any depth in it or in
    an archive inside it: Animals-10 with Italian or English names; ``101_ObjectCategories`` or
    Caltech's own zip; CIFAR-10's original "python version" or folders of images. Links out of the
    folder are left out, and an archive with unsafe names is refused; in a source of several
    archives, one that is refused or damaged is named and passed over. The new folder appears by one
    rename when it is complete.

    Args:
        name: of the data set.
        source: what to take it from; never changed. None is an error, as an empty name is.
        data_dir: see ``data_folder``.
        replace: put it in the place of a folder that is there already.

    Returns:
        The new folder, ``<data folder>/<name>``.

    Raises:
        SettingError: an unknown name, ``shapes``, which is drawn, or no source.
        DataError: the source is missing, unreadable, damaged, unsafe, or holds something else, or
            an archive to take lies in the folder that it would replace; more than 1% of the images
            of a class do not decode; the folder is there already, or a file in its place; another
            process is preparing it; no room.
    """
    data_set = _source_of(name)
    origin = _origin(data_set, source)
    root = data_folder(data_dir)
    target = root / name
    try:
        with folder_lock(root, f".{name}.lock", wait=False) as is_held:
            if not is_held:
                raise DataError(
                    f"another process is preparing {target}; wait until it has ended, then run "
                    "the same command again"
                )
            for left in recover_folder(target):
                say(f"{left} was left by an interrupted run and is removed")
            _check_place(target, origin, replace)
            with atomic_folder(target) as ready:
                _lay_out(data_set, origin, target, ready)
    except OSError as error:
        # What a StorageError advises does not fit: nothing is kept of what is finished.
        reason = error.__cause__ if isinstance(error, StorageError) else error
        room = " no room left;" if error.errno in NO_ROOM else ""
        raise DataError(
            f"{data_set.title} could not be prepared in {root}:{room} {reason}; nothing there was "
            "changed; fix that and run the same command again"
        ) from error
    return target


def _source_of(name: str) -> Source:
    source = DATASETS[choose("data set", name, list_datasets())]
    if source is shapes.SOURCE:
        raise SettingError("shapes is drawn when it is first used; nothing is to be prepared")
    return source


def _origin(data_set: Source, source: str | os.PathLike | None) -> Path:
    """The path of SOURCE, which is there."""
    if not source:
        raise SettingError(
            f"SOURCE is missing: the folder, zip or tar of {data_set.title}. To get it, "
            f"{data_set.how_to_get}"
        )
    try:
        origin = Path(source).expanduser()
    except RuntimeError as error:  # for ~nobody
        raise SettingError(f"SOURCE cannot be {str(source)!r}: {error}") from error
    with reading(origin):
        if origin.exists():
            return origin
    raise DataError(f"{origin} does not exist; give the folder, zip or tar of {data_set.title}")


def _check_place(target: Path, origin: Path, replace: bool) -> None:
    """Raise DataError where the new folder would take away what is to be kept."""
    if target.is_file():
        raise DataError(f"{target} is a file, and the data set's folder goes there; move it")
    _check_outside(target, origin)
    if not replace and target.is_dir() and any(target.iterdir()):
        raise DataError(
            f"{target} is there already; add --replace to put {origin} in its place, or move it"
        )


def _check_outside(target: Path, path: Path) -> None:
    """Raise DataError if what is to be taken would be deleted with the folder that it replaces."""
    if target.resolve() in path.resolve().parents:
        raise DataError(
            f"{path} lies in {target}, which would be replaced and {path.name} deleted with it; "
            "move it out of there first"
        )


def _lay_out(data_set: Source, origin: Path, target: Path, ready: Path) -> None:
    space = ready.parent
    found = _search(data_set, origin, target, space)
    if data_set is cifar10.SOURCE and not has_parts(found):
        _write_batches(found, ready)
    else:
        _copy(data_set, found, ready, move=space in found.parents)


def _search(data_set: Source, origin: Path, target: Path, space: Path) -> Path:
    """The folder that holds the class folders; what comes from an archive lies in ``space``.

    Raises:
        DataError: there is none, or it is in an archive that would be deleted with ``target``.
    """
    tree = origin if origin.is_dir() else _unpacked(origin, space / "unpacked")
    with reading(tree):
        found = _locate(data_set, tree)
    if found is not None:
        return found
    names, unread = _names(tree), []
    for archive in sorted(path for path in _files(tree) if is_archive_name(path.name)):
        nested = space / "nested"
        try:
            _unpacked(archive, nested)
        except DataError as error:  # it may have nothing to do with the data set
            say(f"passed over: {error}")
            unread.append(str(error))
        else:
            names += _names(nested)
            found = _locate(data_set, nested)
        if found is not None:
            _check_outside(target, archive)
            return found
        shutil.rmtree(nested)
    raise DataError(_not_found(data_set, origin, names, unread))


def _unpacked(archive: Path, tree: Path) -> Path:
    tree.mkdir()
    unpack(archive, tree, _wanted)
    return tree


def _names(tree: Path) -> list[str]:
    return [path.name for path in tree.iterdir()]


def _wanted(name: str) -> bool:
    return is_image_name(name) or is_archive_name(name) or name in cifar10.BATCHES


def _locate(data_set: Source, tree: Path) -> Path | None:
    """The folder below ``tree`` that holds the class folders, with the most images."""
    best, most = None, 0
    for folder in _folders(tree):
        if data_set is cifar10.SOURCE and any(
            (folder / name).is_file() for name in cifar10.BATCHES
        ):
            return folder
        images = _images(data_set, folder)
        if images > most:
            best, most = folder, images
    return best


def _images(data_set: Source, folder: Path) -> int:
    """How many images the known class folders directly in a folder hold."""
    if data_set.own_split and not has_parts(folder):
        return 0
    classes = [found for root in roots(folder) for found in class_folders(root, data_set).items()]
    known = {name for name, _ in classes if name in data_set.class_names}
    # Any folder may be a class of Caltech-101: it is recognised by its name or by two classes.
    if data_set.other_classes and len(known) < 2 and folder.name != "101_ObjectCategories":
        return 0
    return sum(count_images(path) for _, path in classes)


def _folders(tree: Path) -> Iterator[Path]:
    yield tree
    for root, names, _ in os.walk(tree):
        depth = len(Path(root).relative_to(tree).parts)
        names[:] = sorted(
            name for name in names if not name.startswith((".", "__MACOSX")) and depth < DEPTH
        )
        yield from (Path(root) / name for name in names)


def _files(tree: Path) -> Iterator[Path]:
    for folder in _folders(tree):
        yield from (path for path in folder.iterdir() if path.is_file())


def _not_found(data_set: Source, origin: Path, names: list[str], unread: list[str]) -> str:
    split = " below train/ and test/" if data_set.own_split else ""
    files = ", ".join(cifar10.BATCHES)
    batches = f", or the files {files}" if data_set is cifar10.SOURCE else ""
    found = ", ".join(map(ascii, sorted(names)[:10])) or "nothing"
    failed = f"; not searched: {'; '.join(unread)}" if unread else ""
    return (
        f"{origin} does not hold {data_set.title}: looked for the folders "
        f"{data_set.class_list}{split}{batches}, found {found}{failed}. To get it, "
        f"{data_set.how_to_get}"
    )


def _copy(data_set: Source, found: Path, ready: Path, move: bool) -> None:
    listing = scan(found, data_set)
    for file in bar(listing.files, f"Copying {data_set.title}"):
        place = ready / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if move:
            Path(file.path).rename(place)
        else:
            shutil.copyfile(file.path, place)
    paths = [str(ready / file.name) for file in listing.files]
    checked = bar(decode_files(paths, CHECK_SIDE), f"Checking {data_set.title}", len(paths))
    left_out = [
        LeftOut(file.name, result.reason, file.label)
        for file, result in zip(listing.files, checked, strict=True)
        if result.pixels is None
    ]
    left_out = [*listing.left_out, *left_out]
    check_losses(data_set, listing, left_out)
    for name, reason, _ in left_out:
        say(f"not usable: {name!a}: {reason}")


def _write_batches(found: Path, ready: Path) -> None:
    """CIFAR-10's original arrays as PNG files, which keep every pixel."""
    written: Counter[tuple[str, int]] = Counter()
    with bar(None, "Writing CIFAR-10") as progress:
        for part, pixels, labels in cifar10.read_batches(found):
            for image, label in zip(pixels, labels.tolist(), strict=True):
                folder = ready / part / cifar10.SOURCE.class_names[label]
                folder.mkdir(parents=True, exist_ok=True)
                number = written[part, label]
                written[part, label] += 1
                Image.fromarray(image).save(folder / f"{number:04d}.png", compress_level=1)
                progress.update()
    scan(ready, cifar10.SOURCE)
