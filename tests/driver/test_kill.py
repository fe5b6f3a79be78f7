"""SIGKILL at many moments: what is finished stays, and the end is bit for bit the same."""

import os
import random
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest

from attn_blocks.tensors import load_tensors
from attn_book.records.reading import HISTORY_COLUMNS
from attn_book.records.run import Run

# Moments that are too short to be hit by chance: while these files are being written, in the order
# in which the command writes them.
SAVING = (
    "pixels.u8",
    "sums.json",
    "experiment.json",
    "history.csv",
    "best.safetensors",
    "last.safetensors",
    "metrics.json",
    "04_sge_curves.png",
    "04_sge.ipynb",
    "summary.csv",
    "verdicts.csv",
)
BY_CHANCE = 20 - len(SAVING)
# Every Python process of the command imports this first. Once the file that DIE_SAVING names is
# being synced to the disk, half of the way to its own name, all of the command dies.
SITECUSTOMIZE = """
import os, signal
os.environ.setdefault("DIE_GROUP", str(os.getpgrp()))
sync, name = os.fsync, os.environ.get("DIE_SAVING")
def fsync(descriptor):
    sync(descriptor)
    path = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
    if name and (path == name or path.startswith(f".{name}.")):
        os.killpg(int(os.environ["DIE_GROUP"]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
"""


def start(folder, saving=""):
    (folder / "data").mkdir(parents=True, exist_ok=True)  # where images are cached, if it is there
    path = os.pathsep.join([str(folder.parent / "site"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "attn_book",
            "reproduce",
            "sge",
            "--profile",
            "smoke",
            "--epochs",
            "6",
            "--jobs",
            "2",
            "--data-dir",
            str(folder / "data"),
            "--results-dir",
            str(folder / "results"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, "DIE_SAVING": saving},
    )


def finish(folder):
    process = start(folder)
    output, _ = process.communicate(timeout=3600)
    assert process.returncode == 0, output
    return output


def runs(folder):
    return {path.name: Run(path) for path in (folder / "results/smoke/runs").glob("*/")}


def moment(folder):
    """What the command was about when it was killed, from what it left."""
    if list(folder.glob("data/.cache/.*.tmp")):
        return "caching"
    found = runs(folder).values()
    if not found or not all(run.status == "finished" for run in found):
        return "training"
    if (folder / "results/smoke/notebooks/04_sge.ipynb").exists():
        return "writing the summary"
    return "executing a notebook"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the command makes when nothing happens to it, and how long that takes."""
    folder = tmp_path_factory.mktemp("kill")
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SITECUSTOMIZE)
    begun = time.monotonic()
    finish(folder / "whole")
    return folder / "whole", time.monotonic() - begun


@pytest.mark.long
def test_killed_while_files_are_written(whole):
    whole, _ = whole
    killed, finished = whole.with_name("aimed"), {}
    for name in SAVING:
        process = start(killed, saving=name)
        output, _ = process.communicate(timeout=3600)
        print(f"while {name} was written: {moment(killed)}")
        assert process.returncode == -signal.SIGKILL, output
        note_finished(killed, finished)
    print(finish(killed))
    assert_same(whole, killed, finished)


@pytest.mark.long
def test_killed_at_random_moments(whole):
    whole, duration = whole
    chance, kills, rounds = random.Random(0), 0, 0
    while kills < BY_CHANCE:
        rounds += 1
        killed, finished = whole.with_name(f"chance{rounds}"), {}
        begun = time.monotonic()
        while kills < BY_CHANCE:
            process = start(killed)
            try:  # each goes on where the one before was; together they last longer than the whole
                output, _ = process.communicate(timeout=chance.uniform(0, duration / 3))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                print(f"kill {kills}: {moment(killed)}")
                note_finished(killed, finished)
            else:
                assert process.returncode == 0, output
                duration = min(duration, time.monotonic() - begun)  # the machine is less busy now
                break
        print(finish(killed))
        assert_same(whole, killed, finished)


def note_finished(folder, finished):
    """Remember when each run was finished: one that once was is never made again."""
    for name, run in runs(folder).items():
        if run.status == "finished":
            changed = (run.folder / "metrics.json").stat().st_mtime_ns
            assert finished.setdefault(name, changed) == changed


def assert_same(whole, killed, finished):
    """Nothing is lost, made twice, left behind, or other by a single bit."""
    note_finished(killed, finished)
    expected, found = runs(whole), runs(killed)
    assert expected.keys() == found.keys()
    for name, run in expected.items():
        again = found[name]
        timing = ("seconds", "images_per_second", "peak_memory_mb", "finished")
        for key, value in run.metrics.items():
            assert key in timing or again.metrics[key] == value, key
        for column in HISTORY_COLUMNS[:-1]:
            np.testing.assert_array_equal(run.history[column], again.history[column])
        for which in ("best", "last"):
            tensors = load_tensors(run.folder / f"{which}.safetensors")[0]
            others = load_tensors(again.folder / f"{which}.safetensors")[0]
            assert tensors.keys() == others.keys()
            for key, array in tensors.items():
                np.testing.assert_array_equal(array, others[key], err_msg=key)
    for table in ("summary.csv", "verdicts.csv"):
        assert (killed / "results/smoke" / table).exists()
    page = nbformat.read(killed / "results/smoke/notebooks/04_sge.ipynb", as_version=4)
    assert all(cell.execution_count for cell in page.cells if cell.cell_type == "code")
    left = [p for p in killed.rglob(".*") if p.suffix in (".tmp", ".ipynb")]
    assert not left
