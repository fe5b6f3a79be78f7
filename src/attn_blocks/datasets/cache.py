"""Decoded images on disk, kept so that every later start maps them into memory at once.

A finished cache is a folder ``<data set>-s<short side>-<key>`` with the pixels of all images one
after the other and an index. The key is a hash of the images' names, contents and split, so a
cache never belongs to other files than it was made from. It is written atomically: a temporary
folder gets the cache's name once it is complete and synced.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from attn_blocks.datasets.folder import LeftOut, reading
from attn_blocks.datasets.images import Images
from attn_blocks.datasets.progress import say
from attn_blocks.errors import AttnBlocksError, DataError
from attn_blocks.files import (
    NO_ROOM,
    project_folder,
    read_json,
    sha256_of,
    user_cache,
    write_bytes,
    write_json,
)

# Part of every key: raise it when the layout or the decoding changes.
FORMAT = 1
ARRAYS = ("offsets", "sizes", "labels")
# All but the pixels, whose length is checked instead: they may be gigabytes.
SUMMED = ("index.json", *(f"{name}.npy" for name in ARRAYS))
ELSEWHERE = "set ATTN_BLOCKS_CACHE to another folder"


@dataclass(frozen=True)
class Stored:
    """A finished cache: the images, and of each its name, content hash and part."""

    images: Images
    names: list[str]
    digests: list[str]
    parts: np.ndarray
    left_out: list[LeftOut]
    notes: list[tuple[str, str]]


def cache_folder(data_dir: Path, cache_dir: str | os.PathLike | None = None) -> Path:
    """Where caches go.

    ``cache_dir``, else ``$ATTN_BLOCKS_CACHE``, else ``.cache`` in the data folder if that can be
    written, else ``attn_blocks`` in the user's cache folder.
    """
    chosen = cache_dir or os.environ.get("ATTN_BLOCKS_CACHE")
    if chosen:
        return project_folder(".cache", folder=chosen)
    beside = data_dir / ".cache"
    if data_dir.is_dir() and _writable(beside):
        return beside
    return user_cache()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def key_of(names: Iterable[str], digests: Iterable[str], parts: Iterable[int]) -> str:
    """SHA-256 over (part, name, content) of images, in the order of their names."""
    digest = hashlib.sha256()
    for name, content, part in sorted(zip(names, digests, parts, strict=True)):
        # No name holds a zero byte, so nothing else gives the same bytes.
        digest.update(b"%d %b %b\0" % (part, content.encode("ascii"), os.fsencode(name)))
    return digest.hexdigest()


def folder_for(cache: Path, name: str, key: str, short_side: int) -> Path:
    """The folder of one finished cache."""
    settings = hashlib.sha256(f"{FORMAT} {key}".encode()).hexdigest()
    return cache / f"{name}-s{short_side}-{settings[:16]}"


def read(folder: Path) -> Stored | None:
    """Map a finished cache into memory; None where there is none.

    One that is damaged or incomplete is named on the terminal and None returned, so that it is
    built again.

    Raises:
        DataError: the folder that holds all caches may not be read.
    """
    with reading(folder, ELSEWHERE):
        if not folder.exists():
            return None
    try:
        sums = read_json(folder / "sums.json", remedy="")
        for name in SUMMED:
            if sha256_of(folder / name) != sums[name]:
                raise ValueError(f"{name} is not as it was written")
        index = read_json(folder / "index.json", remedy="")
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
        pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r").view(np.ndarray)
        if len(pixels) != index["bytes"]:
            raise ValueError(f"{len(pixels):,} of {index['bytes']:,} bytes of pixels")
        return Stored(
            Images(pixels, **arrays),
            index["names"],
            index["digests"],
            np.asarray(index["parts"], dtype=np.int64),
            [LeftOut(*entry) for entry in index["left_out"]],
            [(name, note) for name, note in index["notes"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttnBlocksError) as error:
        say(f"{folder} is incomplete or damaged and is built again: {error}")
        return None


def read_back(folder: Path) -> Stored:
    """Map a cache that was just written into memory.

    Raises:
        DataError: it does not read as it was written.
    """
    stored = read(folder)
    if stored is None:
        raise DataError(
            f"{folder} does not read as it was written; set ATTN_BLOCKS_CACHE to a folder on "
            "another disk, then run the same command again"
        )
    return stored


class Writer:
    """Writes a cache into a temporary folder, which ``finish`` gives its name.

    Used as a context manager: on any error, and without ``finish``, nothing is left behind.

    Args:
        cache: the folder that holds all caches.
        name: the data set's.
        total: how many images are expected; for the estimate when the disk is full.

    Raises:
        DataError: the folder cannot be written, or the disk is full, with the room needed.
    """

    def __init__(self, cache: Path, name: str, total: int):
        self.cache, self.name, self.total = cache, name, total
        self.names: list[str] = []
        self.digests: list[str] = []
        self.parts: list[int] = []
        self.left_out: list[LeftOut] = []
        self.notes: list[tuple[str, str]] = []
        self._sizes: list[tuple[int, int]] = []
        self._labels: list[int] = []
        self._bytes = 0

    def __enter__(self) -> Writer:
        with self._room():
            self.folder = Path(
                tempfile.mkdtemp(prefix=f".{self.name}.", suffix=".tmp", dir=self.cache)
            )
            self._pixels = (self.folder / "pixels.u8").open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        # Closing flushes, which fails again on a full disk; the folder goes all the same.
        try:
            self._pixels.close()
        except OSError:
            pass
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, pixels: np.ndarray, label: int, name: str, digest: str, part: int) -> None:
        """Append one image, uint8 [H, W, 3]."""
        with self._room():
            self._pixels.write(np.ascontiguousarray(pixels).data)
        self._bytes += pixels.size
        self._sizes.append(pixels.shape[:2])
        self._labels.append(label)
        self.names.append(name)
        self.digests.append(digest)
        self.parts.append(part)

    def finish(self, target: Path) -> None:
        """Complete the cache, sync it to the disk and rename it to ``target``."""
        sizes = np.asarray(self._sizes, dtype=np.int32).reshape(-1, 2)
        ends = np.cumsum(3 * sizes.astype(np.int64).prod(axis=1))
        arrays: dict[str, np.ndarray] = {
            "offsets": np.concatenate([[0], ends[:-1]]).astype(np.int64),
            "sizes": sizes,
            "labels": np.asarray(self._labels, dtype=np.int64),
        }
        with self._room():
            self._pixels.flush()
            os.fsync(self._pixels.fileno())
            for name, values in arrays.items():
                content = io.BytesIO()
                np.save(content, values)
                write_bytes(self.folder / f"{name}.npy", content.getvalue())
            index = {
                "bytes": self._bytes,
                "names": self.names,
                "digests": self.digests,
                "parts": [int(part) for part in self.parts],
                "left_out": self.left_out,
                "notes": self.notes,
            }
            write_json(self.folder / "index.json", index)
            sums = {name: sha256_of(self.folder / name) for name in SUMMED}
            write_json(self.folder / "sums.json", sums)
            self.folder.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            self.folder.rename(target)
            _sync_folder(self.cache)

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(self._explain(error)) from error

    def _explain(self, error: OSError) -> str:
        if error.errno not in NO_ROOM:
            return _cannot_write(self.cache, error)
        done = max(1, len(self._sizes))
        needed = (self._bytes / done or 3 * 64 * 64) * self.total * 1.05 / 1e6
        free = shutil.disk_usage(self.cache).free / 1e6
        return (
            f"no room left in {self.cache}: the decoded images of {self.name} need about "
            f"{needed:,.0f} MB, {free:,.0f} MB are free ({error.strerror}); make room or set "
            "ATTN_BLOCKS_CACHE to a folder on another disk, then run the same command again"
        )


def _cannot_write(cache: Path, error: OSError) -> str:
    return (
        f"the cache folder {cache} cannot be written: {error.strerror or error}; set "
        "ATTN_BLOCKS_CACHE to a folder that can"
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def building(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock to build caches of one data set; remove what interrupted builds left behind.

    The lock is the operating system's, so a dead process holds none.

    Raises:
        DataError: the cache folder cannot be made or written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another process that decodes {name} into {cache}")
            lock.acquire()
    except OSError as error:
        raise DataError(_cannot_write(cache, error)) from error
    try:
        for unfinished in sorted(cache.glob(f".{name}.*.tmp")):
            say(f"{unfinished} was left by an interrupted run; it is removed and built again")
            shutil.rmtree(unfinished, ignore_errors=True)
        yield
    finally:
        lock.release()
