"""What all tests share."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

# Tests run side by side, one core each; set before anything imports Paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ATTN_BLOCKS_RESULTS"] = os.devnull  # a test that forgets its own folder must fail

import pytest

import attn_book  # noqa: F401  (before paddle)
from attn_blocks import datasets
from attn_book.training import compute as computing


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
