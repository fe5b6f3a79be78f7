"""Files from the web: resumed after an interruption, and named once the checksum matches."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from attn_blocks.datasets.progress import bar, say
from attn_blocks.errors import DataError, reason_of
from attn_blocks.files import NO_ROOM, folder_lock, set_aside, storage_error

TIMEOUT = 30  # seconds without a byte
TRIES = 5  # in a row without a byte more than before
WAIT = 2  # seconds, longer with every try
BLOCK = 2**18
AGAIN = "run the same command again and it goes on from there"


def fetch(address: str, target: Path, md5: str, title: str) -> Path:
    """Download ``address`` to ``target`` and return it.

    What has arrived is kept in ``<target>.part``; a broken transfer, in this call or an earlier
    one, goes on from there if the server can, and starts again if not. A file that is already
    there with the right checksum is not fetched; one with another is kept as ``<target>.damaged``.

    Args:
        address: http or https.
        target: the file to make.
        md5: its published checksum; the file gets its name only if it matches.
        title: for the progress bar.

    Raises:
        DataError: the server cannot be reached, refuses, or breaks off; a wrong checksum; no room;
            a file that cannot be read or written; another process is fetching the same file.
    """
    try:
        if target.exists() and md5_of(target) == md5:
            return target
        with folder_lock(target.parent, f".{target.name}.lock", wait=False) as is_held:
            if not is_held:
                raise DataError(
                    f"another process is downloading {target}; wait until it has ended, then run "
                    "the same command again"
                )
            # Another process may have fetched it since.
            if not (target.exists() and md5_of(target) == md5):
                _fetch(address, target, md5, title)
    except OSError as error:  # those of the network are dealt with
        path = Path(error.filename or target)
        raise DataError(str(storage_error(error, path))) from error
    return target


def _fetch(address: str, target: Path, md5: str, title: str) -> None:
    """Download a file that is not there or has a wrong checksum; the caller holds its lock."""
    if target.exists():
        say(
            f"{target} has a wrong checksum and is fetched again; what is there is kept, in the "
            "end as .damaged beside it"
        )
    part = target.with_name(target.name + ".part")
    part.open("ab").close()  # what cannot be written here is no fault of the network
    failures = 0
    while (reason := _attempt(address, part, title)) is not None:
        failures = failures + 1 if reason.stuck else 0
        if failures == TRIES or reason.final:
            raise DataError(
                f"{address} could not be downloaded: {reason}; {_size(part):,} bytes have "
                f"arrived in {part}; {AGAIN}, or fetch it by other means"
            )
        time.sleep(WAIT * failures)
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise DataError(
            f"{address}: the checksum of what arrived is {found}, it should be {md5}; the file "
            "is removed; run the same command again"
        )
    if target.exists():
        set_aside(target)
    part.replace(target)


class _Failure(str):
    """Why an attempt ended; ``stuck``: no byte arrived; ``final``: trying again is no use."""

    stuck: bool
    final: bool

    def __new__(cls, reason: object, stuck: bool = True, final: bool = False) -> _Failure:
        failure = super().__new__(cls, reason)
        failure.stuck, failure.final = stuck, final
        return failure


def _attempt(address: str, part: Path, title: str) -> _Failure | None:
    """Transfer what is missing; None when the file is complete."""
    before = _size(part)
    request = urllib.request.Request(address, headers={"User-Agent": "attn-blocks"})
    if before:
        request.add_header("Range", f"bytes={before}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = _receive(response, part, title)
    except urllib.error.HTTPError as error:
        if error.code == 416 and before:
            # Nothing beyond what is there: complete, unless the file there is another one.
            if error.headers.get("Content-Range") == f"bytes */{before}":
                return None
            part.unlink()
            return _Failure("the part that was there does not belong to this file")
        final = 400 <= error.code < 500 and error.code not in (408, 429)
        return _Failure(f"the server answers {error.code} {error.reason}", final=final)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DataError(f"no room left for {part}; make room, then {AGAIN}") from error
        return _Failure(
            str(getattr(error, "reason", None) or reason_of(error)),
            stuck=_size(part) <= before,
        )
    if total is not None and _size(part) < total:
        return _Failure("the connection was closed early", stuck=_size(part) <= before)
    return None


def _receive(response: http.client.HTTPResponse, part: Path, title: str) -> int | None:
    """Write the body behind what is there; return the size of the whole file if it is known."""
    length = response.headers.get("Content-Length")
    start, total = 0, int(length) if length else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status == 206 and match and int(match[1]) == _size(part):  # it is resumed
        start, total = int(match[1]), int(match[2])
    progress = bar(None, f"Downloading {title}", total, unit="B", initial=start, unit_scale=True)
    with part.open("ab" if start else "wb") as stream, progress:
        while block := response.read(BLOCK):
            stream.write(block)
            progress.update(len(block))
    return total


def md5_of(path: Path) -> str:
    """The MD5 of a file: good against broken transfers, which is what it is published for."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
