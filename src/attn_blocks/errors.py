"""The errors a reader can meet; each message names the value or file and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AttnBlocksError(Exception):
    """Base class of every error that the package raises on purpose."""


class SettingError(AttnBlocksError, ValueError):
    """A name or a value that does not exist or cannot work."""


class DataError(AttnBlocksError):
    """A data set that is missing, unusable or too damaged to train on."""


class CheckpointError(AttnBlocksError, ValueError):
    """Weights or records that are damaged or do not fit."""


class StorageError(AttnBlocksError, OSError):
    """A folder or file that cannot be written; ``errno`` and ``strerror`` are the system's."""

    def __init__(self, message: str, reason: OSError) -> None:
        super().__init__(reason.errno, reason.strerror)
        self.message = message

    def __str__(self) -> str:
        return self.message


class TrainingError(AttnBlocksError):
    """A run that could not be finished."""


def reason_of(error: BaseException) -> str:
    """What an error says; its type's name where it says nothing, as ``EOFError()`` does."""
    return str(error) or type(error).__name__


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``valid``; else raise SettingError that lists them."""
    valid = list(valid)
    if name in valid:
        return name
    close = difflib.get_close_matches(str(name), valid, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise SettingError(f"unknown {kind} {name!r}; choose one of: {', '.join(valid)}{hint}")
