"""Files, written atomically: into a temporary file that is then renamed."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from attn_blocks.errors import CheckpointError, SettingError, StorageError

PROJECT = Path(__file__).resolve().parents[2]
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DELETE_IT = "delete it and make or fetch it again"  # a damaged file


def in_checkout() -> bool:
    """Whether the packages lie in a checkout of the book, beside its notebooks and records."""
    return (PROJECT / "notebooks").is_dir()


def need_checkout(what: str) -> None:
    """Raise SettingError if the packages are installed without the book's notebooks and records."""
    if not in_checkout():
        raise SettingError(
            f"{what} needs a checkout of the book, with its notebooks and records, which are no "
            "part of the installed package: get its sources and run the command there"
        )


def project_folder(name: str, variable: str = "", folder: str | os.PathLike | None = None) -> Path:
    """``folder``, else the environment variable's, else ``name`` in the project's checkout.

    Notebooks run in their own folder, so a path relative to it would lead astray; outside a
    checkout (an installed wheel) it is relative to the working folder all the same.

    Raises:
        SettingError: what is no path.
    """
    if folder is None:
        folder = os.environ.get(variable) or (PROJECT / name if in_checkout() else name)
    try:
        return Path(folder).expanduser().absolute()
    except (TypeError, RuntimeError) as error:  # the second for ~nobody
        raise SettingError(f"the path of the folder {name} cannot be {folder!r}") from error


def command_line() -> str:
    """``attn-book`` as it can be typed here: with its folder, where the shell does not look."""
    script = Path(sys.executable).with_name("attn-book")
    if shutil.which(script.name) or not script.exists():
        return script.name
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def printable(text: str) -> str:
    """``text`` with what is not printable or not UTF-8 written out: ``"caf\\udce9"``, ``"\\n"``."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Collect the content of a file in memory; on success ``write_bytes`` writes it.

    Args:
        path: of the finished file.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.

    Raises:
        StorageError: as ``write_bytes``.
    """
    stream: io.BytesIO | io.StringIO
    stream = io.BytesIO() if "b" in mode else io.StringIO(newline="\n")
    yield stream
    content = stream.getvalue()
    if isinstance(content, str):  # a path in it need not be UTF-8
        content = content.encode("utf-8", "backslashreplace")
    write_bytes(path, content)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file atomically: into a temporary file beside ``path``, synced, then renamed.

    Its folder is made if it is missing. On an error the file keeps its old content.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are meant to be read by others too.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(error, path, len(content)) from error
        raise


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder of the same name that takes the place of ``target`` if nothing goes wrong.

    It is made in a temporary folder ``.<name>.*.tmp`` beside the target, which is removed at the
    end. On any error the target stays as it was; a kill between the two renames leaves its old
    content there, as ``old``, for ``recover_folder``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    space = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        ready = space / target.name
        ready.mkdir()
        yield ready
        # One call for all files: syncing each of many thousands would take minutes.
        os.sync()
        if target.exists():
            target.rename(space / "old")
        ready.rename(target)
    finally:
        old = space / "old"
        if old.exists() and not target.exists():  # the second rename failed
            old.rename(target)
        shutil.rmtree(space, ignore_errors=True)


def recover_folder(target: Path) -> list[Path]:
    """Remove what killed calls of ``atomic_folder`` left, and put back what they had moved away.

    The caller holds a lock, so that no such call is under way.

    Returns:
        The temporary folders that were left.
    """
    left = sorted(target.parent.glob(f".{target.name}.*.tmp"))
    for space in left:
        if (space / "old").is_dir() and not target.exists():
            (space / "old").rename(target)
        shutil.rmtree(space, ignore_errors=True)
    return left


def storage_error(error: OSError, path: Path, needed: int | None = None) -> StorageError:
    """An operating system's error as a StorageError: which path, how much room, and what to do.

    Args:
        error: what was raised while ``path`` was written.
        needed: bytes that are to be written, where that is known.
    """
    if isinstance(error, StorageError):
        return error
    if error.errno not in NO_ROOM:
        message = (
            f"{path} cannot be written: {error.strerror or error}; choose another folder, or "
            "change who may write there"
        )
        return StorageError(message, error)
    folder = next(folder for folder in (path, *path.parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    room = f"it needs {_megabytes(needed)}" if needed is not None else "it needs more"
    message = (
        f"no room left for {path}: {room}, {_megabytes(free)} are free ({error.strerror}); make "
        "room and give the same command again, what is finished is kept"
    )
    return StorageError(message, error)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.3f} MB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


@contextmanager
def folder_lock(
    folder: str | os.PathLike, name: str = ".lock", wait: bool = True
) -> Iterator[bool]:
    """Hold the lock of ``folder``, in which one process at a time may work; it is made if missing.

    The lock is the operating system's, so a process that died holds none.

    Args:
        name: of the lock's file in the folder; it stays there.
        wait: False to get the answer False at once while another process holds the lock.

    Raises:
        StorageError: the folder cannot be written, or the disk is full, now or in the work inside.
    """
    folder = Path(folder)
    lock = FileLock(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        yield True
    except StorageError:
        raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise storage_error(error, Path(error.filename or folder)) from error
        raise
    finally:
        lock.release()


def remove_leftovers(folder: Path, pattern: str = ".*.tmp") -> list[str]:
    """Remove what interrupted writes left in ``folder``; the caller holds the folder's lock.

    Returns:
        A line for each file.
    """
    leftovers = sorted(path for path in folder.glob(pattern) if path.is_file())
    for path in leftovers:
        path.unlink(missing_ok=True)
    return [f"{path} was left by an interrupted write; it is removed" for path in leftovers]


def set_aside(path: Path) -> None:
    """Rename a damaged file, or a folder in a file's place, to ``<name>.damaged``.

    Raises:
        StorageError: it cannot be renamed.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    try:
        path.rename(aside)
    except OSError as error:
        raise storage_error(error, path) from error


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: NaN or infinity in it, which are not JSON.
        StorageError: as ``write_bytes``.
    """
    with atomic_write(path) as stream:
        stream.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike, remedy: str = DELETE_IT) -> Any:
    """Read a JSON file.

    Args:
        remedy: what to do about a damaged one; "" to say nothing of it.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: it cannot be read, is damaged, or holds NaN or a number beyond what a
            float or 64 bits hold; with its path.
    """
    path = Path(path)
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse,
            parse_int=_whole,
            parse_float=_finite,
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(f"{path} is not readable JSON ({error})", remedy, error) from error


def damaged(what: str, remedy: str, error: Exception | None = None) -> CheckpointError:
    """What is said of a damaged file; ``error`` is what was raised when it was read."""
    if isinstance(error, PermissionError):  # its content is not to blame
        remedy = "change who may read it"
    return CheckpointError("; ".join(filter(None, (what, remedy))))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:
        raise ValueError(f"a number of {len(text)} digits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def user_cache() -> Path:
    """The folder for what the packages can make again, in the user's cache folder.

    Raises:
        SettingError: there is none, since the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return project_folder("attn_blocks", folder=f"{base}/attn_blocks")
