"""``attn-book doctor``: what this machine has, what is wrong with it, and the line that fixes it.

It runs where Paddle is missing or broken as well: what needs Paddle is imported where it is used.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import attn_blocks
from attn_blocks import datasets, device, gpu
from attn_blocks.errors import DataError
from attn_blocks.files import PROJECT, command_line, in_checkout

PYTHONS = ((3, 10), (3, 13))  # oldest and newest
PLATFORMS = {("Linux", "x86_64"), ("Darwin", "arm64")}
LEAST_FREE = 2e9  # bytes; a few runs at full size with their weights
# Tsinghua University's mirror of PyPI, for readers in mainland China to whom pypi.org is slow. It
# is named and never set: https://mirrors.tuna.tsinghua.edu.cn/help/pypi/.
MIRROR = "https://pypi.tuna.tsinghua.edu.cn/simple"


@dataclass(frozen=True)
class Finding:
    """A line of the report: what was looked at and found, and if need be what is wrong with it."""

    name: str
    value: str
    problem: str = ""
    fix: str = ""


def examine(
    data_dir: str | Path | None = None, results_dir: str | Path | None = None
) -> tuple[list[Finding], bool]:
    """Look at everything that decides whether, and how fast, the book runs here.

    Args:
        data_dir: see ``datasets.data_folder``.
        results_dir: see ``study.plan.results_folder``.

    Returns:
        The findings, and whether Paddle can be used.
    """
    paddle, usable = _paddle()
    findings = [_machine(), _python(), _package(), paddle]
    if usable:
        findings += [_gpu(), _threads(), _native()]
    findings += [*_indexes(), _data(data_dir), *_disks(data_dir, results_dir)]
    return findings, usable


def report(findings: Iterable[Finding]) -> str:
    """The findings as text: a table, then each problem with the line that fixes it."""
    findings = list(findings)
    width = max(len(finding.name) for finding in findings)
    lines = [f"{finding.name:{width}}  {finding.value}" for finding in findings]
    wrong = [finding for finding in findings if finding.problem]
    lines += ["", f"{len(wrong)} problem{'s' * (len(wrong) != 1)}{':' if wrong else ''}"]
    for finding in wrong:
        lines += [f"  {finding.name}: {finding.problem}", f"    -> {finding.fix}"]
    return "\n".join(lines)


def _machine() -> Finding:
    system, machine = platform.system(), platform.machine()
    wsl = " (WSL2)" if "microsoft" in platform.release().lower() else ""
    cores = device.cores()
    value = f"{system}{wsl} {machine}, {device.processor()['name']}, {cores} cores"
    if (system, machine) in PLATFORMS:
        return Finding("Machine", value)
    return Finding(
        "Machine",
        value,
        f"Paddle is not built for {system} on {machine}",
        "take Linux on x86-64 (on Windows: wsl --install) or a Mac with Apple silicon",
    )


def _python() -> Finding:
    value = f"{platform.python_version()}, {sys.executable}"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", value)
    fix = (
        "rm -rf .venv && make setup PYTHON=/path/to/python3.12"
        if in_checkout()
        else "/path/to/python3.12 -m pip install 'attn-blocks[cpu,book]'"
    )
    return Finding("Python", value, "Python 3.10 to 3.13 is needed", fix)


def _package() -> Finding:
    where = (
        f"in the checkout {PROJECT}"
        if in_checkout()
        else "installed; reproduce, publish and verify-published need a checkout with the notebooks"
    )
    return Finding("attn-blocks", f"{attn_blocks.__version__}, {where}")


def _paddle() -> tuple[Finding, bool]:
    """What there is of Paddle, and whether it can be used."""
    names = [
        name for name in ("paddlepaddle", "paddlepaddle-gpu") if device.installed_version(name)
    ]
    again = (
        "rm -rf .venv && make setup"
        if in_checkout()
        else "pip uninstall --yes paddlepaddle paddlepaddle-gpu && pip install 'attn-blocks[cpu]'"
    )
    try:
        import paddle

        # On the processor: a GPU that cannot be used is another finding.
        paddle.to_tensor([1, 1], place=paddle.CPUPlace()).sum().numpy()
    except Exception as error:  # whatever a library raises that is missing, damaged or too new
        what = f"cannot be used: {error}" if names else "is not installed"
        return Finding("Paddle", "none that works", f"Paddle {what}", again), False
    value = f"{paddle.__version__}, the CPU build"
    if paddle.is_compiled_with_cuda():
        known = ", ".join("{}.{}".format(*divmod(arch, 10)) for arch in device.compiled_for())
        value = f"{paddle.__version__}, the GPU build for CUDA {paddle.version.cuda()}"
        value += f" and compute capability {known}" if known else ""
    problem = ""
    if len(names) > 1:
        problem = "paddlepaddle and paddlepaddle-gpu are both installed and overwrite each other"
    return Finding("Paddle", value, problem, again if problem else ""), True


def _gpu() -> Finding:
    import paddle

    value = "; ".join(map(str, gpu.installed()))
    if not value:
        count = device.gpu_count()
        value = f"{count} that Paddle sees" if count else "none: no NVIDIA driver answers"
    if device.has_gpu():
        value += "; this Paddle has code for it"
    problem, fix = device.gpu_diagnosis()
    if not problem and paddle.is_compiled_with_cuda() and not device.gpu_count():
        problem = (
            "the GPU build of Paddle computes on the processor here, slower than the CPU build"
        )
        fix = device.install_line(gpu.CPU)
    return Finding("GPU", value, problem, fix)


def _threads() -> Finding:
    threads, cores = os.environ.get("OMP_NUM_THREADS", "1"), device.cores()
    value = f"{threads} of {cores} cores"
    if threads == "1" and cores > 1:
        problem = "Paddle computes on a single core"
        return Finding("Threads", value, problem, "unset OMP_NUM_THREADS ATTN_BLOCKS_TUNE")
    return Finding("Threads", value)


def _native() -> Finding:
    from attn_blocks import native
    from attn_blocks.native import library

    state = native.describe()
    if state["enabled"]:
        value = f"ready: {state['library']}, {state['maths']}, {library.instruction_set()}"
        return Finding("Native operators", value)
    reason = str(state["reason"])
    value = f"not used: {reason}"
    if "compiler" in reason:
        return Finding(
            "Native operators",
            value,
            "training on the processor is several times slower without a C++ compiler",
            "apt install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora)",
        )
    if "headers" in reason:
        problem, _, fix = reason.partition("; ")
        return Finding("Native operators", value, problem, fix)
    if "cannot be compiled" in reason or "failed" in reason:
        problem = "training on the processor is several times slower without them"
        fix = reason.partition("; ")[2] or "try another compiler: export CXX=clang++"
        return Finding("Native operators", value, problem, fix)
    return Finding("Native operators", value)


def _indexes() -> list[Finding]:
    """Where packages come from, and the lines that choose another place."""
    chosen = "PIP_INDEX_URL names" if os.environ.get("PIP_INDEX_URL") else "pip is set to"
    packages = f"the index that {chosen}; in mainland China also: export PIP_INDEX_URL={MIRROR}"
    install = "make setup GPU_INDEX" if in_checkout() else "pip install --extra-index-url"
    builds = f"Paddle's own index in mainland China, {gpu.INDEX}; another: {install}=https://..."
    return [Finding("Packages from", packages), Finding("GPU builds from", builds)]


def _data(data_dir: str | Path | None) -> Finding:
    try:
        rows = datasets.status(data_dir)
    except DataError as error:
        again = "make doctor" if in_checkout() else f"{command_line()} doctor"
        fix = f"{again} {_naming('DATA', '/path/to/the/images')}"
        return Finding("Data sets", "none can be read", str(error), fix)
    shown = [
        f"{row.name} {row.classes}/{row.class_total} classes"
        if row.found
        else f"{row.name} missing"
        for row in rows
    ]
    more = "" if all(row.found for row in rows) else "; attn-book data says how to get the others"
    return Finding("Data sets", ", ".join(shown) + more)


def _naming(variable: str, path: str) -> str:
    """What names a folder in a command: a setting of make, or an option where there is no make."""
    return f"{variable}={path}" if in_checkout() else f"--{variable.lower()}-dir {path}"


def _disks(data_dir: str | Path | None, results_dir: str | Path | None) -> list[Finding]:
    from attn_book.study.plan import results_folder

    folders = {"RESULTS": results_folder(results_dir), "DATA": datasets.data_folder(data_dir)}
    return [_disk(variable, folder) for variable, folder in folders.items()]


def _disk(variable: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    problem = fix = ""
    other = f"name another folder: {_naming(variable, '/path')}"
    if not os.access(there, os.W_OK):
        problem, fix = f"{there} cannot be written", f"change who may write there, or {other}"
    elif free < LEAST_FREE:
        problem = f"{free / 1e9:.1f} GB are little for the weights of many runs"
        fix = f"make room, or {other}"
    return Finding(f"Free for {variable.lower()}", f"{free / 1e9:.1f} GB, {folder}", problem, fix)
