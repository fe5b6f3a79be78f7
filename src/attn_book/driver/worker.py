"""A worker process: it reads a request, carries it out and writes the result."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from attn_blocks.errors import AttnBlocksError, StorageError
from attn_blocks.files import NO_ROOM, storage_error
from attn_book.driver.pages import execute_page
from attn_book.driver.processes import LONGEST_ERROR, LONGEST_RESULT, PACKAGES
from attn_book.study.experiment import Experiment
from attn_book.training.run import train_experiment


def main() -> None:
    """Read the request, carry it out, write the result."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    channel = os.dup(1)
    os.dup2(2, 1)  # what is printed goes to the log
    notes: list[str] = []
    _collect_warnings(notes)
    result: dict[str, Any] = {"error": None, "errno": None, "notes": notes}
    try:
        _KINDS[request.pop("kind")](**request)
    except StorageError as error:
        result |= {"error": str(error), "errno": error.errno}
    except AttnBlocksError as error:
        result["error"] = str(error)
    except Exception as error:
        traceback.print_exc()
        result["error"] = traceback.format_exc()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            path = Path(os.fsdecode(error.filename or Path.cwd()))
            result |= {"error": str(storage_error(error, path)), "errno": error.errno}
    result["error"] = result["error"] and result["error"][-LONGEST_ERROR:]
    os.write(channel, _line(result))


def _line(result: dict[str, Any]) -> bytes:
    """A result as the driver reads it; of very many notes the last ones are left out."""
    while len(line := json.dumps(result).encode("ascii")) > LONGEST_RESULT:
        result["notes"].pop()
    return line


def _train(experiment: Mapping[str, Any], **arguments: Any) -> None:
    train_experiment(Experiment.from_dict(experiment), **arguments)


_KINDS: dict[str, Callable[..., None]] = {"train": _train, "page": execute_page}


def _exit_with_driver() -> None:
    # Not through sys.stdin: a thread that waits in there would block the interpreter's end.
    while os.read(0, 1024):
        pass
    try:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    finally:
        os._exit(1)


def _collect_warnings(notes: list[str]) -> None:
    """Add warnings of the two packages to the result's notes; others go to the log as always."""
    show = warnings.showwarning

    def collect(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if any(Path(filename).is_relative_to(package) for package in PACKAGES):
            notes.append(str(message))
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = collect
