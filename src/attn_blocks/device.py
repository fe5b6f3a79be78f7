"""The machine: processor, threads and GPU."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping, MutableMapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from attn_blocks import gpu
from attn_blocks.errors import SettingError

AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
AVX2 = {"avx2", "fma"}


def processor(cpuinfo: str | None = None) -> dict[str, Any]:
    """The processor's ``vendor``, ``name`` and ``flags``, from Linux' ``/proc/cpuinfo``."""
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return {
        "vendor": fields.get("vendor_id", "unknown"),
        "name": fields.get("model name", "unknown"),
        "flags": set(fields.get("flags", "").split()),
    }


def cores() -> int:
    """The number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_version(package: str) -> str:
    """The version of an installed distribution; "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def tuned_environment(cpu: Mapping[str, Any], available_cores: int) -> dict[str, str]:
    """The environment variables that make Paddle fast on this processor."""
    # The GPU build's warnings are shown: they may be about the GPU. The CPU build's are notes on
    # its own operators, which a reader can do nothing about.
    level = "1" if installed_version("paddlepaddle-gpu") else "2"
    settings = {"OMP_NUM_THREADS": str(available_cores), "GLOG_minloglevel": level}
    if sys.platform == "linux":  # read when a process starts: for those that this one starts
        settings["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    if cpu["vendor"] in ("AuthenticAMD", "HygonGenuine"):
        if cpu["flags"] >= AVX512:
            settings["MKL_DEBUG_CPU_TYPE"] = "7"
        elif cpu["flags"] >= AVX2:
            settings["MKL_DEBUG_CPU_TYPE"] = "5"
    return settings


def tune_cpu(environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Make Paddle fast on the CPU (threads, code path, memory); to be called before it is loaded.

    It sets the environment variables of ``tuned_environment``, those that are not set already, and
    tells glibc to keep freed memory. ``ATTN_BLOCKS_TUNE=0`` switches all of that off. Where Paddle
    is loaded already, nothing is set, and a warning says what is missing.

    Returns:
        The variables that were set.
    """
    if environment.get("ATTN_BLOCKS_TUNE", "1") == "0":
        return {}
    late = "paddle" in sys.modules
    tuned = tuned_environment(processor(), cores())
    missing = {name: value for name, value in tuned.items() if name not in environment}
    # Paddle sets its own default of a single thread; who asked for that, cannot be seen any more.
    if late and environment.get("OMP_NUM_THREADS") == "1" != tuned["OMP_NUM_THREADS"]:
        missing["OMP_NUM_THREADS"] = tuned["OMP_NUM_THREADS"]
    if missing and late:
        warnings.warn(
            f"paddle is loaded already, too late to set {_shown(missing)}; call "
            "attn_blocks.tune_cpu(), or import attn_book, before paddle is imported: training on "
            "the CPU is several times faster then",
            stacklevel=2,
        )
        return {}
    environment.update(missing)
    _keep_freed_memory()
    return missing


def _shown(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _keep_freed_memory() -> None:
    """Tell glibc neither to map large buffers one by one nor to give freed memory back."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def import_paddle() -> None:
    """Import Paddle without its advice on what is dealt with here or cannot be helped."""
    # Paddle 2 carries parts of zlib, and a system's zlib that is loaded after it mixes the two up:
    # SciPy then crashes when it is imported. Python's own module loads the system's.
    import zlib  # noqa: F401

    words = io.StringIO()
    # Every batch norm says this in training, about a rule that has been Paddle's for years.
    warnings.filterwarnings("ignore", message="When training, we now always track")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(words):
            warnings.filterwarnings("ignore", message="No ccache found")
            import paddle
    finally:
        for line in words.getvalue().splitlines():
            if "OMP_NUM_THREADS" not in line:
                print(line, file=sys.stderr)
    # Its handler prints a C++ stack for every ended process; Python's own way is quieter.
    paddle.disable_signal_handler()


def gpu_count() -> int:
    """How many GPUs this Paddle sees: none with its CPU build, or without a driver that runs it."""
    import paddle

    if not paddle.is_compiled_with_cuda():
        return 0
    try:
        return paddle.device.cuda.device_count()
    except (OSError, RuntimeError):  # CUDA's own error where the driver is older than the build
        return 0


def has_gpu() -> bool:
    """Whether this Paddle sees a GPU and has code for it."""
    return gpu_count() > 0 and not _lacks_code()


def _lacks_code(number: int = 0) -> str:
    """Why this build cannot compute on a GPU, part of a sentence; "" where it can."""
    import paddle

    capability, archs = paddle.device.cuda.get_device_capability(number), compiled_for()
    if gpu.has_code(capability, archs) if archs else _computes(number):
        return ""
    known = ", ".join("{}.{}".format(*divmod(arch, 10)) for arch in archs)
    return f"this build of Paddle has no code for {_seen(number)}" + (
        f", only for {known}" if known else ""
    )


def _seen(number: int = 0) -> gpu.Gpu:
    """A GPU as Paddle sees it."""
    import paddle

    cuda = paddle.device.cuda
    return gpu.Gpu(cuda.get_device_name(number), cuda.get_device_capability(number), "")


def compiled_for() -> list[int]:
    """What this Paddle has GPU code for, such as [61, 70, 86]; nothing where it does not tell."""
    import paddle

    return list(paddle.version.cuda_archs()) if hasattr(paddle.version, "cuda_archs") else []


@cache
def _computes(number: int) -> bool:
    """Whether a small kernel runs on a GPU: tried in a process of its own, which it may abort."""
    trial = f"import paddle; paddle.set_device('gpu:{number}'); assert paddle.arange(4).sum() == 6"
    command = [sys.executable, "-c", trial]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def gpu_problem(number: int = 0) -> str:
    """Why this Paddle cannot use a GPU that is here, and what to do; "" if it can or none is."""
    return "; ".join(filter(None, gpu_diagnosis(number)))


def gpu_diagnosis(number: int = 0) -> tuple[str, str]:
    """The two parts of ``gpu_problem``: why, and what to do."""
    import paddle

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # on purpose
    if gpu_count():
        problem = _lacks_code(number)
    elif hidden or not gpu.installed():
        problem = ""
    elif paddle.is_compiled_with_cuda():
        problem = f"this Paddle, built for CUDA {paddle.version.cuda()}, finds no GPU it can use"
    else:
        problem = "this is the CPU build of Paddle"
    return (problem, _way_out(number)) if problem else ("", "")


def _way_out(number: int) -> str:
    """What helps where the GPU cannot be used: another build, another driver, or the processor."""
    import paddle

    # A container may lack nvidia-smi and have the GPU all the same.
    build, reason = gpu.choose(gpu.installed() or [_seen(number)])
    if build == gpu.CPU:
        return f"{reason}; to train on the processor, choose device cpu"
    if build == "cu" + str(paddle.version.cuda()).replace(".", ""):  # what is recommended is here
        return "to train on the processor, choose device cpu"
    return f"{reason}: {install_line(build)}"


def install_line(build: str) -> str:
    """The command that installs a build of Paddle: "cpu", or a name of ``gpu.BUILDS``."""
    import paddle

    from attn_blocks.files import in_checkout

    if in_checkout():
        return f"make setup PADDLE={build}"
    package = "paddlepaddle" if build == gpu.CPU else "paddlepaddle-gpu"
    index = "" if build == gpu.CPU else f" --extra-index-url {gpu.INDEX}{build}/"
    return (
        "pip uninstall --yes paddlepaddle paddlepaddle-gpu && "
        f"pip install {package}=={paddle.__version__}{index}"
    )


def select_device(name: str | None = None) -> str:
    """Make ``name`` Paddle's device and return it.

    Args:
        name: ``"cpu"``, ``"gpu"``, ``"gpu:1"`` ..., or None for a GPU where there is one. One that
            Paddle sees and has no code for is left alone, with a warning.

    Raises:
        SettingError: a GPU is asked for that is not there or cannot be used, or the name is not a
            device.
    """
    import paddle

    if name is None:
        name = "gpu" if has_gpu() else "cpu"
        if name == "cpu" and gpu_count():
            warnings.warn(f"computing on the processor: {gpu_problem()}", stacklevel=2)
    if not (isinstance(name, str) and re.fullmatch(r"cpu|gpu(:\d+)?", name)):
        raise SettingError(f"unknown device {name!r}; choose cpu, gpu or gpu:<number>")
    if name.startswith("gpu"):
        number, gpus = int(name[4:] or 0), gpu_count()
        if 0 < gpus <= number:
            raise SettingError(
                f"device {name!r} asked for, and this Paddle sees {gpus} GPUs, from 0"
            )
        if not gpus or _lacks_code(number):
            none = "there is none with a driver that answers; choose device cpu"
            problem = gpu_problem(number) or none
            if not all(map(_lacks_code, range(gpus))):
                raise SettingError(f"device {name!r} asked for, which Paddle cannot use: {problem}")
            raise SettingError(f"device {name!r} asked for, but Paddle can use no GPU: {problem}")
    paddle.set_device(name)
    return name
