"""What all tests share."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

# Tests run side by side, one core each; set before anything imports Paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ATTN_BLOCKS_RESULTS"] = os.devnull  # a test that forgets its own folder must fail

import numpy as np
import pytest

import attn_book  # noqa: F401  (before paddle)
from attn_blocks import datasets, gpu
from attn_blocks.files import save_tensors, write_json
from attn_book.records import reading
from attn_book.records.run import WEIGHTS
from attn_book.records.semantics import versions_of
from attn_book.training import compute as computing
from attn_book.training.run import write_history


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data folder without real images, with the embedded ones drawn once."""
    folder = tmp_path_factory.mktemp("data")
    datasets.load("shapes", folder, short_side=64)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a small disk of its own, and a function that mounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("there is no mount command")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a small disk needs the right to mount: {made.stderr.strip()}")
    yield (
        folder,
        lambda options: subprocess.run(
            ["mount", "-o", f"remount,{options}", str(folder)], check=True
        ),
    )
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine look like another one, to Paddle and to the book.

    ``machine(lines, archs, seen)``: what ``nvidia-smi`` prints, what the build of Paddle has GPU
    code for (None: it is the CPU build), and the compute capabilities of the GPUs that it sees, or
    the error that it raises instead.
    """
    import paddle

    def pretend(lines=(), archs=None, seen=()):
        def count():
            if isinstance(seen, Exception):
                raise seen
            return len(seen)

        cuda = paddle.device.cuda
        monkeypatch.setattr(gpu.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(gpu, "installed", lambda: tuple(map(gpu.parse, lines)))
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: archs is not None)
        monkeypatch.setattr(paddle.version, "cuda", lambda: "12.6" if archs else "False")
        monkeypatch.setattr(paddle.version, "cuda_archs", lambda: archs or [], raising=False)
        monkeypatch.setattr(cuda, "device_count", count)
        monkeypatch.setattr(cuda, "get_device_capability", lambda number: seen[number])
        monkeypatch.setattr(cuda, "get_device_name", lambda number: "Some GPU")
        monkeypatch.setattr(paddle, "set_device", lambda name: None)

    return pretend


@pytest.fixture
def loss_scaler(monkeypatch):
    """A loss scaler as on a GPU: on the CPU Paddle would switch it off."""
    import paddle

    module = sys.modules["paddle.amp.grad_scaler"]
    place = SimpleNamespace(is_gpu_place=lambda: True)
    with monkeypatch.context() as patched:
        tracer = SimpleNamespace(_expected_place=place)
        patched.setattr(module, "_dygraph_tracer", lambda: tracer)
        made = computing.Compute(amp="float16").scaler()
    state = paddle.amp.auto_cast.__globals__["amp_global_state"]()
    monkeypatch.setattr(state, "amp_dtype", "float16")
    return made


def write_finished_run(folder, experiment, weights=False):
    """The files of a finished run of two epochs and two classes, made up."""
    data = {
        "title": "Shapes",
        "label": "Shapes (2 classes; 8 / 4 images)",
        "classes": ["a", "b"],
        "class_total": 2,
        "train_images": 8,
        "validation_images": 4,
    }
    rows = [
        dict(
            zip(
                reading.HISTORY_COLUMNS, (epoch, 0.1, 0.7, 0.5, 0.6, 0.25 * epoch, 1.5), strict=True
            )
        )
        for epoch in range(1, experiment.recipe.epochs + 1)
    ]
    accuracy = rows[-1]["val_acc"]
    write_json(
        folder / "experiment.json",
        {
            **experiment.to_dict(),
            "data": data,
            "compute": {"device": "cpu", "threads": 1},
            "semantics": versions_of(experiment),
        },
    )
    write_json(
        folder / "metrics.json",
        {
            "status": "finished",
            "final_val_acc": accuracy,
            "best_val_acc": accuracy,
            "best_epoch": len(rows),
            "params": 10,
            "macs": 20,
            "seconds": 3.0,
            "images_per_second": 5.3,
            "peak_memory_mb": 100.0,
            "confusion": [[1, 1], [1, 1]],
            "finished": "2026-01-02T03:04:05+00:00",
        },
    )
    write_history(folder / "history.csv", rows)
    for name in WEIGHTS if weights else ():
        save_tensors(folder / name, {"w": np.zeros(3)}, {"epoch": str(len(rows))})


@pytest.fixture
def write_run():
    """The function that writes a run's files: ``write_run(folder, experiment, weights=False)``."""
    return write_finished_run
