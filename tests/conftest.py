"""What all tests share."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

# Tests run side by side, one core each; set before anything imports Paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ATTN_BLOCKS_RESULTS"] = os.devnull  # a test that forgets its own folder must fail

import hypothesis
import numpy as np
import pytest

import attn_book  # noqa: F401  (before paddle)
from attn_blocks import datasets, device, gpu
from attn_blocks.files import read_json, write_json
from attn_blocks.tensors import save_tensors
from attn_book.records import reading
from attn_book.records.logits import save_logits
from attn_book.records.run import WEIGHTS, Run
from attn_book.records.semantics import versions_of
from attn_book.study.experiment import Experiment
from attn_book.study.pages import OVERVIEW, PAGES, seeds_of
from attn_book.study.recipes import PROFILES
from attn_book.training import compute as computing
from attn_book.training.run import write_history

# Made-up records are thousands of files, and nobody pulls the plug on a test. That a file is synced
# before it takes its name is for tests/test_files.py to see.
os.fsync = os.sync = lambda *_: None
# A busy machine is no fault of an example.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

TESTS = Path(__file__).parent
# The files that take long, the longest first: one that began last would run alone at the end.
HEAVY = (
    "driver/test_notebooks.py",
    "book/test_book.py",
    "driver/test_faults.py",
    "training/test_distributed.py",
    "driver/test_judge.py",
    "training/test_run.py",
    "book/test_publish.py",
    "test_adding_a_block.py",
    "driver/test_reproduce.py",
    "native/test_kernels.py",
    "driver/test_predict.py",
    "driver/test_pages.py",
    "models/test_models.py",
    "golden/test_golden.py",
    "driver/test_worker.py",
    "test_benchmarks.py",
    "analysis/test_cost.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """``-n auto``: a worker for each core that this process may use, which may be a few of many."""
    if not os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return device.cores()


def pytest_collection_modifyitems(items):
    """The order in which workers take files: heavy ones first, then those of many tests."""
    rank = {TESTS / name: place for place, name in enumerate(HEAVY)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(HEAVY)), -tests[item.path]))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data folder without real images, with the embedded ones drawn once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers; while one draws, the others wait for its lock
    folder = folder / "data"
    folder.mkdir(exist_ok=True)
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
            "compute": {"device": "cpu", "threads": 1, "processor": "a processor"},
            "semantics": versions_of(experiment),
        },
    )
    write_json(
        folder / "metrics.json",
        {
            "status": "finished",
            "final_val_acc": accuracy,
            "final_train_acc": 0.5,
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
    save_logits(folder / "logits.safetensors", np.eye(2)[[0, 1, 0, 1]], np.array([0, 0, 1, 1]))
    for name in WEIGHTS if weights else ():
        save_tensors(folder / name, {"w": np.zeros(3)}, {"epoch": str(len(rows))})


@pytest.fixture
def write_run():
    """The function that writes a run's files: ``write_run(folder, experiment, weights=False)``."""
    return write_finished_run


def write_study(folder, accuracy, tasks=("animals10", "caltech16", "cifar10"), images=200):
    """Finished runs of a whole study, made up.

    Args:
        folder: a profile's results folder, called "study".
        accuracy: function of task, title and seed: the final accuracy, from 0 to 1; None leaves the
            run out.
        tasks: those that are written.
        images: validation images of each run, of two classes.
    """
    for comparison in PAGES[OVERVIEW]:
        for entry in comparison.entries if comparison.task in tasks else ():
            for seed in seeds_of(comparison, entry, PROFILES["study"].seeds):
                share = accuracy(comparison.task, entry.title, seed)
                if share is not None:
                    write_study_run(folder, comparison.task, entry, seed, share, images)


def write_study_run(folder, task, entry, seed, share, images=200, **changes):
    """One of them, with changes to its experiment; the run."""
    fold = 0 if task == "cifar10" else seed % 5
    recipe = replace(PROFILES["study"].recipes[task], **entry.changes.get("study", {}))
    options = dict(entry.options)
    experiment = Experiment(task, "f" * 64, entry.model, recipe, seed, options, fold)
    experiment = replace(experiment, **changes)
    run = Run(folder / "runs" / experiment.name)
    write_finished_run(run.folder, experiment)
    right = round(share * images)
    # The wrong images begin elsewhere for each network and seed.
    order = np.random.default_rng((seed, len(entry.title), right)).permutation(images)
    labels = np.arange(images) * 2 // images
    predicted = np.where(order < right, labels, 1 - labels)
    save_logits(run.folder / "logits.safetensors", np.eye(2)[predicted], labels)
    share = right / images
    accuracies = {"final_val_acc": share, "best_val_acc": share}
    metrics = read_json(run.folder / "metrics.json")
    write_json(run.folder / "metrics.json", {**metrics, **accuracies})
    return run


@pytest.fixture(scope="session")
def study_of():
    """The function that writes a whole study: ``study_of(folder, accuracy)``."""
    return write_study


@pytest.fixture(scope="session")
def study_run():
    """The function that writes one run of a study."""
    return write_study_run


@pytest.fixture(scope="session")
def se_gains(tmp_path_factory):
    """The pages' runs of a whole study, for tests that do not change them.

    SE gains 4 points in each fold, give or take half a point, and the others nothing.
    """
    folder = tmp_path_factory.mktemp("se-gains") / "study"

    def accuracy(task, title, seed):
        return 0.80 + 0.04 * title.startswith("SE-") + 0.005 * ((seed * len(title)) % 3)

    write_study(folder, accuracy)
    return folder
