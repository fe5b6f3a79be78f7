"""How a run computes: precision, determinism, layout, seeds."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from attn_blocks.device import cores, processor, select_device
from attn_blocks.errors import SettingError, TrainingError

if TYPE_CHECKING:
    import numpy as np
    import paddle


# The lowest compute capability of a GPU that multiplies in a type at full speed, best type first.
PRECISIONS = {"bfloat16": (8, 0), "float16": (7, 0)}


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
        """Configure Paddle: device, cuDNN's algorithms, layout."""
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
            # Kept until the next batch: the copy goes on while the processor queues the step.
            pinned = [paddle.to_tensor(array, place=place) for array in batch]
            yield tuple(tensor.cuda(blocking=False) for tensor in pinned)

    def describe(self) -> dict[str, object]:
        """What a result was computed on, for its record: device, precision, threads, code path."""
        import paddle

        description: dict[str, object] = {
            **asdict(self),
            "loss_scaling": self.amp == "float16",
            "pinned_memory": self.on_gpu,
            "threads": threads_asked() or 1,
            "mkl_debug_cpu_type": os.environ.get("MKL_DEBUG_CPU_TYPE"),
            "processor": processor()["name"],
        }
        if self.on_gpu:
            description["gpu"] = paddle.device.cuda.get_device_name()
        return description


def threads_asked(environment: Mapping[str, str] = os.environ) -> int | None:
    """The threads that ``OMP_NUM_THREADS`` asks for, None where it is not set.

    Raises:
        SettingError: it is no number from 1, nor a list of them, of which the first counts.
    """
    value = environment.get("OMP_NUM_THREADS", "")
    first = value.partition(",")[0].strip()
    if value and not (first.isdecimal() and int(first)):
        raise SettingError(f"OMP_NUM_THREADS is {value!r}; it must be a number from 1")
    return int(first) if value else None


def compute(
    device: str | None = None,
    processes: int = 1,
    local_processes: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> Compute:
    """Decide how to compute on ``device``, and configure Paddle for it.

    Args:
        device: see ``select_device``.
        processes: how many train one run together.
        local_processes: how many of them share this machine's cores.
        environment: where the ``ATTN_BLOCKS_*`` settings are read.

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
        has = (
            "the CPU"
            if capability is None
            else "a GPU of compute capability {}.{}".format(*capability)
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
