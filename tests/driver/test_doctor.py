"""The doctor finds what is wrong with a machine and names the line that fixes it."""

import json
import subprocess
import sys
from collections import namedtuple

import paddle
import pytest

from attn_blocks import device, gpu, native
from attn_blocks.files import PROJECT
from attn_book.driver import cli, doctor

RTX_4090 = "NVIDIA GeForce RTX 4090, 550.54.14, 8.9"
RTX_5090 = "NVIDIA GeForce RTX 5090, 575.64, 12.0"
OLD_DRIVER = "NVIDIA H100 80GB HBM3, 520.61.05, 9.0"
CU126 = [70, 75, 80, 86, 89, 90]


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """The findings by name."""
    monkeypatch.setattr(native, "describe", lambda: {"enabled": False, "reason": "not tried"})

    (tmp_path / "data").mkdir()

    def examine(data_dir=tmp_path / "data"):
        findings, usable = doctor.examine(data_dir, tmp_path / "results")
        assert usable
        return {finding.name: finding for finding in findings}

    return examine


def test_a_data_folder_that_is_not_there_is_a_problem(machine, examined, tmp_path):
    machine([RTX_4090], CU126, [(8, 9)])
    finding = examined(tmp_path / "none")["Data sets"]
    assert f"{tmp_path / 'none'} is no folder" in finding.problem
    assert finding.fix == "make doctor DATA=/path/to/the/images"


def test_a_machine_that_is_well_has_no_problem(machine, examined, monkeypatch):
    machine([RTX_4090], CU126, [(8, 9)])
    monkeypatch.setenv("OMP_NUM_THREADS", str(device.cores()))
    findings = examined()
    assert [finding for finding in findings.values() if finding.problem] == []
    assert "8.9, driver 550.54.14); this Paddle has code for it" in findings["GPU"].value
    assert (
        "GPU build for CUDA 12.6 and compute capability 7.0, 7.5, 8.0" in findings["Paddle"].value
    )
    assert "animals10 missing" in findings["Data sets"].value
    assert "GB, " in findings["Free for results"].value
    assert doctor.report(findings.values()).endswith("\n0 problems")


@pytest.mark.parametrize(
    ("lines", "archs", "seen", "problem", "fix"),
    [
        (["GTX 1080, 535.183.01, 6.1"], CU126, [(6, 1)], "no code for", "make setup PADDLE=cu118"),
        ([RTX_5090], CU126, [(12, 0)], "no code for", "make setup PADDLE=cu129"),
        ([RTX_4090], None, [], "the CPU build", "make setup PADDLE=cu126"),
        ([OLD_DRIVER], CU126, OSError("35"), "finds no GPU", "needs the driver 525.60.13 or newer"),
        ([], CU126, [], "computes on the processor here", "make setup PADDLE=cpu"),
    ],
)
def test_a_gpu_that_is_not_used_is_a_problem_with_its_line(
    machine, examined, lines, archs, seen, problem, fix
):
    machine(lines, archs, seen)
    found = examined()["GPU"]
    assert problem in found.problem
    assert fix in found.fix
    assert f"    -> {found.fix}" in doctor.report([found]).splitlines()


def test_no_gpu_is_no_problem_for_the_cpu_build(machine, examined):
    machine()
    assert examined()["GPU"].problem == ""


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("there is no C++ compiler (g++)", "apt install g++"),
        ("oneDNN's headers are missing; pip install x", "pip install x"),
        ("it is built on Linux only, not on darwin", ""),
    ],
)
def test_native_operators_that_could_be_had_are_a_problem(examined, monkeypatch, reason, fix):
    monkeypatch.setattr(native, "describe", lambda: {"enabled": False, "reason": reason})
    found = examined()["Native operators"]
    assert reason in found.value
    assert found.fix.startswith(fix) and bool(found.problem) == bool(fix)


def test_a_mirror_is_named_with_its_line_and_is_nobodys_default(machine, examined, monkeypatch):
    machine()
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    found = examined()
    packages, builds = found["Packages from"], found["GPU builds from"]
    assert packages.value.startswith("the index that pip is set to")
    assert packages.value.endswith(f": export PIP_INDEX_URL={doctor.MIRROR}")
    assert gpu.INDEX in builds.value and "make setup GPU_INDEX=" in builds.value
    assert packages.problem == builds.problem == ""
    assert "PIP_INDEX_URL" not in doctor.os.environ
    # What is installed from by default names no mirror.
    for name in ("Makefile", "pyproject.toml", "environment.yml", "constraints.txt"):
        assert doctor.MIRROR.split("/")[2] not in (PROJECT / name).read_text(encoding="utf-8")


def test_an_index_that_was_chosen_is_not_shown(examined, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://name:secret@example.org/simple")
    value = examined()["Packages from"].value
    assert value.startswith("the index that PIP_INDEX_URL names") and "secret" not in value


def test_one_thread_a_full_disk_and_a_foreign_machine(examined, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(device, "cores", lambda: 8)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(2e10, 2e10, 5e7))
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    findings = examined()
    assert findings["Threads"].fix.startswith("unset OMP_NUM_THREADS")
    assert findings["Free for data"].fix.endswith("DATA=/path")
    assert findings["Machine"].problem == "Paddle is not built for Linux on aarch64"


def test_both_packages_of_paddle_overwrite_each_other(examined, monkeypatch):
    monkeypatch.setattr(device, "installed_version", lambda package: "3.3.1")
    assert "both installed" in examined()["Paddle"].problem


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ModuleNotFoundError(\"No module named 'paddle'\", name='paddle')", "Paddle"),
        ("raise ImportError('libpaddle.so: undefined symbol')", "undefined symbol"),
        ("", "has no attribute 'to_tensor'"),  # as of an empty folder that was left
    ],
)
def test_without_paddle_it_says_so_and_fails(tmp_path, code, words):
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "__init__.py").write_text(code)
    path = doctor.os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**doctor.os.environ, "PYTHONPATH": path}

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "attn_book", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    answer = command("doctor")
    assert answer.returncode == 1
    assert answer.stderr == ""
    assert "none that works" in answer.stdout
    assert words in answer.stdout.split("problem")[1]
    assert "Python" in answer.stdout and "Data sets" in answer.stdout
    if "ModuleNotFoundError" in code:
        answer = command("predict", "x.png", "--weights", "run")
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr == (
            "error: this command needs paddle, which is not installed; "
            "pip install 'attn-blocks[cpu]'\n"
        )


def test_the_command_prints_the_report(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "describe", lambda: {"enabled": False, "reason": "not tried"})
    folders = ["--data-dir", str(tmp_path), "--results-dir", str(tmp_path)]
    assert cli.main(["doctor", *folders]) == 0
    printed = capsys.readouterr().out
    assert paddle.__version__ in printed
    assert json.dumps(str(tmp_path)).strip('"') in printed
