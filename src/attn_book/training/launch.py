"""Starting the processes that train one run together."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from tqdm import tqdm

from attn_blocks import datasets
from attn_blocks.errors import SettingError, TrainingError
from attn_blocks.files import write_json
from attn_book.records.reading import epochs_done
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.training.distributed import POLL_SECONDS

LOG = "launch.log"
START = "from attn_book.training import run; run.main()"


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
    threads = int(os.environ.get("OMP_NUM_THREADS") or device.cores())
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
    experiment: Experiment,
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
    device = device.select_device(device)
    processes.check(device, experiment.recipe.batch_size)
    request = {
        "experiment": experiment.to_dict(),
        "results_dir": str(folder.parents[1].absolute()),
        "data_dir": str(datasets.data_folder(data_dir)),
        "device": device,
        "weights": weights,
    }
    logs = log_folder(folder, processes)
    line = command(request, folder.name, logs, processes)
    bar = tqdm(
        desc=folder.name,
        total=experiment.recipe.epochs,
        unit="epoch",
        disable=not progress,
        leave=False,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )
    with bar, (logs / LOG).open("w", encoding="utf-8") as log:
        if processes.nodes > 1 and progress:
            bar.write(f"{processes.nodes} machines meet at {processes.master}", file=sys.stderr)
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(device, processes),
        )
        try:
            while process.poll() is None:
                bar.update(epochs_done(folder) - bar.n)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
    if process.returncode and Run(folder).status != "failed":
        raise TrainingError(f"{experiment.name} is not finished: {why_ended(logs)}")


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
