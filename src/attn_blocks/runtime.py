"""Device, threads and seeds: what a run computes on, decided in one place.

``configure()`` runs when ``attn_blocks`` is imported and must come before Paddle: the OpenMP and
MKL libraries inside Paddle's wheel read their environment variables once, when they are loaded.

=========================  ====================================================================
``OMP_NUM_THREADS``        the processor's cores; the wheel alone would use a single thread
``MKL_DEBUG_CPU_TYPE``     on AMD processors only: 7 with AVX-512, 5 with AVX2. The MKL inside the
                           wheel otherwise takes its slowest code path on a processor that is not
                           Intel's, whatever that processor can do
``GLOG_minloglevel``       2, errors only: Paddle's notes on its own inner workings are left out
=========================  ====================================================================

A variable that is already set is left alone. On Linux the C library is also told to keep memory
that is freed: a training step frees and takes back the same large buffers, and would otherwise
spend a good part of its time in the kernel's page faults. ``ATTN_BLOCKS_TUNE=0`` switches all of
it off.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import platform
import random
import sys
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from attn_blocks.errors import SettingError

AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
AVX2 = {"avx2", "fma"}


def processor(cpuinfo: str | None = None) -> dict[str, object]:
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


def tuned_environment(cpu: Mapping[str, object], available_cores: int) -> dict[str, str]:
    """The environment variables that make Paddle fast on this processor."""
    settings = {"OMP_NUM_THREADS": str(available_cores), "GLOG_minloglevel": "2"}
    if cpu["vendor"] in ("AuthenticAMD", "HygonGenuine"):
        if cpu["flags"] >= AVX512:
            settings["MKL_DEBUG_CPU_TYPE"] = "7"
        elif cpu["flags"] >= AVX2:
            settings["MKL_DEBUG_CPU_TYPE"] = "5"
    return settings


def configure(environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Set what ``tuned_environment`` says where the user has not; return what was set."""
    if environment.get("ATTN_BLOCKS_TUNE", "1") == "0":
        return {}
    missing = {
        name: value
        for name, value in tuned_environment(processor(), cores()).items()
        if name not in environment
    }
    if missing and "paddle" in sys.modules:
        warnings.warn(
            "attn_blocks was imported after paddle, too late to set "
            f"{' '.join(f'{k}={v}' for k, v in missing.items())}; import attn_blocks first, "
            "training on the CPU is several times faster then",
            stacklevel=3,
        )
        return {}
    environment.update(missing)
    _keep_freed_memory()
    return missing


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
    words = io.StringIO()
    # Every batch norm says this in training, about a rule that has been Paddle's for years.
    warnings.filterwarnings("ignore", message="When training, we now always track")
    with warnings.catch_warnings(), contextlib.redirect_stderr(words):
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    # Its handler prints a C++ stack for every ended process; Python's own way is quieter.
    paddle.disable_signal_handler()
    for line in words.getvalue().splitlines():
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)


def has_gpu() -> bool:
    """Whether this Paddle is a GPU build and sees a GPU."""
    import paddle

    return paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0


def select_device(name: str | None = None) -> str:
    """Make ``name`` Paddle's device and return it.

    Args:
        name: ``"cpu"``, ``"gpu"``, ``"gpu:1"`` ..., or None for a GPU where there is one.

    Raises:
        SettingError: a GPU is asked for and there is none, or the name is not a device.
    """
    import paddle

    name = name or ("gpu" if has_gpu() else "cpu")
    if name.split(":")[0] not in ("cpu", "gpu"):
        raise SettingError(f"unknown device {name!r}; choose cpu, gpu or gpu:<number>")
    if name.startswith("gpu") and not has_gpu():
        raise SettingError(
            f"device {name!r} asked for, but this Paddle sees no GPU; choose device='cpu', or "
            "install paddlepaddle-gpu as environment.yml says"
        )
    paddle.set_device(name)
    return name


def describe_device(device: str) -> dict[str, object]:
    """What a result was computed on: device, its name, threads and code path."""
    import paddle

    description: dict[str, object] = {
        "device": device,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        "mkl_debug_cpu_type": os.environ.get("MKL_DEBUG_CPU_TYPE"),
        "processor": processor()["name"],
    }
    if device.startswith("gpu"):
        description["gpu"] = paddle.device.cuda.get_device_name()
    return description


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and Paddle, and make cuDNN choose deterministic kernels."""
    import numpy as np
    import paddle

    random.seed(seed)
    np.random.seed(seed % 2**32)
    paddle.seed(seed)
    if paddle.is_compiled_with_cuda():
        paddle.set_flags({"FLAGS_cudnn_deterministic": True})
