"""One training in several processes: on several GPUs, processors or machines.

Every process holds the whole network and computes its share of each batch; gradients are averaged
before the optimiser's step, and a batch norm sees the whole batch. The batch stays the recipe's, so
two processes compute what one would, to float32 rounding; only dropout draws other noise. Process
0 alone writes.

A page or a command that trains is not itself one of these processes: ``train.run`` starts them
through ``python -m paddle.distributed.launch`` where these variables ask for it (``make`` and the
command line set them), and each of them calls ``main()`` here.

============================  =================================================================
``ATTN_BLOCKS_NPROC=2``       that many processes on this machine; on a GPU machine one a GPU
``ATTN_BLOCKS_DEVICES=0,1``   one process for each of these GPUs
``ATTN_BLOCKS_NNODES=2``      the run spreads over that many machines; the same command is
                              started on each of them, on one shared results folder
``ATTN_BLOCKS_MASTER``        ``host:port`` where they meet, an address of the first of them
``ATTN_BLOCKS_TIMEOUT=1800``  seconds after which a process that hears nothing of the others ends
============================  =================================================================

Without ``ATTN_BLOCKS_MASTER`` the processes talk over 127.0.0.1. Paddle opens the port at which
they find each other on every address all the same, for as long as a run lasts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer
from tqdm import tqdm

from attn_blocks import datasets, runtime
from attn_blocks.errors import AttnBlocksError, SettingError, TrainingError
from attn_blocks.experiment import Experiment
from attn_blocks.files import hold, read_json, write_json
from attn_blocks.results import Run

POLL_SECONDS = 2.0
LOG = "launch.log"
START = "from attn_blocks import parallel; parallel.main()"


# Inside the processes ----------------------------------------------------------------------------


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
                self.writes and held.enter_context(hold(folder, wait=self.size == 1))
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
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
                if silent or os.getppid() != launcher:
                    os._exit(1)  # the main thread may hang in a call that does not end

        threading.Thread(target=look, name="watch", daemon=True).start()


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """The group this process was launched into; ``ALONE`` where it was not.

    Raises:
        TrainingError: another process ended, and with it the connection to it.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) < 2:
        yield ALONE
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


def main() -> None:
    """Train the experiment of a request file, together with the other processes."""
    request = read_json(sys.argv[1])
    try:
        done = _train(**request)
    except AttnBlocksError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if done.status == "failed" else 0)  # unfinished: the first process still writes


def _train(experiment: Mapping[str, Any], **arguments: Any) -> Run:
    from attn_blocks import train

    with joined() as group:
        return train.run(Experiment.from_dict(experiment), group=group, **arguments)


# Batch norm over all processes -------------------------------------------------------------------


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


# Starting the processes --------------------------------------------------------------------------


@dataclass(frozen=True)
class Processes:
    """How many processes train a run, and where.

    Attributes:
        local: processes on this machine.
        devices: numbers of the GPUs they use, one each; empty for the first ones, or the CPU.
        nodes: machines.
        master: "host:port" where the machines meet.
    """

    local: int = 1
    devices: tuple[str, ...] = ()
    nodes: int = 1
    master: str | None = None

    @property
    def total(self) -> int:
        """All of them together, on all machines."""
        return self.local * self.nodes

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Processes:
        """Read the variables of this module's description; SettingError for what cannot be."""
        listed = environment.get("ATTN_BLOCKS_DEVICES", "").replace(",", " ").split()
        if not all(number.isdigit() for number in listed) or len(set(listed)) < len(listed):
            raise SettingError(
                f"ATTN_BLOCKS_DEVICES is {environment['ATTN_BLOCKS_DEVICES']!r}; it must list "
                "different GPUs by number, such as 0,1"
            )
        local = _count(environment, "ATTN_BLOCKS_NPROC", len(listed) or 1)
        if listed and local != len(listed):
            raise SettingError(
                f"{local} processes for {len(listed)} devices; leave out ATTN_BLOCKS_NPROC, every "
                "device gets one"
            )
        nodes = _count(environment, "ATTN_BLOCKS_NNODES", 1)
        master = environment.get("ATTN_BLOCKS_MASTER") or None
        if nodes > 1 and not (master and re.fullmatch(r"[^:]+:\d+", master)):
            raise SettingError(
                f"{nodes} machines need ATTN_BLOCKS_MASTER=host:port, an address of the first of "
                f"them and a free port; it is {master!r}"
            )
        return cls(local, tuple(listed), nodes, master)

    def check(self, device: str, batch_size: int) -> None:
        """Raise SettingError if they cannot train with that batch size on that device."""
        on_gpu = device.startswith("gpu")
        if self.devices and not on_gpu:
            raise SettingError(
                f"devices {','.join(self.devices)} asked for, but the device is {device}; choose "
                "the number of processes instead (NPROC=)"
            )
        if on_gpu and self.local > paddle.device.cuda.device_count():
            raise SettingError(
                f"{self.local} processes on {paddle.device.cuda.device_count()} GPUs; choose at "
                "most one process a GPU"
            )
        if batch_size % self.total:
            possible = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
            raise SettingError(
                f"a batch of {batch_size} images cannot be shared equally by {self.total} "
                f"processes; choose a number of: {', '.join(map(str, possible))}"
            )


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    if not value.isdigit() or int(value) < 1:
        raise SettingError(f"{name} is {value!r}; it must be a number from 1")
    return int(value)


def log_folder(folder: Path, processes: Processes) -> Path:
    """Where this machine's processes log the run in ``folder``, emptied of earlier logs."""
    logs = folder / "log"
    if processes.nodes > 1:  # the other machines' logs lie there as well, and nothing is removed
        return logs / f"{socket.gethostname()}-{os.getpid()}"
    shutil.rmtree(logs, ignore_errors=True)
    return logs


def command(request: Mapping[str, Any], job: str, logs: Path, processes: Processes) -> list[str]:
    """The command that trains the run named ``job``; writes the request into ``logs``."""
    write_json(logs / "request.json", request)
    options = ["--nproc_per_node", str(processes.local), "--log_dir", str(logs)]
    options += ["--job_id", job]  # machines that work on different runs must not meet
    if processes.devices:
        options += ["--devices", ",".join(processes.devices)]
    if processes.nodes > 1:
        options += ["--nnodes", str(processes.nodes), "--master", processes.master]
    worker = [sys.executable, "-c", START, str(logs / "request.json")]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, *worker]


def environment(device: str, processes: Processes) -> dict[str, str]:
    """The environment of that command: threads divided, talk over the loopback, gloo on a CPU."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or runtime.cores())
    changed = dict(os.environ) | {"OMP_NUM_THREADS": str(max(1, threads // processes.local))}
    if processes.nodes == 1:
        loopback = "lo" if sys.platform == "linux" else "lo0"
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            changed.setdefault(name, loopback)
    if not device.startswith("gpu"):
        changed["PADDLE_DISTRI_BACKEND"] = "gloo"
        changed.pop("CUDA_VISIBLE_DEVICES", None)  # the launcher takes it for a sign of GPUs
    return changed


def launch(
    processes: Processes,
    what: Experiment,
    folder: Path,
    data_dir: str | Path | None,
    device: str | None,
    progress: bool,
    weights: bool,
) -> None:
    """``train.run`` by several new processes; shows the epochs as they are finished.

    Raises:
        SettingError: that many processes cannot train it.
        TrainingError: one of them ended early.
    """
    device = runtime.select_device(device)
    processes.check(device, what.recipe.batch_size)
    request = {
        "experiment": what.to_dict(),
        "results_dir": str(folder.parents[1].absolute()),
        "data_dir": str(datasets.data_folder(data_dir)),
        "device": device,
        "weights": weights,
    }
    logs = log_folder(folder, processes)
    line = command(request, folder.name, logs, processes)
    bar = tqdm(
        desc=folder.name, total=what.recipe.epochs, unit="epoch", disable=not progress, leave=False,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )  # fmt: skip
    with bar, (logs / LOG).open("w", encoding="utf-8") as log:
        if processes.nodes > 1 and progress:
            bar.write(f"{processes.nodes} machines meet at {processes.master}", file=sys.stderr)
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment(device, processes),
        )  # fmt: skip
        try:
            while process.poll() is None:
                bar.update(epochs_done(folder) - bar.n)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
    if process.returncode and Run(folder).status != "failed":
        raise TrainingError(f"{what.name} is not finished: {why_ended(logs)}")


def epochs_done(folder: Path) -> int:
    """How many epochs the history in a run folder holds."""
    try:
        with (folder / "history.csv").open("rb") as stream:
            return max(0, sum(1 for _ in stream) - 1)
    except FileNotFoundError:
        return 0


def why_ended(logs: Path) -> str:
    """Which process ended a training early, how, and where to read on; from what it logged."""
    log = logs / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = re.search(r"Container rank (\d+) status failed .* code (-?\d+) log (\S.*)", text)
    if not found:
        return f"the processes ended early; see {log}"
    code = int(found[2])
    how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    errors = re.findall(r"^error: (.*)$", text, flags=re.MULTILINE)
    reason = f" ({errors[-1]})" if errors and code >= 0 else ""
    return f"process {found[1]} ended {how}{reason}; see {found[3].strip()} and {log}"
