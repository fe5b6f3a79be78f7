"""Several processes that train one run together; ``launch`` starts them.

Each computes its share of every batch. Gradients are averaged and batch statistics taken over all
of them, so that the numbers are those of one process, to rounding.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn

from attn_blocks.errors import TrainingError
from attn_blocks.files import folder_lock
from attn_book.training.batch_norm import synchronise_batch_norms


@dataclass(frozen=True)
class Group:
    """The processes that train one run together; by default a single one.

    Attributes:
        rank: this process, counted from 0.
        size: how many there are.
        local_size: how many of them share this machine.
        timeout: seconds between two sums after which this process is killed; 0 for no limit.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    timeout: int = 0

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
        # NCCL waits for a lost machine for ever, in a call that no Python code can end.
        signal.alarm(self.timeout)
        return total

    def leave(self) -> None:
        """No sum follows: this process may take its time for what it does alone."""
        if self.size > 1:
            signal.alarm(0)

    def agree(self, answer: bool) -> bool:
        """The first process's ``answer``, returned in all of them."""
        return bool(self.total(np.array([int(answer and self.writes)]))[0])

    def check_same(self, number: int, title: str) -> None:
        """Raise TrainingError, in one process at least, unless ``number`` is the same in all."""
        if self.total(np.array([number]))[0] != number * self.size:
            raise TrainingError(
                f"{title} is {number} in process {self.rank} and another in others; all machines "
                "need the same results folder, on a disk they share"
            )

    @contextmanager
    def lock_folder(self, folder: Path) -> Iterator[None]:
        """``files.folder_lock`` for all of them: the first process holds the lock."""
        with ExitStack() as held:
            # Of several, the first asks repeatedly: the others do not wait for one answer for long.
            while not self.agree(
                self.writes and held.enter_context(folder_lock(folder, wait=self.size == 1))
            ):
                time.sleep(2)
            yield

    def network(self, model: nn.Layer) -> nn.Layer:
        """``model`` with batch norms over the whole batch, and averaged gradients in backward."""
        if self.size == 1:
            return model
        return paddle.DataParallel(synchronise_batch_norms(model))

    def describe(self) -> dict[str, object]:
        """Number of processes and what a batch norm sees, for a run's record."""
        return {
            "processes": self.size,
            "batch_norm": "one process" if self.size == 1 else "synchronised over all processes",
        }


SINGLE_PROCESS = Group()


@contextmanager
def joined(timeout: int) -> Iterator[Group]:
    """The group that this process was launched into; ``timeout`` is the group's.

    Raises:
        TrainingError: another process ended, or (on the CPU) gave no answer for 30 seconds, which
            is a limit of Paddle's.
    """
    dist.init_parallel_env()
    remove_environments(Path(os.environ["PADDLE_LOG_DIR"]))
    local_size = int(os.environ["PADDLE_LOCAL_SIZE"])
    group = Group(dist.get_rank(), dist.get_world_size(), local_size, timeout)
    try:
        yield group
    except (RuntimeError, OSError) as error:
        if "gloo/transport" not in str(error) and "NCCL error" not in str(error):
            raise
        # The launcher polls every second; it should find the process that ended first, not this.
        time.sleep(5)
        raise TrainingError(
            f"process {group.rank} lost its connection to another one, which ended or did not "
            "answer in time"
        ) from error
    finally:
        signal.alarm(0)


def remove_environments(logs: Path) -> None:
    """Remove the launcher's copies of the environment, which may hold secrets."""
    for pattern in ("envlog.*", "backup_env.*.json", "*.*.log"):
        for path in logs.glob(pattern):
            path.unlink(missing_ok=True)
