"""A worker process for every run and page, and the pipe that connects it to the driver.

The driver writes one line of JSON, the request, to a worker's standard input and leaves the pipe
open; the worker writes its result as a line to its standard output. Nothing else passes between
them, and no signal is needed: when the driver stops or dies, the pipe closes and the worker exits
at once, with all that it started. ``worker`` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attn_blocks
import attn_book
from attn_blocks.errors import AttnBlocksError, StorageError
from attn_blocks.files import folder_lock, storage_error

PACKAGES = tuple(Path(package.__path__[0]) for package in (attn_blocks, attn_book))
# Ctrl-C reaches every process of a terminal; a worker ignores it from the start, the driver acts.
# Nothing is imported from the folder that the command was given in, which -c puts first.
START = """import sys
sys.path[:] = filter(None, sys.path)
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from attn_book.driver import worker
worker.main()"""
# A result is read when its process has ended, so it must fit into the pipe, which has 64 KiB.
LONGEST_ERROR = 4_000  # characters, of at most 12 bytes
LONGEST_RESULT = 60_000  # bytes
POLL_SECONDS = 0.2
GRACE_SECONDS = 1.0


class WorkerError(AttnBlocksError):
    """A run or a page that failed in its own process."""


@dataclass(frozen=True)
class Task:
    """A run to train or a page to execute, by one worker.

    Attributes:
        title: what it is called on the terminal.
        kind: "train" or "page"; ``request`` holds the arguments.
        folder, lock: the lock file is held while the task is worked on, so that several drivers on
            one folder share their work; they touch no other files.
        log: where the worker's standard error goes; None for the driver's own.
        is_done: whether nothing is left to do.
    """

    title: str
    kind: str
    request: Mapping[str, Any]
    folder: Path
    lock: str
    log: Path | None
    is_done: Callable[[], bool]


def run_tasks(
    tasks: Sequence[Task],
    jobs: int,
    environment: Mapping[str, str],
    on_progress: Callable[[Sequence[Task]], None],
    on_done: Callable[[Task, Sequence[str], str | None], Iterable[Task] | None],
) -> None:
    """Run all tasks, ``jobs`` at once, except those that another driver does meanwhile.

    Args:
        environment: of the workers.
        on_progress: called several times a second with the tasks that are being worked on.
        on_done: called with a task that has ended, notes about it, and its error or None; the tasks
            that it returns are run too, after those already waiting.

    Raises:
        StorageError: a disk is full, or a folder cannot be written. All workers are stopped then,
            as on any other exception.
    """
    waiting = list(tasks)
    running: list[Worker] = []
    announced = False
    try:
        while waiting or running:
            for worker in [worker for worker in running if worker.has_ended()]:
                running.remove(worker)
                waiting += on_done(worker.task, *worker.result()) or ()
            for task in list(waiting):
                lock = _try_lock(task) if len(running) < jobs else None
                if lock is None:
                    continue
                waiting.remove(task)
                if task.is_done():
                    lock.close()
                    waiting += on_done(task, (), None) or ()
                else:
                    running.append(Worker(task, environment, lock))
            on_progress([worker.task for worker in running])
            if waiting and not running and not announced:
                announced = True
                print(f"Waiting for another process that makes {len(waiting)} of these", flush=True)
            if waiting or running:
                time.sleep(POLL_SECONDS)
    finally:
        stop(running)


def _try_lock(task: Task) -> ExitStack | None:
    """The task's lock, to be closed; None while another driver holds it."""
    lock = ExitStack()
    return lock if lock.enter_context(folder_lock(task.folder, task.lock, wait=False)) else None


class Worker:
    """A process that runs one task, and the task's lock, held until it has ended."""

    def __init__(
        self,
        task: Task,
        environment: Mapping[str, str] | None = None,
        lock: ExitStack | None = None,
    ) -> None:
        self.task, self.lock = task, lock or ExitStack()
        with ExitStack() as opened:
            log = opened.enter_context(_log(task.log)) if task.log else None
            self.process = subprocess.Popen(
                [sys.executable, "-c", START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        assert self.process.stdin and self.process.stdout, "both are pipes"
        self.requests, self.results = self.process.stdin, self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.requests.write(json.dumps({"kind": task.kind, **task.request}).encode() + b"\n")
            self.requests.flush()

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def result(self) -> tuple[list[str], str | None]:
        """Wait for the end; return notes, and the error or None.

        Raises:
            StorageError: a disk is full, or a folder cannot be written.
        """
        with self.lock, self.process:
            line = self.results.read()
        try:
            result = json.loads(line)
        except ValueError:
            code = self.process.returncode
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return [], f"the process ended early ({how})"
        if result["errno"] is not None:
            raise StorageError(result["error"], OSError(result["errno"], ""))
        return result["notes"], result["error"]


def _log(path: Path) -> Any:
    """A new log; the one before, of a failure perhaps, is kept beside it."""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.stem}.before{path.suffix}"))
        return path.open("wb")
    except OSError as error:
        raise storage_error(error, path) from error


def stop(workers: Iterable[Worker]) -> None:
    """End processes, and what they started, at once; what they saved stays."""
    workers = list(workers)
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.requests.close()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()  # still starting, so it has no children yet
            worker.process.wait()
        worker.results.close()
        worker.lock.close()
