"""Servers listen on this machine alone, unless the command line says otherwise."""

import os
import subprocess

import pytest

from attn_blocks.files import PROJECT


def command(target, *settings):
    """What ``make`` would run, with a HOST in the environment as some shells put it there."""
    answer = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target, *settings],
        cwd=PROJECT,
        env=os.environ | {"HOST": "build.example.org"},
        capture_output=True,
        text=True,
        check=True,
    )
    return next(
        line
        for line in answer.stdout.splitlines()
        if "http.server" in line or "jupyter lab" in line or "/visualdl" in line
    )


OPTION = {"serve": "--bind", "lab": "--ip", "visualdl": "--host"}


@pytest.mark.parametrize("target", OPTION)
def test_they_listen_on_this_machine_alone(target):
    assert f"{OPTION[target]} 127.0.0.1 " in command(target)


@pytest.mark.parametrize("target", OPTION)
def test_they_can_be_told_otherwise(target):
    assert f"{OPTION[target]} 0.0.0.0 " in command(target, "HOST=0.0.0.0")
