"""Device, threads and seeds: what a run computes on, decided in one place.

``configure()`` runs when ``attn_blocks`` is imported and must come before Paddle: the OpenMP and
MKL libraries inside Paddle's wheel read their environment variables once, when they are loaded.

=========================  ====================================================================
``OMP_NUM_THREADS``        the processor's cores; the wheel alone would use a single thread
``MKL_DEBUG_CPU_TYPE``     on AMD processors only: 7 with AVX-512, 5 with AVX2. The MKL inside the
                           wheel otherwise takes its slowest code path on a processor that is not
                           Intel's, whatever that processor can do
``GLIBC_TUNABLES``         on Linux ``glibc.malloc.hugetlb=1``: large buffers lie on large pages of
                           memory, where they are read several per cent faster. It works in
                           processes that start after it is set: a driver's workers and notebooks
``GLOG_minloglevel``       2, errors only: Paddle's notes on its own inner workings are left out
=========================  ====================================================================

A variable that is already set is left alone. On Linux the C library is also told to keep memory
that is freed: a training step frees and takes back the same large buffers, and would otherwise
spend a good part of its time in the kernel's page faults. ``ATTN_BLOCKS_TUNE=0`` switches all of
it off.

``compute()`` decides how a run computes, once, from the device and these variables. What it decides
stands in the run's ``experiment.json``; a setting that the device cannot follow is an error.

================================  =============================================================
``ATTN_BLOCKS_AMP``               mixed precision (level O1): ``bfloat16``, ``float16`` (with loss
                                  scaling) or ``0`` for float32. Default: on a GPU the first that
                                  it supports (compute capability 8.0 or 7.0), on the CPU float32
``ATTN_BLOCKS_DETERMINISTIC=0``   cuDNN may time its algorithms and take the fastest; a run then
                                  does not repeat, nor resume, to the very same numbers
``ATTN_BLOCKS_CHANNELS_LAST=1``   on a GPU with mixed precision: Paddle's own layout tuning keeps
                                  maps channels-last between convolutions. Off by default: it
                                  works below the attention blocks, which speak channels-first,
                                  so compare a short run with and without it first
``ATTN_BLOCKS_TO_STATIC=1``       trains through ``paddle.jit.to_static`` in place of eager mode,
                                  in one process only
================================  =============================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import platform
import random
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attn_blocks.errors import SettingError, TrainingError

if TYPE_CHECKING:
    import numpy as np
    import paddle

AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
AVX2 = {"avx2", "fma"}
# The lowest compute capability of a GPU that multiplies in a type at full speed, best type first.
PRECISIONS = {"bfloat16": (8, 0), "float16": (7, 0)}


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
    if sys.platform == "linux":
        settings["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
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
    late = "paddle" in sys.modules
    tuned = tuned_environment(processor(), cores())
    missing = {name: value for name, value in tuned.items() if name not in environment}
    # Paddle sets its own default of a single thread; who asked for that, cannot be seen any more.
    if late and environment.get("OMP_NUM_THREADS") == "1" != tuned["OMP_NUM_THREADS"]:
        missing["OMP_NUM_THREADS"] = tuned["OMP_NUM_THREADS"]
    if missing and late:
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
    # Paddle 2 carries parts of zlib, and a system's zlib that is loaded after it mixes the two up:
    # SciPy then crashes when it is imported. Python's own module loads the system's.
    import zlib  # noqa: F401

    words = io.StringIO()
    # Every batch norm says this in training, about a rule that has been Paddle's for years.
    warnings.filterwarnings("ignore", message="When training, we now always track")
    with warnings.catch_warnings(), contextlib.redirect_stderr(words):
        warnings.filterwarnings("ignore", message="No ccache found")
        # That the GPU build finds no GPU; select_device() says it to those who ask for one.
        warnings.filterwarnings("ignore", message="You are using GPU version Paddle")
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
    if not (isinstance(name, str) and re.fullmatch(r"cpu|gpu(:\d+)?", name)):
        raise SettingError(f"unknown device {name!r}; choose cpu, gpu or gpu:<number>")
    if name.startswith("gpu") and not has_gpu():
        raise SettingError(
            f"device {name!r} asked for, but this Paddle sees no GPU; choose device='cpu', or "
            "install paddlepaddle-gpu as environment.yml says"
        )
    gpus = paddle.device.cuda.device_count()
    if name.startswith("gpu:") and not (name[4:].isdigit() and int(name[4:]) < gpus):
        raise SettingError(f"device {name!r} asked for, and this Paddle sees {gpus} GPUs, from 0")
    paddle.set_device(name)
    return name


@dataclass(frozen=True)
class Compute:
    """How a run computes; ``compute()`` makes these.

    Attributes:
        device: "cpu", "gpu" or "gpu:<number>".
        amp: "bfloat16" or "float16" for mixed precision, None for float32.
        deterministic: whether cuDNN keeps to algorithms that repeat their results.
        channels_last: whether Paddle's layout tuning is on.
        to_static: whether the network is compiled.
        loader_threads: threads that prepare batches.
    """

    device: str = "cpu"
    amp: str | None = None
    deterministic: bool = True
    channels_last: bool = False
    to_static: bool = False
    loader_threads: int = 1

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("gpu")

    def apply(self) -> None:
        """Tell Paddle: the device, cuDNN's ways, the layout."""
        import paddle

        paddle.set_device(self.device)
        if self.on_gpu:
            paddle.set_flags(
                {
                    "FLAGS_cudnn_deterministic": self.deterministic,
                    "FLAGS_cudnn_exhaustive_search": not self.deterministic,
                }
            )
            paddle.incubate.autotune.set_config({"layout": {"enable": self.channels_last}})

    def network(self, model: paddle.nn.Layer) -> paddle.nn.Layer:
        """``model`` as it is trained: compiled, if that is asked for."""
        import paddle

        # Whole, not in parts: Paddle 2.6 does not get through every network in parts.
        return paddle.jit.to_static(model, full_graph=True) if self.to_static else model

    def autocast(self) -> AbstractContextManager:
        """Within it, Paddle picks the type of each operation by its level O1 lists."""
        import paddle

        if self.amp is None:
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level="O1", dtype=self.amp)

    def scaler(self) -> paddle.amp.GradScaler:
        """Loss scaling for float16, whose small gradients would be 0; else it does nothing."""
        import paddle

        if self.amp != "float16":
            return paddle.amp.GradScaler(enable=False)

        class LossScaler(paddle.amp.GradScaler):
            """Paddle's, which would skip steps without end where the loss itself is too large."""

            def update(self) -> None:
                super().update()
                if self.is_enable() and float(self.state_dict()["scale"][0]) < 1:
                    raise TrainingError(
                        "gradients overflow in float16 at every loss scale from 1; lower the "
                        "learning rate, or train with ATTN_BLOCKS_AMP=0"
                    )

        return LossScaler()

    def batches(
        self, arrays: Iterable[tuple[np.ndarray, ...]]
    ) -> Iterator[tuple[paddle.Tensor, ...]]:
        """Batches as tensors on the device; to a GPU they go through pinned memory."""
        import paddle

        for batch in arrays:
            if not self.on_gpu:
                yield tuple(paddle.to_tensor(array) for array in batch)
                continue
            place = paddle.CUDAPinnedPlace()
            # Kept until the next turn: the copy goes on while the processor queues the step.
            pinned = [paddle.to_tensor(array, place=place) for array in batch]
            yield tuple(tensor.cuda(blocking=False) for tensor in pinned)

    def describe(self) -> dict[str, object]:
        """What a result was computed on, for its record: device, precision, threads, code path."""
        import paddle

        description: dict[str, object] = {
            **asdict(self),
            "loss_scaling": self.amp == "float16",
            "pinned_memory": self.on_gpu,
            "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
            "mkl_debug_cpu_type": os.environ.get("MKL_DEBUG_CPU_TYPE"),
            "processor": processor()["name"],
        }
        if self.on_gpu:
            description["gpu"] = paddle.device.cuda.get_device_name()
        return description


def compute(
    device: str | None = None,
    processes: int = 1,
    local_processes: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> Compute:
    """Decide how to compute on ``device`` and tell Paddle.

    Args:
        device: see ``select_device``.
        processes: how many train one run together.
        local_processes: how many of them share this machine's cores.
        environment: where the settings of this module's description are read.

    Raises:
        SettingError: the device is not there, or a setting is not for it.
    """
    import paddle

    device = select_device(device)
    on_gpu = device.startswith("gpu")
    capability = paddle.device.cuda.get_device_capability() if on_gpu else None
    decided = decide(device, capability, environment, cores() // local_processes)
    if decided.to_static and processes > 1:
        raise SettingError("ATTN_BLOCKS_TO_STATIC=1 works with one process only; leave it out")
    decided.apply()
    return decided


def decide(
    device: str,
    capability: tuple[int, int] | None,
    environment: Mapping[str, str],
    available_cores: int = 1,
) -> Compute:
    """How to compute on a device of that compute capability (None: not a GPU)."""
    amp = _precision(environment.get("ATTN_BLOCKS_AMP", ""), capability)
    channels_last = _switch(environment, "ATTN_BLOCKS_CHANNELS_LAST", False)
    if channels_last and amp is None:
        raise SettingError(
            "ATTN_BLOCKS_CHANNELS_LAST=1 needs a GPU and mixed precision; leave it out"
        )
    return Compute(
        device=device,
        amp=amp,
        deterministic=_switch(environment, "ATTN_BLOCKS_DETERMINISTIC", True),
        channels_last=channels_last,
        to_static=_switch(environment, "ATTN_BLOCKS_TO_STATIC", False),
        loader_threads=max(1, min(8, available_cores)),
    )


def _precision(wanted: str, capability: tuple[int, int] | None) -> str | None:
    """The type of mixed precision: the one that is asked for, or by default the best."""
    possible = [name for name, least in PRECISIONS.items() if capability and capability >= least]
    if wanted in ("", "auto"):
        return possible[0] if possible else None
    if wanted in ("0", "float32"):
        return None
    if wanted not in PRECISIONS:
        raise SettingError(f"ATTN_BLOCKS_AMP is {wanted!r}; choose bfloat16, float16 or 0")
    if wanted not in possible:
        has = "the CPU" if capability is None else "a GPU of compute capability {}.{}".format(
            *capability
        )
        raise SettingError(
            f"ATTN_BLOCKS_AMP={wanted} needs a GPU of compute capability "
            f"{PRECISIONS[wanted][0]}.0 or more, and this is {has}; choose "
            f"{' or '.join([*possible, '0'])}"
        )
    return wanted


def _switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    value = environment.get(name, "")
    if value not in ("", "0", "1"):
        raise SettingError(f"{name} is {value!r}; it must be 0 or 1")
    return default if value == "" else value == "1"


def scaler_state(scaler: paddle.amp.GradScaler) -> dict[str, str]:
    """A loss scaler's state as text for a checkpoint's metadata; nothing if it does nothing."""
    state = scaler.state_dict()
    if not state:
        return {}
    return {"scaler": json.dumps({**state, "scale": [float(value) for value in state["scale"]]})}


def restore_scaler(scaler: paddle.amp.GradScaler, metadata: Mapping[str, str]) -> None:
    """Set a loss scaler to what ``scaler_state`` saved, if it did."""
    if scaler.is_enable() and "scaler" in metadata:
        scaler.load_state_dict(json.loads(metadata["scaler"]))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and Paddle, whatever is drawn before the first epoch."""
    import numpy as np
    import paddle

    random.seed(seed)
    np.random.seed(seed % 2**32)
    paddle.seed(seed)


def seed_noise(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed what the network draws in an epoch (dropout), so that a resumed one draws the same.

    Every process draws noise of its own: dropout that is the same in all of them would be less
    random than in one process.
    """
    import paddle

    paddle.seed((seed * 1_000_003 + epoch + 1 + rank * 15_485_863) % 2**31)
