"""Class folders to decoded images: the cache if it is there, else one pass over the files."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from attn_blocks.datasets import cache as caches
from attn_blocks.datasets.cache import Stored, Writer
from attn_blocks.datasets.decode import decode_files
from attn_blocks.datasets.folder import TRAIN, VAL, File, LeftOut, Listing, reading
from attn_blocks.datasets.progress import bar
from attn_blocks.datasets.source import Source
from attn_blocks.errors import AttnBlocksError, DataError
from attn_blocks.files import command_line, read_json, sha256_of, write_bytes, write_json

# A class that loses a larger share of its images is not trained on.
MAX_LOST = 0.01
# In place of the content hash of a file that cannot be read.
UNREADABLE = ""
SHOWN = 3


def collect(source: Source, listing: Listing, short_side: int, cache: Path) -> Stored:
    """The decoded images of a listing, from the cache or decoded into it.

    Images left out, with the reasons, and what had to be interpreted are listed in a report file
    beside the cache; those left out are warned of.

    Raises:
        DataError: more than 1% of a class is lost; the cache cannot be read or written; the disk is
            full.
    """
    manifest = cache / f".{source.name}-{_hash(str(listing.folder))}.manifest.json"
    found = _look_up(source, listing, short_side, cache, manifest)
    if found is None:
        with caches.building(cache, source.name):
            # Another process may have built it while this one waited.
            found = _look_up(source, listing, short_side, cache, manifest)
            if found is None:
                found = _build(source, listing, short_side, cache, manifest)
    folder, stored = found
    left_out = [*listing.left_out, *stored.left_out]
    report = folder.with_name(f"{folder.name}.report.txt")
    _write_report(report, source, listing, left_out, stored)
    check_losses(source, listing, left_out, report)
    if left_out:
        warnings.warn(
            f"{source.title}: {len(left_out)} of {len(listing.files) + len(listing.left_out):,} "
            f"images left out: {_some(left_out)}; all of them are listed in {report}",
            stacklevel=3,
        )
    return stored


def check_losses(
    source: Source, listing: Listing, left_out: Sequence[LeftOut], report: Path | None = None
) -> None:
    """Raise DataError when more than 1% of the images of a class are left out."""
    total = Counter(file.label for file in listing.files)
    total.update(entry.label for entry in listing.left_out)
    lost = Counter(entry.label for entry in left_out if entry.label >= 0)
    for label, number in sorted(lost.items()):
        if number > MAX_LOST * total[label]:
            entries = [entry for entry in left_out if entry.label == label]
            where = f"; all are listed in {report}" if report else ""
            raise DataError(
                f"{source.title} in {listing.folder}: class {listing.classes[label]!r} loses "
                f"{number} of {total[label]:,} images, more than {MAX_LOST:.0%}: "
                f"{_some(entries)}{where}; repair or remove these files, or unpack the data set "
                f"again with {command_line()} data prepare {source.name} SOURCE --replace"
            )


def duplicates(stored: Stored) -> list[tuple[str, str]]:
    """(training image, validation image) of equal content."""
    training = {
        digest: name
        for name, digest, part in zip(stored.names, stored.digests, stored.parts, strict=True)
        if part == TRAIN
    }
    return [
        (training[digest], name)
        for name, digest, part in zip(stored.names, stored.digests, stored.parts, strict=True)
        if part == VAL and digest in training
    ]


def _look_up(
    source: Source, listing: Listing, short_side: int, cache: Path, manifest: Path
) -> tuple[Path, Stored] | None:
    """The finished cache of exactly these files, if there is one."""
    with reading(cache, caches.ELSEWHERE):
        if not any(cache.glob(f"{source.name}-s{short_side}-*")):
            return None
    known = _read_manifest(manifest)
    keys = [(file.name, file.size, file.mtime_ns) for file in listing.files]
    digests = [
        known[key] if key in known else _digest(file)
        for key, file in zip(keys, listing.files, strict=True)
    ]
    if not known.keys() >= set(keys):
        _write_manifest(manifest, listing.files, digests)
    folder = _folder(source, listing, digests, short_side, cache)
    stored = caches.read(folder)
    return None if stored is None else (folder, stored)


def _build(
    source: Source, listing: Listing, short_side: int, cache: Path, manifest: Path
) -> tuple[Path, Stored]:
    files = listing.files
    digests = []
    with (
        closing(decode_files([file.path for file in files], short_side)) as decoded,
        Writer(cache, source.name, len(files)) as writer,
    ):
        outcomes = bar(decoded, f"Decoding {source.title}", len(files))
        for file, result in zip(files, outcomes, strict=True):
            digest = result.digest if result.digest is not None else UNREADABLE
            digests.append(digest)
            if result.pixels is None:
                name = os.path.relpath(file.path, listing.folder)
                writer.left_out.append(LeftOut(name, result.reason, file.label))
            else:
                writer.add(result.pixels, file.label, file.name, digest, file.part)
                writer.notes += [(file.name, note) for note in result.notes]
        if not writer.names:
            check_losses(source, listing, writer.left_out)
        folder = _folder(source, listing, digests, short_side, cache)
        writer.finish(folder)
    _write_manifest(manifest, files, digests)
    return folder, caches.read_back(folder)


def _folder(
    source: Source, listing: Listing, digests: list[str], short_side: int, cache: Path
) -> Path:
    parts = [file.part for file in listing.files]
    key = caches.key_of([file.name for file in listing.files], digests, parts)
    return caches.folder_for(cache, source.name, key, short_side)


def _digest(file: File) -> str:
    try:
        return sha256_of(file.path)
    except OSError:
        return UNREADABLE


def _read_manifest(manifest: Path) -> dict[tuple[str, int, int], str]:
    # It only saves time: without a readable one the files are hashed again.
    try:
        return {
            (name, size, changed): digest for name, size, changed, digest in read_json(manifest)
        }
    except (OSError, AttnBlocksError, ValueError, TypeError):
        return {}


def _write_manifest(manifest: Path, files: Sequence[File], digests: Sequence[str]) -> None:
    rows = [
        [file.name, file.size, file.mtime_ns, digest]
        for file, digest in zip(files, digests, strict=True)
        if digest != UNREADABLE
    ]
    with suppress(OSError):
        write_json(manifest, rows)


def _write_report(
    report: Path,
    source: Source,
    listing: Listing,
    left_out: Sequence[LeftOut],
    stored: Stored,
) -> None:
    # Names in quotes and escaped: a file name may hold a line break.
    lines = [f"{source.title} in {listing.folder}", f"{len(left_out)} images left out"]
    lines += [f"  {name!a}: {reason}" for name, reason, _ in left_out]
    lines += [f"{len(stored.notes)} images used after a conversion"]
    lines += [f"  {name!a}: {note}" for name, note in stored.notes]
    twice = duplicates(stored)
    lines += [f"{len(twice)} validation images that are in the training part too, all used"]
    lines += [f"  {name!a}: the same as {training!a}" for training, name in twice]
    content = "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
    # A report is a courtesy: a cache on a read-only disk or a full one works without.
    with suppress(OSError):
        if not report.exists() or report.read_bytes() != content:
            write_bytes(report, content)


def _some(left_out: Sequence[LeftOut]) -> str:
    shown = ", ".join(f"{name!a} ({reason})" for name, reason, _ in left_out[:SHOWN])
    more = len(left_out) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
