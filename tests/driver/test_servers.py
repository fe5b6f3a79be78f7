"""What make starts: servers for this machine alone, and settings of its own command line."""

import os
import subprocess

import pytest

from attn_blocks.files import PROJECT

# Without what `make test DATA=...` hands on to the makes that it starts.
OWN = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


def make(*arguments, **environment):
    """What ``make`` prints."""
    answer = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=PROJECT,
        env=OWN | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout


def lines(target, *settings, **environment):
    """What ``make`` would run."""
    said = make("--dry-run", target, *settings, **environment)
    return said.replace("\\\n", "").splitlines()


def command(target, *settings):
    """The server, with a HOST in the environment as some shells put it there."""
    return next(
        line
        for line in lines(target, *settings, HOST="build.example.org")
        if "http.server" in line or "jupyter lab" in line or "/visualdl" in line
    )


OPTION = {"serve": "--bind", "lab": "--ip", "visualdl": "--host"}


@pytest.mark.parametrize("target", OPTION)
def test_they_listen_on_this_machine_alone(target):
    assert f"{OPTION[target]} 127.0.0.1 " in command(target)


@pytest.mark.parametrize("target", OPTION)
def test_they_can_be_told_otherwise(target):
    assert f"{OPTION[target]} 0.0.0.0 " in command(target, "HOST=0.0.0.0")


def test_the_environment_sets_nothing_and_the_command_line_does():
    others = {
        "PROFILE": "default",
        "DATA": "/srv",
        "DEVICE": "sda",
        "PEER": "10.0.0.1",
        "NPROC": "8",
    }
    assert lines("publish", **others)[-1].split()[-3:] == ["-m", "attn_book", "publish"]
    asked = lines("publish", "PROFILE=quick", "DATA=images", **others)[-1]
    assert asked.split()[-4:] == ["--profile", "quick", "--data-dir", '"images"']


def test_settings_of_several_processes_reach_what_make_starts():
    settings = {"DEVICES": "0,1", "NPROC": "2", "NNODES": "3", "MASTER": "10.0.0.1:8090"}
    given = [f"{name}={value}" for name, value in settings.items()]
    show = ["--eval", "shown: ; @env", "shown"]
    for asked in (given, []):
        said = make(*show, *asked, NPROC="8").splitlines()
        found = dict(line.split("=", 1) for line in said if line.startswith("ATTN_BLOCKS_"))
        names = {name: found.get(f"ATTN_BLOCKS_{name}") for name in settings}
        assert names == (settings if asked else dict.fromkeys(settings))


def test_another_build_of_paddle_is_begun_until_the_first_is_gone(tmp_path):
    (tmp_path / ".ready-cpu").touch()
    settings = [f"VENV={tmp_path}", "PADDLE=cu126"]
    (line,) = [line for line in lines("setup", *settings) if "uninstall" in line]
    moved, removed, forgotten = line.split("&&")
    assert moved.split() == ["mv", f"{tmp_path}/.ready-cpu", f"{tmp_path}/.begun-cpu"]
    assert "uninstall" in removed and forgotten.split() == ["rm", "-f", f"{tmp_path}/.begun-*"]
