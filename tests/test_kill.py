"""SIGKILL at random moments: what is finished stays, and the end is bit for bit the same."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from attn_blocks.files import load_tensors
from attn_blocks.results import HISTORY_COLUMNS, Run

KILLS = 20


def start(folder):
    return subprocess.Popen(
        [
            sys.executable, "-m", "attn_blocks", "reproduce", "sge", "--profile", "smoke",
            "--epochs", "6", "--jobs", "2",
            "--data-dir", str(folder / "data"), "--results-dir", str(folder / "results"),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(folder):
    process = start(folder)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output


def runs(folder):
    return {path.name: Run(path) for path in (folder / "results/smoke/runs").glob("*/")}


@pytest.mark.long
def test_killed_at_twenty_random_moments(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    finish(whole)
    duration = time.monotonic() - begun

    moments = random.Random(0)
    finished = {}
    for _ in range(KILLS):
        process = start(killed)
        time.sleep(moments.uniform(0, duration))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for name, run in runs(killed).items():
            if run.status == "finished":
                # A run that was once finished is never made again.
                changed = (run.folder / "metrics.json").stat().st_mtime_ns
                assert finished.setdefault(name, changed) == changed
    finish(killed)

    expected, found = runs(whole), runs(killed)
    assert expected.keys() == found.keys()
    for name, run in expected.items():
        for column in HISTORY_COLUMNS[:-1]:
            np.testing.assert_array_equal(run.history[column], found[name].history[column])
        for which in ("best", "last"):
            tensors = load_tensors(run.folder / f"{which}.safetensors")[0]
            again = load_tensors(found[name].folder / f"{which}.safetensors")[0]
            assert tensors.keys() == again.keys()
            for key, array in tensors.items():
                np.testing.assert_array_equal(array, again[key], err_msg=key)
    assert (killed / "results/smoke/notebooks/04_sge.ipynb").exists()
    assert (killed / "results/smoke/summary.csv").exists()


def test_an_interrupted_driver_says_how_to_go_on(tmp_path):
    process = start(tmp_path)
    for _ in range(600):
        if any((tmp_path / "results/smoke/runs").glob("*/history.csv")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does on Ctrl-C: to all of them
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20  # within 5 s on an idle machine
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "of 2 runs are finished" in output
    assert "The same command goes on" in output
    time.sleep(0.5)
    alive = subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, check=False)
    assert not alive.stdout
