"""What the benchmarks share: processes that take turns, and records in CSV files.

Paddle and PyTorch do not live in one process, and two timings a minute apart say little on a busy
machine. So each framework has a process of its own, a ``Worker``, which runs a step when it is
told to; the steps of all sides follow one another closely, and a ratio is the median over such
rounds. This file is read by the PyTorch side too and imports nothing but the standard library
until a record is written.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PARTIAL = HERE.parent / "results" / "benchmarks"  # a part of a table must not replace the whole
FOLDERS = (
    "of the CSV files; by default benchmarks/results, for a part of a table results/benchmarks"
)
# An OpenMP library keeps its threads awake for 0.2 s, to the harm of whoever comes next.
PAUSE = 0.25
# Share of a network's parameters that its twin may have more or fewer: timm's BAT has no biases
# before its norms.
PARAMETERS_OFF = 0.002
PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "torch", "torchvision", "timm")

Steps = Mapping[str, Callable[[], object]]


# Turns -------------------------------------------------------------------------------------------


def serve(
    build: Callable[..., tuple[Steps, Mapping[str, object]]],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Be a worker: obey the requests on standard input until it ends.

    Args:
        build: makes what is measured from the keywords of ``Worker.build``: steps by name, and
            facts about them that JSON can hold.
        clock: what steps are timed with; ``time.process_time`` leaves out the time that other
            programs take, and is meant for a single thread.
    """
    # Replies go where standard output went; what libraries print goes to standard error.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    steps: Steps = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "turn" in request:
                time.sleep(PAUSE)
                reply = {"seconds": turn(steps[request["turn"]], request["at_least"], clock)}
            else:
                steps = {}  # frees the previous model before the next one is made
                steps, reply = build(**request["build"])
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def turn(
    step: Callable[[], object], at_least: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds per step, over as many steps as take ``at_least`` seconds together, one or more."""
    start, count = clock(), 0
    while True:
        step()
        count += 1
        seconds = clock() - start
        if seconds >= at_least:
            return seconds / count


class Worker:
    """A process that builds models and times their steps on request; ends with the ``with`` block.

    Args:
        command: interpreter, script and arguments of a program that calls ``serve``.
        environment: all its variables; None for those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.command = [str(word) for word in command]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def build(self, **experiment: object) -> dict:
        """Make what is measured next; the worker's facts about it."""
        return self._ask(build=experiment)

    def begin(self, step: str, at_least: float) -> None:
        """Start a turn; several workers that have begun run side by side until ``finish``."""
        self._send(turn=step, at_least=at_least)

    def finish(self) -> float:
        """Wait for the end of the turn; seconds per step."""
        return self._receive()["seconds"]

    def turn(self, step: str, at_least: float = 0.3) -> float:
        """Seconds per step, over steps that take at least so many seconds together."""
        self.begin(step, at_least)
        return self.finish()

    def _ask(self, **request: object) -> dict:
        self._send(**request)
        return self._receive()

    def _send(self, **request: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # the missing reply says that it ended
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def _receive(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended early; its messages are above")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"{' '.join(self.command)}: {reply['error']}")
        return reply


def in_turns(
    sides: Sequence[Callable[[], float]], rounds: int, warm_up: int = 1
) -> list[tuple[float, ...]]:
    """What the sides give in each round, one after the other; every second round goes backwards.

    Args:
        sides: measure something once, such as ``lambda: worker.turn("train")``.
        warm_up: rounds that are not counted, for memory and for kernels that are chosen once.
    """
    found = []
    for number in range(-warm_up, rounds):
        order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
        values = {index: sides[index]() for index in order}
        if number >= 0:
            found.append(tuple(values[index] for index in range(len(sides))))
    return found


def middle(rounds: Sequence[Sequence[float]], side: int) -> float:
    """The median of a side's values."""
    return median(values[side] for values in rounds)


def ratio(rounds: Sequence[Sequence[float]], above: int, below: int) -> float:
    """The median over the rounds of one side's value by another's."""
    return median(values[above] / values[below] for values in rounds)


def check_twin(name: str, parameters: int, twins: int) -> None:
    """Hold a twin's number of parameters against the network's.

    Raises:
        RuntimeError: they differ by more than ``PARAMETERS_OFF``.
    """
    if abs(twins / parameters - 1) > PARAMETERS_OFF:
        raise RuntimeError(
            f"{name} has {parameters:,} parameters and its twin {twins:,}; torch_twins.py builds "
            "another network"
        )


# Records -----------------------------------------------------------------------------------------


def results_folder(asked: Path | None, is_whole: bool) -> Path:
    """Where records go: the folder that is asked for, else the book's for whole tables alone."""
    return asked or (RESULTS if is_whole else PARTIAL)


def versions() -> dict[str, str]:
    """Python's version and those of the packages in use, of this interpreter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def conditions(threads: int, peer: Mapping[str, str] | None = None) -> dict[str, str]:
    """The machine, the versions and the date of a record.

    Args:
        threads: of each framework.
        peer: ``versions()`` of the other framework's interpreter, if there is one.
    """
    from attn_blocks import device, native

    convolution = native.describe()
    return {
        "processor": f"{device.processor()['name']}, {device.cores()} cores, "
        f"{threads} {'thread' if threads == 1 else 'threads'}",
        "versions": "; ".join(
            ", ".join(f"{name} {version}" for name, version in side.items())
            for side in (versions(), peer)
            if side
        ),
        "convolution": f"native, {convolution['library']}, {convolution['maths']}"
        if convolution["enabled"]
        else f"Paddle's own ({convolution['reason']})",
        "date": date.today().isoformat(),
    }


def record(
    name: str,
    rows: Sequence[Mapping[str, object]],
    command: str,
    threads: int,
    peer: Mapping[str, str] | None = None,
    folder: Path = RESULTS,
    **words: str,
) -> Path:
    """Write ``<folder>/<name>.csv``: comment lines on command and conditions, then the rows.

    Args:
        words: ``title``, ``about`` and ``finding`` of the table, for the book's page.
    """
    from attn_blocks.files import atomic_write

    path = folder / f"{name}.csv"
    told = {**words, "command": command, **conditions(threads, peer)}
    with atomic_write(path) as stream:
        stream.writelines(f"# {key}: {' '.join(value.split())}\n" for key, value in told.items())
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def show(row: Mapping[str, object]) -> None:
    """A row on the terminal, as soon as it is measured."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
