"""Starting the processes that train one run together, through ``paddle.distributed.launch``.

Paddle's launcher gives each process its number, its GPU and its log, brings machines together, and
ends all processes of a machine when one of them dies. Here it gets its command and environment,
and its log is read when it fails.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paddle
from tqdm import tqdm

from attn_blocks import datasets
from attn_blocks.device import cores, select_device
from attn_blocks.errors import SettingError, TrainingError
from attn_blocks.files import write_json
from attn_book.records.reading import epochs_done
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.training.compute import threads_asked
from attn_book.training.distributed import remove_environments

LOG = "launch.log"


@dataclass(frozen=True)
class Processes:
    """How many processes train a run, and where.

    Attributes:
        local: processes on this machine.
        devices: numbers of the GPUs they use, one each; empty for the first ones, or the CPU.
        nodes: machines.
        master: "host:port" where the machines meet; empty for a single machine.
        timeout: seconds after which a process ends that waits for a lost machine.
    """

    local: int = 1
    devices: tuple[str, ...] = ()
    nodes: int = 1
    master: str = ""
    timeout: int = 1800

    @property
    def total(self) -> int:
        """All of them together, on all machines."""
        return self.local * self.nodes

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Processes:
        """What ATTN_BLOCKS_NPROC, _DEVICES, _NNODES, _MASTER and _TIMEOUT ask for.

        Raises:
            SettingError: one of them is invalid, or they contradict one another.
        """

        def count(name: str, default: int) -> int:
            value = environment.get(name) or str(default)
            if not value.isdigit() or int(value) < 1:
                raise SettingError(f"{name} is {value!r}; it must be a number from 1")
            return int(value)

        devices = tuple(environment.get("ATTN_BLOCKS_DEVICES", "").replace(",", " ").split())
        if not all(map(str.isdigit, devices)) or len(set(devices)) < len(devices):
            raise SettingError(
                f"ATTN_BLOCKS_DEVICES is {environment['ATTN_BLOCKS_DEVICES']!r}; it must list "
                "different GPUs by number, such as 0,1"
            )
        local = count("ATTN_BLOCKS_NPROC", len(devices) or 1)
        if devices and local != len(devices):
            raise SettingError(
                f"{local} processes for {len(devices)} devices; leave out ATTN_BLOCKS_NPROC, every "
                "device gets one"
            )
        nodes = count("ATTN_BLOCKS_NNODES", 1)
        master = environment.get("ATTN_BLOCKS_MASTER", "")
        if nodes > 1 and not re.fullmatch(r"[^:]+:\d+", master):
            raise SettingError(
                f"{nodes} machines need ATTN_BLOCKS_MASTER=host:port, an address of the first of "
                f"them and a free port; it is {master!r}"
            )
        return cls(local, devices, nodes, master, count("ATTN_BLOCKS_TIMEOUT", cls.timeout))

    def check(self, device: str, batch_size: int) -> None:
        """Raise SettingError if they cannot train with that batch size on that device."""
        if self.total > 1 and ":" in device:
            raise SettingError(f"device {device} is a single GPU; list several with DEVICES=")
        if self.total == 1 and self.devices:
            number = self.devices[0]
            raise SettingError(f"one GPU alone is DEVICE=gpu:{number}; DEVICES= lists several")
        gpus = paddle.device.cuda.device_count() if device.startswith("gpu") else 0
        if self.local > gpus and (gpus or self.devices):
            raise SettingError(
                f"{self.local} processes take {self.local} GPUs, and device {device} has {gpus}; "
                "choose fewer, or DEVICE=cpu with NPROC="
            )
        if any(int(number) >= gpus for number in self.devices):
            raise SettingError(
                f"GPUs {', '.join(self.devices)} are asked for, and this Paddle sees {gpus}, from 0"
            )
        if batch_size % self.total:
            possible = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
            raise SettingError(
                f"a batch of {batch_size} images cannot be shared equally by {self.total} "
                f"processes; choose a number of: {', '.join(map(str, possible))}"
            )


def launch(
    processes: Processes,
    experiment: Experiment,
    folder: Path,
    data_dir: str | Path | None,
    device: str | None,
    progress: bool,
    fresh: bool,
) -> None:
    """``run.train_experiment`` by several new processes; shows the epochs as they are finished.

    Raises:
        SettingError: that many processes cannot train it.
        TrainingError: one of them ended early.
    """
    device = select_device(device)
    processes.check(device, experiment.recipe.batch_size)
    logs = folder / "log"
    if processes.nodes > 1:  # all machines log into the same run
        logs /= f"{socket.gethostname()}-{os.getpid()}"
    request = {
        "experiment": experiment.to_dict(),
        "results_dir": str(folder.parents[1].absolute()),
        "data_dir": str(datasets.data_folder(data_dir)),
        "device": device,  # "gpu" stands for the one that the launcher gives each of them
        "fresh": fresh,
    }
    write_json(logs / "request.json", request)
    bar = tqdm(
        desc=folder.name,
        total=experiment.recipe.epochs,
        unit="epoch",
        leave=False,
        disable=not progress,
    )
    with bar, (logs / LOG).open("w", encoding="utf-8") as log:
        launcher = subprocess.Popen(
            command(folder.name, logs, processes),
            env=environment(device, processes),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            while launcher.poll() is None:
                bar.update(epochs_done(folder) - bar.n)
                with suppress(subprocess.TimeoutExpired):
                    launcher.wait(2)
        finally:
            launcher.terminate()
            launcher.wait()
            clean(logs)
    if launcher.returncode and Run(folder).status != "failed":
        raise TrainingError(f"{experiment.name} is not finished: {why_ended(logs)}")


def command(job: str, logs: Path, processes: Processes) -> list[str]:
    """The command that trains the run named ``job`` as ``request.json`` in ``logs`` asks."""
    options = ["--nproc_per_node", str(processes.local), "--log_dir", str(logs)]
    options += ["--log_overwrite", "1", "--enable_gpu_log", "0"]
    options += ["--job_id", job]  # machines that work on different runs must not meet
    if processes.devices:
        options += ["--devices", ",".join(processes.devices)]
    if processes.nodes > 1:
        options += ["--nnodes", str(processes.nodes), "--master", processes.master]
    else:
        options += ["--host", "127.0.0.1"]
    # Not from the folder that the command was given in, which -c puts first.
    code = "import sys; sys.path[:] = filter(None, sys.path); "
    code += "from attn_book.training import run; run.main()"
    worker = [sys.executable, "-c", code, str(logs / "request.json")]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, *worker]


def environment(device: str, processes: Processes) -> dict[str, str]:
    """The environment of that command: threads divided, loopback only, gloo on a CPU."""
    threads = threads_asked() or cores()
    changed = dict(os.environ) | {"OMP_NUM_THREADS": str(max(1, threads // processes.local))}
    if processes.nodes == 1:
        changed = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} | changed
    if not device.startswith("gpu"):
        changed["PADDLE_DISTRI_BACKEND"] = "gloo"
        changed.pop("CUDA_VISIBLE_DEVICES", None)  # the launcher takes it for a sign of GPUs
    return changed


def clean(logs: Path) -> None:
    """Remove the environment from what the launcher wrote; Paddle 2.6 puts it in its log, too."""
    remove_environments(logs)
    text = (logs / LOG).read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"^env \{.*\n", "", text, flags=re.MULTILINE)
    (logs / LOG).write_text(text, encoding="utf-8")


def why_ended(logs: Path) -> str:
    """Which process ended a training early, how, and which log says more."""
    log = logs / LOG
    text = log.read_text(encoding="utf-8")
    found = re.search(r"Container rank (\d+) status failed .* code (-?\d+) log (\S.*)", text)
    if not found:
        return f"the processes ended early; see {log}"
    code = int(found[2])
    errors = re.findall(r"^error: (.*)$", text, flags=re.MULTILINE)
    if code == -signal.SIGALRM:
        errors = ["no answer from the other processes for ATTN_BLOCKS_TIMEOUT seconds"]
    how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    reason = f" ({errors[-1]})" if errors else ""
    return f"process {found[1]} ended {how}{reason}; see {found[3].strip()} and {log}"
