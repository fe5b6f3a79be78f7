"""The build of Paddle follows the GPU and its driver, in Makefile, environment.yml and advice."""

import os
import platform
import re
import subprocess
import sys

import pytest

from attn_blocks import gpu
from attn_blocks.files import PROJECT

VERSION = re.search(r"^paddlepaddle==(.+)$", (PROJECT / "constraints.txt").read_text(), re.M)[1]


@pytest.mark.parametrize(
    ("line", "build", "reason"),
    [
        (
            "NVIDIA GeForce GTX 980 Ti, 550.163.01, 5.2",
            "cpu",
            "no build of Paddle has code for .*5.2",
        ),
        ("Tesla P100-PCIE-16GB, 535.104.05, 6.0", "cu118", "P100.* is here"),
        ("NVIDIA GeForce GTX 1080, 580.65.06, 6.1", "cu118", "1080.* is here"),
        ("Tesla V100-SXM2-16GB, 550.54.14, 7.0", "cu126", "V100"),
        ("NVIDIA A100-SXM4-40GB, 525.60.13, 8.0", "cu126", "A100"),
        ("NVIDIA A100-SXM4-40GB, 520.61.05, 8.0", "cu118", "A100"),  # the driver runs no CUDA 12
        ("NVIDIA GeForce RTX 4090, 560.35.03, 8.9", "cu126", "4090"),
        ("NVIDIA H100 80GB HBM3, 535.104.05, 9.0", "cu126", "H100"),
        ("NVIDIA H100 80GB HBM3, 520.61.05, 9.0", "cpu", "needs the driver 525.60.13 or newer"),
        ("NVIDIA B200, 570.86.15, 10.0", "cu129", "B200"),
        ("NVIDIA GeForce RTX 5090, 570.133.07, 12.0", "cu129", "5090"),
        ("NVIDIA GeForce RTX 5090, 565.57.01, 12.0", "cpu", "needs the driver 570.26 or newer"),
        ("Some GPU of 2030, 700.1, 14.0", "cpu", "no build of Paddle has code for .*14.0"),
        # A driver from before compute_cap.
        ("Tesla T4, 470.182.03", "cu118", r"Tesla T4 \(driver 470.182.03\) is here"),
        ("Tesla T4, 440.33.01", "cpu", "needs the driver 450.80.02 or newer"),
    ],
)
def test_capability_and_driver_decide(line, build, reason):
    chosen, why = gpu.choose([gpu.parse(line)], "x86_64")
    assert chosen == build
    assert re.search(reason, why)


def test_the_most_capable_gpu_decides():
    lines = ["Tesla P4, 570.133.07, 6.1", "NVIDIA A10, 570.133.07, 8.6"]
    assert gpu.choose([gpu.parse(line) for line in lines], "x86_64")[0] == "cu126"


def test_without_a_gpu_or_a_build_for_the_processor_it_is_the_cpu_build():
    assert gpu.choose([], "x86_64") == ("cpu", "no NVIDIA driver answers here")
    build, reason = gpu.choose([gpu.parse("NVIDIA GH200 480GB, 560.35.03, 9.0")], "aarch64")
    assert build == "cpu"
    assert "no GPU build for aarch64" in reason


def test_what_is_no_gpu_is_not_taken_for_one():
    failed = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    assert gpu.parse(failed) is gpu.parse("") is gpu.parse("No devices were found") is None


def test_code_runs_on_its_own_major_version_from_its_minor_on():
    assert gpu.has_code((8, 9), [70, 80, 86])
    assert gpu.has_code((12, 1), [90, 120])
    assert not gpu.has_code((6, 0), [61, 70])
    assert not gpu.has_code((9, 0), [70, 80, 86])
    assert not gpu.has_code((12, 0), [90, 100])


# Without what `make test PADDLE=cpu` hands on to the makes that it starts.
OWN = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


def smi(folder, fields):
    """An environment with an ``nvidia-smi`` that knows some fields: {field list: its answer}."""
    cases = "\n".join(f'--query-gpu={names}) echo "{line}" ;;' for names, line in fields.items())
    script = folder / "nvidia-smi"
    script.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\n*) exit 2 ;;\nesac\n')
    script.chmod(0o755)
    return OWN | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


ALL, OLD = "name,driver_version,compute_cap", "name,driver_version"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there are no GPU builds for it")
@pytest.mark.parametrize(
    ("fields", "build"),
    [
        ({ALL: "NVIDIA GeForce RTX 5090, 575.64, 12.0"}, "cu129"),
        ({OLD: "Tesla T4, 470.182.03"}, "cu118"),
        ({}, "cpu"),
    ],
)
def test_make_asks_the_driver_before_there_is_an_environment(tmp_path, fields, build):
    environment = smi(tmp_path, fields)
    command = [
        "make",
        "--dry-run",
        "setup",
        f"VENV={tmp_path / 'venv'}",
        f"PYTHON={sys.executable}",
    ]
    made = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"with Paddle's {build} build because " in made
    assert (f"/stable/{build}/ paddlepaddle-gpu" in made) == (build != "cpu")
    assert (f"paddlepaddle-gpu=={VERSION}" in made) == (build != "cpu")


def make_setup(tmp_path, *settings):
    command = [
        "make",
        "--dry-run",
        "setup",
        f"VENV={tmp_path}",
        f"PYTHON={sys.executable}",
        *settings,
    ]
    return subprocess.run(command, cwd=PROJECT, env=OWN, capture_output=True, text=True)


def test_a_set_up_that_was_broken_off_is_not_mixed_with_another_build(tmp_path):
    assert "pip uninstall" not in make_setup(tmp_path, "PADDLE=cu126").stdout
    (tmp_path / ".begun-cu126").touch()
    assert "pip uninstall" not in make_setup(tmp_path, "PADDLE=cu126").stdout
    again = make_setup(tmp_path, "PADDLE=cpu").stdout
    assert again.index("pip uninstall") < again.index("pip install")


def test_an_environment_works_in_its_own_folder_alone(tmp_path):
    (tmp_path / ".ready-cpu").write_text(f"{PROJECT}\n")
    assert make_setup(tmp_path).returncode == 0
    (tmp_path / ".ready-cpu").write_text("/elsewhere\n")
    moved = make_setup(tmp_path)
    assert moved.returncode != 0
    assert f"{tmp_path} was made in /elsewhere and works only there; here: rm -rf" in moved.stderr


def test_an_environment_keeps_its_build_and_changes_it_when_told_to(tmp_path):
    (tmp_path / ".ready-cu118").touch()
    os.utime(tmp_path / ".ready-cu118", (2**32, 2**32))  # newer than all that it depends on
    assert "pip install" not in make_setup(tmp_path).stdout
    changed = make_setup(tmp_path, "PADDLE=cu126").stdout
    # The version is the same, so that pip would leave the other build where it is.
    assert changed.index("pip uninstall") < changed.index("paddlepaddle-gpu==")
    assert (
        "PADDLE is gpu; choose cpu, cu118, cu126 or cu129"
        in make_setup(tmp_path, "PADDLE=gpu").stderr
    )


def test_an_index_out_of_reach_is_said_in_one_sentence(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\ncase "$*" in "-m pip index"*) exit 1 ;; esac\n')
    python.chmod(0o755)
    command = ["make", "setup", f"VENV={tmp_path}", "PADDLE=cu126"]
    answer = subprocess.run(command, cwd=PROJECT, env=OWN, capture_output=True, text=True)
    assert answer.returncode != 0
    [line] = [line for line in answer.stdout.splitlines() if "cannot be reached" in line]
    assert "make setup PADDLE=cpu" in line
    assert not (tmp_path / ".ready-cu126").exists()


def test_conda_and_the_texts_follow_the_same_table():
    conda = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    assert f"- paddlepaddle-gpu=={VERSION}\n" in conda
    assert f"- --extra-index-url {gpu.INDEX}cu126/\n" in conda
    launch = (PROJECT / "book" / "launch.md").read_text(encoding="utf-8")
    assert f"paddlepaddle-gpu=={VERSION} --extra-index-url {gpu.INDEX}cu126/\n" in launch
    assert f"GPU_INDEX ?= {gpu.INDEX}$(PADDLE)/" in (PROJECT / "Makefile").read_text()
    readmes = [(PROJECT / f"README{of}.md").read_text(encoding="utf-8") for of in ("", ".zh")]
    assert all(f"Paddle {VERSION}" in readme for readme in readmes)
    for build in gpu.BUILDS:
        row = r"{} \W*{}\.{} .*{}".format(build.name, *build.least, re.escape(build.driver))
        for text in (conda, *readmes):
            assert re.search(row, text.replace("`", "").replace("|", "")), row
