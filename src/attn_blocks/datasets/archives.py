"""Zip and tar files from anywhere, unpacked so that nothing lands outside the target folder.

An archive is looked through to its last byte before one is written: an entry that is absolute,
climbs out with ``..``, or is a link or a device refuses the whole archive, and so does one that
holds too much, is cut, or does not pass its checksum.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from attn_blocks.errors import DataError, reason_of
from attn_blocks.files import NO_ROOM

MAX_FILES = 200_000
MAX_BYTES = 4 * 2**30
# What may stand before a file in a tar: long names and notes. Some versions of Python take a time
# that grows with the square of it.
MAX_HEADER = 2**13
TAR_END = bytes(1024)
ZIP_END, ZIP_END_SIZE = b"PK\5\6", 22  # the last record of a zip; a comment may follow it
BLOCK = 2**20
SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}
DAMAGED = (
    gzip.BadGzipFile,  # an OSError, so it is looked for first
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # an encrypted zip
    NotImplementedError,  # a compression that zipfile does not know
    ValueError,
    OverflowError,
    KeyError,
    IndexError,
)


class Member(NamedTuple):
    """One entry; ``kind`` is "file", "folder" or what else it is."""

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


def is_archive_name(name: str) -> bool:
    """Whether a file of this name is taken for an archive; hidden files never are."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """Unpack the regular files of a zip or tar, of any compression, below ``target``.

    Args:
        archive: what to unpack; recognised by its content, not by its name.
        target: a folder.
        keep: called with the last part of each name; the other files are not unpacked.

    Raises:
        DataError: not an archive, damaged, encrypted, unsafe or too large, or no room for it.
    """
    try:
        if archive.exists() and not archive.is_file():
            raise DataError(f"{archive} is neither a folder nor a regular file")
        with _open(archive) as members:
            count, needed = _check(archive, members(), keep)
        free = shutil.disk_usage(target).free
        if needed > free:
            raise DataError(_no_room(archive, target, needed, free))
        unpacked = 0
        with _open(archive) as members:
            for member in members():
                parts = _safe_parts(archive, member.name)
                if member.kind == "file" and keep(parts[-1]):
                    _extract(member, target.joinpath(*parts))
                    unpacked += 1
        if unpacked != count:
            raise EOFError(f"{unpacked:,} of {count:,} files could be read again")
    except DAMAGED as error:
        raise DataError(
            f"{archive} is damaged or not a zip or tar file ({reason_of(error)}); fetch it again"
        ) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            free = shutil.disk_usage(target).free
            raise DataError(_no_room(archive, target, needed, free)) from error
        raise DataError(f"{archive} cannot be unpacked: {error}") from error


@contextmanager
def _open(archive: Path) -> Iterator[Callable[[], Iterator[Member]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield lambda: _zip_members(opened, archive)
        return
    with archive.open("rb") as stream:
        start = stream.read(2)
    # Compression is undone here and not by tarfile, which would not limit what it reads.
    with COMPRESSED.get(start, Path.open)(archive, "rb") as stream:
        limited = _Limited(stream, archive)
        with tarfile.open(fileobj=limited, mode="r:") as opened:
            yield lambda: _tar_members(opened, limited)


class _Limited:
    """A stream that gives ``left`` bytes more and then refuses."""

    def __init__(self, stream: BinaryIO, archive: Path):
        self.stream, self.archive, self.left = stream, archive, MAX_HEADER
        self.seek, self.tell = stream.seek, stream.tell
        self.write, self.close = stream.write, stream.close  # not called: part of the interface

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise DataError(
                f"{self.archive} has a header of more than {MAX_HEADER:,} bytes; it is not unpacked"
            )
        return self.stream.read(size)


def _zip_members(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in opened.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else "file"
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "link or device"
        # Compares its name in the list with the one before its content: a flipped bit in either
        # would make an image something else.
        opened.open(info).close()
        yield Member(info.filename, info.file_size, kind, partial(opened.open, info))
    count, stated = len(opened.infolist()), _zip_count(archive)
    # Larger numbers stand elsewhere, or are cut to 16 bits by some programs.
    if stated not in (min(count, 0xFFFF), count & 0xFFFF):
        raise zipfile.BadZipFile(f"it lists {count:,} entries and should hold {stated:,}")


def _zip_count(archive: Path) -> int:
    """How many entries a zip says it has; ``zipfile`` does not compare it with its list."""
    with archive.open("rb") as stream:
        longest = ZIP_END_SIZE + 0xFFFF
        stream.seek(-min(longest, archive.stat().st_size), os.SEEK_END)
        last = stream.read()
    place = last.rfind(ZIP_END)
    return int.from_bytes(last[place + 10 : place + 12], "little")


def _tar_members(opened: tarfile.TarFile, limited: _Limited) -> Iterator[Member]:
    for info in opened:
        kind = "folder" if info.isdir() else "link or device"
        if info.isreg() and not info.issparse():
            kind = "file"
        limited.left = info.size + BLOCK
        yield Member(info.name, info.size, kind, partial(opened.extractfile, info))
        limited.left = MAX_HEADER
    _check_tar_end(limited.stream, opened.offset)


def _check_tar_end(stream: BinaryIO, offset: int) -> None:
    """Check that a tar ends where ``tarfile`` stopped, which it also does at a damaged header.

    Reads the stream to its end, so that its checksum is compared as well.
    """
    stream.seek(offset)
    if stream.read(len(TAR_END)) != TAR_END:
        raise tarfile.ReadError("it is cut or has a damaged header: its end is missing")
    while block := stream.read(BLOCK):
        if block.count(0) != len(block):
            raise tarfile.ReadError("more follows after its end")


def _check(
    archive: Path, members: Iterator[Member], keep: Callable[[str], bool]
) -> tuple[int, int]:
    """Refuse what is unsafe or too much; return the files and bytes that will be written."""
    kept = total = needed = 0
    for count, member in enumerate(members, 1):
        parts = _safe_parts(archive, member.name)
        if member.kind not in ("file", "folder"):
            raise DataError(
                f"{archive}: the entry {member.name!a} is a link or device, which a data set "
                "has no need of; nothing was unpacked"
            )
        total += member.size
        if count > MAX_FILES or total > MAX_BYTES:
            raise DataError(
                f"{archive} holds more than {MAX_FILES:,} files or {MAX_BYTES / 2**30:.0f} GiB; "
                "that is none of the data sets, nothing was unpacked"
            )
        if member.kind == "file" and keep(parts[-1]):
            kept += 1
            needed += member.size
    return kept, needed


def _safe_parts(archive: Path, name: str) -> list[str]:
    # Zip files made on Windows may part names by backslashes.
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or re.match("[A-Za-z]:", plain) or "\0" in plain:
        raise DataError(
            f"{archive}: the entry {name!a} leads out of the folder that it is unpacked into; "
            "nothing was unpacked"
        )
    return parts or ["."]


def _extract(member: Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    source = member.open()
    assert source is not None, f"{member.name!a} is no regular file"
    with source, path.open("xb") as stream:
        while block := source.read(min(BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise ValueError(
                    f"{member.name!a} holds more than its stated {member.size:,} bytes"
                )
            stream.write(block)
    if left:
        raise EOFError(f"{member.name!a} ends {left:,} bytes too early")


def _no_room(archive: Path, target: Path, needed: int, free: int) -> str:
    return (
        f"no room to unpack {archive} into {target}: {needed / 1e6:,.0f} MB are needed, "
        f"{free / 1e6:,.0f} MB are free; make room and run the same command again"
    )
