"""NVIDIA GPUs: which are here, and which build of Paddle has code for them.

``make setup`` runs this file by itself, before there is a virtual environment, so it imports
nothing but the standard library; ``device`` asks the Paddle that is loaded.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

INDEX = "https://www.paddlepaddle.org.cn/packages/stable/"
CPU = "cpu"


class Gpu(NamedTuple):
    """A GPU as its driver describes it.

    ``capability`` is its compute capability, such as (8, 6), or None where the driver is too old to
    tell; ``driver`` is the driver's version, such as "550.54.14", or "" where it is not known.
    """

    name: str
    capability: tuple[int, int] | None
    driver: str

    def __str__(self) -> str:
        known = ["compute capability {}.{}".format(*self.capability)] if self.capability else []
        known += [f"driver {self.driver}"] if self.driver else []
        return f"{self.name} ({', '.join(known)})"


class Build(NamedTuple):
    """A GPU build of Paddle: the GPUs that it has code for, and the oldest driver that runs it."""

    name: str  # the last part of its index' address
    least: tuple[int, int]
    most: tuple[int, int]
    driver: str


# The builds of Paddle 3.3.1 on its own index, https://www.paddlepaddle.org.cn/install/quick; the
# first that fits is taken.
#
# Compute capability. Code runs on GPUs of its own major version, from its own minor version on, and
# the wheels hold no PTX that a driver could compile for others. RTX 50 (12.0) needs cu129, say
# Paddle's developers (Paddle#76037, asked for in #72810); so do all from 10.0 on. cu130 comes
# without code for 12.0 (#78720) and needs a driver of 580. cu118 has code for 6.0 to 8.6 (#74088),
# and a GTX 1080 (6.1) runs on no newer build (PaddleX#4682). Maxwell (5.x) has none any more.
#
# Driver. Any CUDA 12 runs on the driver 525.60.13 or newer and any CUDA 11 on 450.80.02, says
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, and Paddle's
# cu126 was seen on one for CUDA 12.2 (#78036). GPUs from 10.0 on came with the driver 570.
BUILDS = (
    Build("cu129", (10, 0), (12, 9), "570.26"),
    Build("cu126", (7, 0), (9, 9), "525.60.13"),
    Build("cu118", (6, 0), (8, 9), "450.80.02"),
)


@cache
def installed() -> tuple[Gpu, ...]:
    """The GPUs of this machine, as ``nvidia-smi`` lists them; none where no driver answers."""
    listed = _query("name,driver_version,compute_cap")
    if not listed:  # drivers such as 470 do not know compute_cap
        listed = _query("name,driver_version")
    return tuple(filter(None, map(parse, listed)))


def _query(fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.splitlines()


def parse(line: str) -> Gpu | None:
    """A line of ``nvidia-smi``, such as ``"NVIDIA A100, 550.54.14, 8.0"``; None if it is no GPU."""
    found = re.fullmatch(r"(.+?), *(\d+(?:\.\d+)+)(?:, *(\d+)\.(\d+))?", line.strip())
    if not found:
        return None
    name, driver, major, minor = found.groups()
    capability = (int(major), int(minor)) if major else None
    return Gpu(name, capability, driver)


def choose(gpus: Sequence[Gpu], machine: str = "") -> tuple[str, str]:
    """The build of Paddle for a machine with these GPUs.

    Args:
        gpus: as ``installed`` gives them. Of several the most capable decides.
        machine: the processor's architecture; this machine's by default.

    Returns:
        The name of a GPU build, such as "cu126", or "cpu"; and the reason, as a sentence without
        its full stop.
    """
    if not gpus:
        return CPU, "no NVIDIA driver answers here"
    gpu = max(gpus, key=lambda gpu: gpu.capability or (0, 0))
    machine = machine or platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return CPU, f"{gpu} is here, but Paddle has no GPU build for {machine}"
    # A driver that does not tell is too old for CUDA 12 and for any GPU above 8.6.
    capability = gpu.capability or BUILDS[-1].least
    fitting = [build for build in BUILDS if build.least <= capability <= build.most]
    if not fitting:
        return CPU, f"no build of Paddle has code for {gpu}"
    for build in fitting:
        if not gpu.driver or _numbers(gpu.driver) >= _numbers(build.driver):
            return build.name, f"{gpu} is here"
    oldest = fitting[-1].driver
    return CPU, f"{gpu} is here, but Paddle needs the driver {oldest} or newer for it"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def has_code(capability: tuple[int, int], archs: Iterable[int]) -> bool:
    """Whether a build compiled for ``archs``, such as [61, 70, 86], runs on a GPU."""
    compiled = [divmod(arch, 10) for arch in archs]
    return any(capability[0] == major and capability[1] >= minor for major, minor in compiled)


if __name__ == "__main__":
    print(*choose(installed()))
