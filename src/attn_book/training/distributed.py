"""Inside several processes that train one run together."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer

from attn_blocks.errors import SettingError, TrainingError
from attn_blocks.files import folder_lock

POLL_SECONDS = 2.0


class Group:
    """The processes that train one run together; by itself, a single one.

    Args:
        rank, size: this process, counted from 0, and their number.
        local_size: how many of them share this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1) -> None:
        self.rank, self.size, self.local_size = rank, size, local_size
        self.heard = time.monotonic()

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files: only the first one does."""
        return self.rank == 0

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of every process's ``values`` (float64 or int64), the same in all of them."""
        if self.size == 1:
            return values
        tensor = paddle.to_tensor(values)
        dist.all_reduce(tensor)
        total = tensor.numpy()
        self.heard = time.monotonic()
        return total

    def agree(self, answer: bool) -> bool:
        """The first process's answer, in all of them."""
        return bool(self.agreed(int(answer)))

    def agreed(self, number: int) -> int:
        """The first process's number, in all of them."""
        return int(self.total(np.array([number if self.rank == 0 else 0]))[0])

    def check_same(self, number: int, title: str) -> None:
        """Raise TrainingError if ``number`` is not the same in all processes."""
        if self.total(np.array([number]))[0] != self.agreed(number) * self.size:
            raise TrainingError(
                f"{title} is {number} in process {self.rank} and another in others; all machines "
                "need the same results folder, on a disk they share"
            )

    def device(self, name: str | None) -> str | None:
        """The device of this process where the run asks for ``name``: a GPU for each of them."""
        if self.size == 1 or not (name or "").startswith("gpu"):
            return name
        return f"gpu:{dist.ParallelEnv().device_id}"

    def describe(self) -> dict[str, object]:
        """Number of processes and what a batch norm sees, for a run's record."""
        return {
            "processes": self.size,
            "batch_norm": "one process" if self.size == 1 else "synchronised over all processes",
        }

    @property
    def sources(self) -> tuple[str, ...]:
        """The files, beyond every run's, that a run of this group depends on."""
        return () if self.size == 1 else ("parallel.py",)

    def network(self, model: nn.Layer) -> nn.Layer:
        """``model`` with batch norms over the whole batch, and averaged gradients in backward."""
        if self.size == 1:
            return model
        return paddle.DataParallel(synchronise_batch_norms(model))

    @contextmanager
    def hold(self, folder: Path) -> Iterator[None]:
        """``files.hold`` for all of them: the first process holds the folder.

        The others hear from it every few seconds meanwhile, so that a long wait for another run
        does not look like a process that died.
        """
        with ExitStack() as held:
            while not self.agree(
                self.writes and held.enter_context(folder_lock(folder, wait=self.size == 1))
            ):
                time.sleep(POLL_SECONDS)
            yield

    def watch(self, limit: float) -> None:
        """End this process when its launcher is gone or the others are silent for ``limit`` s."""
        launcher = os.getppid()
        self.heard = time.monotonic()

        def look() -> None:
            while True:
                time.sleep(1)
                silent = time.monotonic() - self.heard > limit
                if silent:
                    print(
                        f"error: process {self.rank} heard nothing of the others for {limit:.0f} s "
                        "(ATTN_BLOCKS_TIMEOUT)",
                        file=sys.stderr,
                        flush=True,
                    )
                if silent or os.getppid() != launcher:
                    os._exit(1)  # the main thread may hang in a call that does not end

        threading.Thread(target=look, name="watch", daemon=True).start()


SINGLE_PROCESS = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """The group this process was launched into; ``ALONE`` where it was not.

    Raises:
        TrainingError: another process ended, and with it the connection to it.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) < 2:
        yield SINGLE_PROCESS
        return
    if "ATTN_BLOCKS_MASTER" not in os.environ:
        port = os.environ["PADDLE_MASTER"].rpartition(":")[2]
        os.environ["PADDLE_MASTER"] = f"127.0.0.1:{port}"
    dist.init_parallel_env()
    _remove_copies_of_the_environment(Path(os.environ.get("PADDLE_LOG_DIR", "log")))
    local_size = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    group = Group(dist.get_rank(), dist.get_world_size(), local_size)
    group.watch(_timeout())
    try:
        yield group
    except RuntimeError as error:
        if "gloo" not in str(error) and "nccl" not in str(error).lower():
            raise
        raise TrainingError(
            f"process {group.rank} lost its connection to another one, which ended early; "
            f"the logs of all are in {os.environ.get('PADDLE_LOG_DIR', 'log')}"
        ) from error


def _timeout() -> float:
    value = os.environ.get("ATTN_BLOCKS_TIMEOUT") or "1800"
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise SettingError(f"ATTN_BLOCKS_TIMEOUT is {value!r}; it must be a number of seconds")
    return seconds


def _remove_copies_of_the_environment(log_dir: Path) -> None:
    """The launcher leaves them beside its logs; an environment may hold what is not for others."""
    for pattern in ("envlog.*", "backup_env.*.json", "*.*.log"):
        for path in log_dir.glob(pattern):
            path.unlink(missing_ok=True)


def synchronise_batch_norms(model: nn.Layer) -> nn.Layer:
    """Make every batch norm of ``model`` take its statistics over all processes.

    Names, parameters and running statistics stay the same. Paddle has a layer for GPUs only.
    """
    if paddle.get_device() != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, nn.BatchNorm2D):  # the native one too
            layer.__class__ = SynchronisedBatchNorm2D
    return model


class SynchronisedBatchNorm2D(nn.BatchNorm2D):
    """``nn.BatchNorm2D`` over the batch of all processes, which have equal shares of it."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self._epsilon)
        for running, new in ((self._mean, mean), (self._variance, variance)):
            running.set_value(self._momentum * running + (1 - self._momentum) * new)
        return y


class _Normalise(PyLayer):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, mean and variance over all."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        mean = _mean_of_all(x.mean([0, 2, 3]))
        # Around the common mean: squares of large numbers would cost digits.
        centred = x - _by_channel(mean)
        variance = _mean_of_all(centred.square().mean([0, 2, 3]))
        inverse = (variance + epsilon).rsqrt()
        normal = centred * _by_channel(inverse)
        ctx.save_for_backward(normal, weight, inverse)
        return normal * _by_channel(weight) + _by_channel(bias), mean, variance

    @staticmethod
    def backward(ctx, dy, *_):
        normal, weight, inverse = ctx.saved_tensor()
        along_bias, along_weight = dy.mean([0, 2, 3]), (dy * normal).mean([0, 2, 3])
        of_all = _mean_of_all(paddle.stack([along_bias, along_weight]))
        dx = dy - _by_channel(of_all[0]) - normal * _by_channel(of_all[1])
        count = dy.size // dy.shape[1]
        # Weight and bias get this process's part: their gradients are averaged with all others.
        return dx * _by_channel(weight * inverse), along_weight * count, along_bias * count


def _mean_of_all(values: paddle.Tensor) -> paddle.Tensor:
    dist.all_reduce(values)
    return values / dist.get_world_size()


def _by_channel(values: paddle.Tensor) -> paddle.Tensor:
    return values.reshape([1, -1, 1, 1])
