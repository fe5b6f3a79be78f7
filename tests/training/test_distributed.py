"""Two processes over gloo compute what one does; what cannot be is said."""

import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import psutil
import pytest

from attn_blocks import device
from attn_blocks.errors import SettingError, TrainingError
from attn_blocks.tensors import load_tensors
from attn_book.driver import cli, reproduce
from attn_book.driver.schedule import training_task
from attn_book.records import reading
from attn_book.records.logits import confusion_of, read_logits
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images, plan
from attn_book.study.recipes import PROFILES
from attn_book.training import batch_norm, build, distributed, launch
from attn_book.training import compute as computing
from attn_book.training import run as training_run
from attn_book.training.launch import Processes

COMMAND = ["train", "sge", "--profile", "smoke"]
# The last batch of validation images is one image: the second process gets none.
RECIPE = replace(
    PROFILES["smoke"].recipes["animals10"],
    width=0.125,
    train_images=32,
    validation_images=17,
    learning_rate=1e-3,
)
HANGS = 1800  # seconds; far more than anything takes here, however busy the machine
MODELS = ("resnet18", "srm_resnet18", "sge_resnet18")


def experiment_of(model, data_dir, **recipe_changes):
    recipe = replace(RECIPE, **recipe_changes)
    images = load_images("shapes", recipe, data_dir)
    return Experiment("shapes", images.fingerprint, model, recipe, seed=1), images


# Numbers -----------------------------------------------------------------------------------------


def one_step(model_name, data_dir, group):
    """Everything that one step makes: its images, loss, gradients, running statistics."""
    experiment, images = experiment_of(model_name, data_dir)
    computing.seed_everything(0)
    model = build.build_model(experiment, len(images.classes))
    network = group.network(model)
    network.train()
    loaders = build.build_loaders(images, RECIPE, experiment.seed, group=group)
    pixels, labels = next(loaders[0].epoch(1))
    loss = paddle.nn.functional.cross_entropy(
        network(paddle.to_tensor(pixels)), paddle.to_tensor(labels)
    )
    loss.backward()
    arrays = {
        "pixels": pixels,
        "labels": labels,
        "validation": np.concatenate([batch[1] for batch in loaders[1].epoch(0)]),
        "loss": group.total(np.array([float(loss)])) / group.size,
    }
    for name, parameter in model.named_parameters():
        array = parameter if parameter.stop_gradient else parameter.grad
        arrays[f"{'statistic' if parameter.stop_gradient else 'gradient'} {name}"] = array.numpy()
    return {f"{model_name} {name}": array for name, array in arrays.items()}


def both_processes_do(data_dir, folder):
    """What each process of the group does for the tests below."""
    with distributed.joined(timeout=HANGS) as group:
        arrays = {}
        for name in MODELS:
            arrays |= one_step(name, data_dir, group)
        # Each has a folder of its own, so that what it writes shows.
        own = folder / str(group.rank)
        own.mkdir()
        experiment, images = experiment_of("resnet18", data_dir)
        compute = computing.compute("cpu", group.size)
        training_run.train_into(own, experiment, images, compute, False, group)
        arrays["agreed"] = np.array([group.agree(group.rank == 0), group.agree(group.rank == 1)])
        try:
            group.check_same(group.rank, "the rank")
        except TrainingError as error:
            arrays["complaint"] = np.array(str(error))
        diverging, _ = experiment_of("resnet18", data_dir, learning_rate=1e30, schedule="constant")
        done = training_run.train_experiment(
            diverging, folder, data_dir, "cpu", progress=False, group=group
        )
        group.total(np.zeros(1))
        arrays["diverged"] = np.array(Run(done.folder).status)
        np.savez(folder / f"{group.rank}.npz", **arrays)


@pytest.fixture(scope="module")
def pair(data_dir, tmp_path_factory):
    """The folder of ``both_processes_do``, and what each process found."""
    folder = tmp_path_factory.mktemp("pair")
    code = (
        "import attn_book, pathlib, sys; sys.path.insert(0, sys.argv[1]); import test_distributed; "
        "test_distributed.both_processes_do(*map(pathlib.Path, sys.argv[2:]))"
    )
    processes = Processes(local=2)
    line = launch.command("pair", folder / "log", processes)
    line = [*line[: line.index("-c")], "-c", code, str(Path(__file__).parent), data_dir, folder]
    answer = subprocess.run(
        line,
        env=launch.environment("cpu", processes),
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder, [dict(np.load(folder / f"{rank}.npz")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(data_dir):
    arrays = {}
    for name in MODELS:
        arrays |= one_step(name, data_dir, distributed.SINGLE_PROCESS)
    return arrays


def named(arrays, word):
    found = {name: array for name, array in arrays.items() if name.split()[1:2] == [word]}
    assert found
    return found


def test_the_shares_make_the_same_batches(pair, alone):
    for word in ("pixels", "labels"):
        for name, whole in named(alone, word).items():
            shares = [found[name] for found in pair[1]]
            assert [len(share) for share in shares] == [len(whole) // 2] * 2
            np.testing.assert_array_equal(np.concatenate(shares), whole, name)
    for name, whole in named(alone, "validation").items():
        shares = [found[name] for found in pair[1]]
        np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.sort(whole), name)


def test_loss_gradients_and_statistics_are_those_of_one_process(pair, alone):
    # Sums in another order; a ReLU at zero may fall to the other side in a few places.
    limits = {"loss": 1e-6, "statistic": 1e-5, "gradient": 2e-3}
    for word, limit in limits.items():
        for name, whole in named(alone, word).items():
            for found in pair[1]:
                scale = np.linalg.norm(whole)
                assert np.linalg.norm(found[name] - whole) <= limit * scale + 1e-7, name


def test_gradients_are_the_same_in_all_processes(pair):
    first, second = pair[1]
    for name, gradient in named(first, "gradient").items():
        np.testing.assert_array_equal(gradient, second[name], name)


def test_the_run_is_that_of_one_process_and_only_the_first_writes_it(pair, data_dir, tmp_path):
    folder, _ = pair
    assert not list((folder / "1").iterdir())
    experiment, _ = experiment_of("resnet18", data_dir)
    one = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    two = Run(folder / "0")
    for name in ("lr", "train_loss", "val_loss"):
        np.testing.assert_allclose(two.history[name], one.history[name], rtol=1e-4)
    assert two.confusion.sum() == one.confusion.sum() == RECIPE.validation_images
    (theirs, labels), (ours, _) = (
        read_logits(run.folder / "logits.safetensors") for run in (two, one)
    )
    np.testing.assert_allclose(theirs, ours, atol=0.01)  # each at its own place
    np.testing.assert_array_equal(confusion_of(theirs, labels), two.confusion)
    compute = two.record["compute"]
    assert (compute["processes"], compute["batch_norm"]) == (2, "synchronised over all processes")
    assert one.record["compute"]["processes"] == 1
    # The files are those of one process: its model reads them.
    for name, array in load_tensors(one.folder / "last.safetensors")[0].items():
        assert load_tensors(two.folder / "last.safetensors")[0][name].shape == array.shape


def test_processes_decide_as_one(pair):
    for rank, found in enumerate(pair[1]):
        assert found["agreed"].tolist() == [True, False]
        assert f"the rank is {rank} in process {rank}" in str(found["complaint"])
        assert found["diverged"] == "failed"


def test_the_synchronised_batch_norm_is_paddles(monkeypatch):
    monkeypatch.setattr(batch_norm, "mean_of_all", lambda values: values)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(4, 6, 5, 7)).astype("float32")
    weights = rng.normal(size=x.shape).astype("float32")
    results = []
    for synchronise in (False, True):
        layer = paddle.nn.Sequential(paddle.nn.BatchNorm2D(6))
        layer[0].weight.set_value(np.linspace(-1, 2, 6, dtype="float32"))
        if synchronise:
            layer = batch_norm.synchronise_batch_norms(layer)
        tensor = paddle.to_tensor(x, stop_gradient=False)
        y = layer(tensor)
        (y * paddle.to_tensor(weights)).sum().backward()
        values = [y, tensor.grad, layer[0].weight.grad, layer[0].bias.grad]
        values += layer.state_dict().values()
        layer.eval()
        results.append([value.numpy() for value in [*values, layer(tensor)]])
    for ours, paddles in zip(*results, strict=True):
        np.testing.assert_allclose(ours, paddles, rtol=1e-4, atol=1e-5 * abs(paddles).max())


def test_on_a_gpu_paddles_own_layer_takes_over_parameters_and_names(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 1), paddle.nn.BatchNorm2D(4))
    before = dict(model.named_parameters())
    after = dict(batch_norm.synchronise_batch_norms(model).named_parameters())
    assert isinstance(model[1], paddle.nn.SyncBatchNorm)
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())


def test_weight_decay_is_that_of_one_process(data_dir, monkeypatch):
    """Paddle's layer for GPUs is no BatchNorm2D, and the optimiser has to know batch norms."""
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "DataParallel", lambda model: model)
    decays = []
    for group in (distributed.SINGLE_PROCESS, distributed.Group(size=2)):
        experiment, images = experiment_of("resnet18", data_dir, decay="gains")
        model = build.build_model(experiment, len(images.classes))
        compute = computing.Compute("cpu")
        training = build.prepare(model, images, experiment.recipe, 0, compute, group)
        names = {parameter.name: name for name, parameter in model.named_parameters()}
        decays.append(
            [
                (group["weight_decay"], [names[parameter.name] for parameter in group["params"]])
                for group in training.optimizer._param_groups
            ]
        )
    assert decays[0] == decays[1]


def test_a_sum_that_never_comes_ends_the_process(monkeypatch):
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda tensor: None)
    try:
        group = distributed.Group(size=2, timeout=1000)
        group.total(np.zeros(1))
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
        distributed.SINGLE_PROCESS.leave()  # another's alarm, perhaps
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        group.leave()  # the first process measures the network alone
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.alarm(0)
    distributed.Group(size=2).total(np.zeros(1))
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


# Processes that are started ----------------------------------------------------------------------


def test_a_dead_process_ends_the_run_clearly_and_it_resumes(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_NPROC", "2")
    experiment, _ = experiment_of("resnet18", data_dir, epochs=12)
    folder = tmp_path / "runs" / experiment.name
    killed = []

    def kill_the_second():
        while reading.epochs_done(folder) < 3:  # so that the second one's weights are saved
            time.sleep(0.01)
        for process in psutil.Process().children(recursive=True):
            if process.environ().get("PADDLE_TRAINER_ID") == "1":
                process.kill()
                killed.append(process.pid)

    thread = threading.Thread(target=kill_the_second, daemon=True)
    thread.start()
    ended = r"is not finished: process 1 ended by SIGKILL; see .*workerlog.1 and .*launch.log"
    with pytest.raises(TrainingError, match=ended):
        training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert len(killed) == 1
    assert not psutil.Process().children(recursive=True)
    rows = (folder / "history.csv").read_text().splitlines()
    assert 3 <= len(rows) - 1 < experiment.recipe.epochs

    run = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert run.status == "finished"
    # Epochs that were done were not made again: even their times are the same.
    assert (folder / "history.csv").read_text().splitlines()[:3] == rows[:3]
    # The launcher's copies of the environment are gone.
    names = {path.name for path in (folder / "log").iterdir()}
    assert names == {"request.json", launch.LOG, "workerlog.0", "workerlog.1"}
    monkeypatch.delenv("ATTN_BLOCKS_NPROC")
    one = training_run.train_experiment(
        experiment, tmp_path / "one", data_dir, "cpu", progress=False
    )
    np.testing.assert_allclose(run.history["train_loss"], one.history["train_loss"], rtol=1e-2)

    # A run that is there is read, and nothing started.
    monkeypatch.setenv("ATTN_BLOCKS_NPROC", "2")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started again"))
    assert training_run.train_experiment(experiment, tmp_path, data_dir, "cpu").status == "finished"


@pytest.mark.long
def test_two_machines_meet_at_the_master(data_dir, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "attn_book", *COMMAND]
    line += ["--nnodes", "2", "--master", f"127.0.0.1:{port}"]
    line += ["--data-dir", str(data_dir), "--results-dir", str(tmp_path)]
    nodes = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [node.communicate(timeout=HANGS)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outputs)
    runs = [Run(path) for path in (tmp_path / "smoke" / "runs").iterdir()]
    assert len(runs) == 2
    for run in runs:
        assert run.status == "finished"
        assert run.record["compute"]["processes"] == 2


def test_the_command_line_says_what_cannot_be_before_it_starts(
    data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ATTN_BLOCKS_NPROC", "1")  # which the command sets
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # SIGTERM still ends these tests
    line = [*COMMAND, "--nproc", "3", "--data-dir", str(data_dir), "--results-dir", str(tmp_path)]
    assert cli.main(line) == 2
    said = capsys.readouterr().err
    assert "16 images cannot be shared equally by 3 processes" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*/runs/*/log"))


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Processes()),
        ({"NPROC": "2"}, Processes(local=2)),
        ({"DEVICES": "0,3"}, Processes(local=2, devices=("0", "3"))),
        (
            {"NPROC": "2", "NNODES": "3", "MASTER": "10.0.0.1:6170"},
            Processes(local=2, nodes=3, master="10.0.0.1:6170"),
        ),
        ({"TIMEOUT": "60"}, Processes(timeout=60)),
    ],
)
def test_processes_from_the_environment(environment, expected):
    found = Processes.from_environment({f"ATTN_BLOCKS_{k}": v for k, v in environment.items()})
    assert found == expected


def test_processes_are_counted_over_all_machines():
    assert Processes(local=2, nodes=3).total == 6


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"NPROC": "0"}, "ATTN_BLOCKS_NPROC is '0'"),
        ({"NPROC": "two"}, "ATTN_BLOCKS_NPROC is 'two'"),
        ({"DEVICES": "0,gpu"}, "ATTN_BLOCKS_DEVICES is '0,gpu'"),
        ({"DEVICES": "0,0"}, "different GPUs"),
        ({"DEVICES": "0,1", "NPROC": "3"}, "3 processes for 2 devices"),
        ({"NNODES": "2"}, "2 machines need ATTN_BLOCKS_MASTER"),
        ({"NNODES": "2", "MASTER": "10.0.0.1"}, "host:port"),
        ({"TIMEOUT": "soon"}, "ATTN_BLOCKS_TIMEOUT is 'soon'"),
        ({"TIMEOUT": "0"}, "ATTN_BLOCKS_TIMEOUT is '0'"),
    ],
)
def test_settings_that_cannot_be(environment, words):
    with pytest.raises(SettingError, match=words):
        Processes.from_environment({f"ATTN_BLOCKS_{k}": v for k, v in environment.items()})


@pytest.mark.parametrize(
    ("processes", "device", "words"),
    [
        (Processes(local=3), "cpu", "16 images cannot be shared equally by 3.*1, 2, 4, 8, 16"),
        (Processes(local=2, devices=("0", "1")), "cpu", "2 processes .* device cpu has 0"),
        (Processes(local=2), "gpu:1", "device gpu:1 is a single GPU"),
        (Processes(local=4), "gpu", "4 processes .* device gpu has 2"),
    ],
)
def test_processes_that_cannot_train(processes, device, words, monkeypatch):
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingError, match=words):
        processes.check(device, batch_size=16)
    Processes(local=2).check(device.partition(":")[0], batch_size=16)
    Processes().check(device, batch_size=16)


def test_the_driver_trains_one_run_at_a_time_by_several_processes(data_dir, tmp_path, monkeypatch):
    page = plan("04_sge", "smoke", data_dir=data_dir, results_dir=tmp_path)
    monkeypatch.setattr(device, "cores", lambda: 4)
    assert reproduce.job_count("auto", page) == 4
    alone = training_task(page, page.experiments[0], shows_bar=True)
    monkeypatch.setenv("ATTN_BLOCKS_NPROC", "2")
    assert reproduce.job_count("auto", page) == 1
    assert reproduce.job_count("2", page) == 2
    assert training_task(page, page.experiments[0], shows_bar=True).lock == alone.lock
    # Machines that train a run together must not keep one another from it.
    monkeypatch.setenv("ATTN_BLOCKS_NNODES", "2")
    monkeypatch.setenv("ATTN_BLOCKS_MASTER", "10.0.0.1:6170")
    assert training_task(page, page.experiments[0], shows_bar=True).lock != alone.lock


def test_the_command_and_its_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    gpus = Processes(local=2, devices=("0", "3"))
    line = " ".join(launch.command("some-run", tmp_path, gpus))
    assert "--nproc_per_node 2" in line
    assert "--devices 0,3" in line
    assert "--job_id some-run" in line
    assert "--host 127.0.0.1" in line
    assert "--nnodes" not in line
    environment = launch.environment("gpu", gpus)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert environment["GLOO_SOCKET_IFNAME"] == "lo"
    assert "PADDLE_DISTRI_BACKEND" not in environment

    many = Processes(local=1, nodes=2, master="10.0.0.1:6170")
    line = " ".join(launch.command("some-run", tmp_path, many))
    assert "--nnodes 2 --master 10.0.0.1:6170" in line
    assert "--host" not in line
    environment = launch.environment("cpu", many)
    assert environment["PADDLE_DISTRI_BACKEND"] == "gloo"
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert "GLOO_SOCKET_IFNAME" not in environment


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (-9, "process 1 ended by SIGKILL; see"),
        (2, "process 1 ended with code 2 (no room left); see"),
        (-14, "process 1 ended by SIGALRM (no answer from the other processes for ATTN_BLOCKS"),
    ],
)
def test_why_a_training_ended(code, expected, tmp_path):
    worker_log = tmp_path / "workerlog.1"
    (tmp_path / launch.LOG).write_text(
        f"Container rank 1 status failed cmd ['python'] code {code} log {worker_log} \n"
        f"env {{'NAME': 'value'}}\n{'error: no room left' * (code > 0)}\n"
    )
    words = launch.why_ended(tmp_path)
    assert words.startswith(expected)
    assert words.endswith(f"; see {worker_log} and {tmp_path / launch.LOG}")


def test_the_environment_leaves_the_logs(tmp_path):
    lines = ["Container rank 1 status failed", "env {'KEY': 'secret'}", "error: no room left"]
    (tmp_path / launch.LOG).write_text("\n".join(lines))
    for name in ("envlog.0", "backup_env.0.json", "run.pod.log", "workerlog.0"):
        (tmp_path / name).write_text("KEY=secret")
    launch.clean(tmp_path)
    assert (tmp_path / launch.LOG).read_text() == "\n".join([lines[0], lines[2]])
    assert {path.name for path in tmp_path.iterdir()} == {launch.LOG, "workerlog.0"}


def test_a_launcher_that_ended_by_itself(tmp_path):
    (tmp_path / launch.LOG).write_text("KeyError\n")
    assert launch.why_ended(tmp_path) == f"the processes ended early; see {tmp_path / launch.LOG}"


def test_a_lost_connection_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "2")
    monkeypatch.setenv("PADDLE_LOG_DIR", str(tmp_path))
    fake = SimpleNamespace(
        init_parallel_env=lambda: None, get_rank=lambda: 0, get_world_size=lambda: 2
    )
    monkeypatch.setattr(distributed, "dist", fake)
    monkeypatch.setattr(distributed.time, "sleep", lambda _: None)
    with (
        pytest.raises(TrainingError, match="process 0 lost its connection"),
        distributed.joined(timeout=HANGS) as group,
    ):
        assert (group.rank, group.size, group.local_size, group.timeout) == (0, 2, 2, HANGS)
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="a bug"), distributed.joined(timeout=HANGS):
        raise RuntimeError("a bug")
