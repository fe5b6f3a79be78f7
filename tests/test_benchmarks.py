"""The benchmarks: fair turns between processes, records, and steps that do what they are named."""

import importlib
import json
import mmap
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pandas as pd
import pytest
from PIL import Image

from attn_blocks import datasets
from attn_blocks.errors import SettingError
from attn_blocks.files import PROJECT, read_json
from attn_book.driver.schedule import Schedule
from attn_book.records import full_size
from attn_book.records.seal import seal
from attn_book.study import plan as planning
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GE, GUIDES, PAGES, RESNET, Comparison, Entry
from attn_book.study.recipes import PROFILES

FULL_SIZE = PROJECT / "benchmarks" / "full_size"


@pytest.fixture
def script(monkeypatch):
    """Import a file of ``benchmarks/`` as its programs do."""
    monkeypatch.syspath_prepend(str(FULL_SIZE))
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    return importlib.import_module


# Turns -------------------------------------------------------------------------------------------


def test_a_turn_lasts_as_long_as_asked_and_gives_the_time_of_one_step(script):
    common, now = script("common"), [0.0]

    def step():
        now[0] += 0.25

    assert common.turn(step, 1.0, clock=lambda: now[0]) == 0.25
    assert now[0] == 1.0
    assert common.turn(step, 0.0, clock=lambda: now[0]) == 0.25  # one step, never none


def test_rounds_take_turns_forwards_and_backwards_and_forget_the_first(script):
    common, calls = script("common"), []

    def side(name, values):
        return lambda: calls.append(name) or next(values)

    found = common.in_turns([side("a", iter([9, 1, 2])), side("b", iter([9, 4, 6]))], rounds=2)
    assert "".join(calls) == "abbaab"
    assert found == [(1, 4), (2, 6)]
    assert common.middle(found, 1) == 5
    assert common.ratio(found, above=1, below=0) == 3.5  # of the rounds, not of the medians


SERVED = """
import sys
sys.path.insert(0, {folder!r})
import common

def build(factor):
    print("a library that prints")
    def fail():
        raise ValueError("no such luck")
    return dict(count=lambda: sum(range(100 * factor)), fail=fail, die=lambda: sys.exit(3)), dict(
        factor=factor
    )

common.serve(build)
"""


@pytest.fixture
def worker(script, tmp_path):
    program = tmp_path / "served.py"
    program.write_text(SERVED.format(folder=str(PROJECT / "benchmarks")))
    with script("common").Worker([sys.executable, program]) as worker:
        yield worker


def test_a_worker_builds_and_times_what_it_is_told(worker):
    assert worker.build(factor=2) == {"factor": 2}
    # Of a single step it would be all the time; one step alone takes so long on no machine.
    assert 0 < worker.turn("count", at_least=0.2) < 0.2
    assert worker.build(factor=3) == {"factor": 3}


def test_an_error_in_a_worker_is_raised_here_and_the_worker_goes_on(worker):
    worker.build(factor=1)
    with pytest.raises(RuntimeError, match="ValueError: no such luck"):
        worker.turn("fail")
    with pytest.raises(RuntimeError, match="KeyError: 'unheard of'"):
        worker.turn("unheard of")
    assert worker.turn("count", 0.0) > 0


def test_a_worker_that_ends_is_named(worker):
    worker.build(factor=1)
    with pytest.raises(RuntimeError, match="served.py ended early"):
        worker.turn("die")


# Records -----------------------------------------------------------------------------------------


def test_a_record_holds_conditions_and_rows_and_the_book_shows_both(script, tmp_path):
    common, included = script("common"), script("included")
    rows = [{"model": "a", "train_ratio": "1.02"}, {"model": "b|c", "train_ratio": "0.90"}]
    peer = {"python": "3.12.1", "torch": "9.9.9"}
    words = {"title": "A title", "about": "Two\nlines.", "finding": "b is slower."}
    path = common.record("made_up", rows, "a command", 7, peer, tmp_path, **words)

    assert pd.read_csv(path, dtype=str, comment="#").to_dict("records") == rows
    told = dict(line[2:].split(": ", 1) for line in path.read_text().splitlines()[:8])
    assert told["about"] == "Two lines."
    assert told["processor"].endswith("7 threads")
    assert common.conditions(1)["processor"].endswith(" 1 thread")
    assert re.search(rf"paddlepaddle(-gpu)? {paddle.__version__},", told["versions"])
    assert told["versions"].endswith("; python 3.12.1, torch 9.9.9")

    shown = included.benchmarks(tmp_path)
    for words in ("### A title", "Two lines.", "b is slower.", "`a command`", "torch 9.9.9"):
        assert words in shown
    assert "| model | train ratio |" in shown
    assert "| b\\|c | 0.90 |" in shown


def test_without_records_the_page_says_so(script, tmp_path):
    assert "No measurements" in script("included").benchmarks(tmp_path)


def test_published_records_say_what_they_show_and_how_they_were_made():
    records = sorted((PROJECT / "benchmarks" / "results").glob("*.csv"))
    assert {path.stem for path in records} >= {"models", "blocks", "operators", "pipeline"}
    for path in records:
        head = path.read_text().splitlines()
        keys = {line[2:].partition(":")[0] for line in head if line.startswith("# ")}
        assert keys >= {"title", "about", "command", "processor", "versions", "date"}, path


def test_a_part_of_a_table_does_not_replace_the_whole(script, tmp_path, monkeypatch):
    common, models = script("common"), script("models")
    written = {}

    def record(name, rows, *_, folder, **__):
        written[name] = folder

    row = {"model": "vgg19", "train_ratio": "1.00", "inference_ratio": "1.00"}
    peer = {"threads": 1, "versions": {}}
    for side in ("paddle_side", "torch_side"):
        monkeypatch.setattr(models, side, lambda *_: Side())
    monkeypatch.setattr(models.native, "build", lambda: "")
    monkeypatch.setattr(models, "compare", lambda *_: (row, peer))
    monkeypatch.setattr(models.common, "record", record)
    for asked, folder in (
        ([], common.RESULTS),
        (["--models", "vgg19"], common.PARTIAL),
        (["--models", "vgg19", "--results", str(tmp_path)], tmp_path),
    ):
        models.main(["--peer", "a python", "--no-modes", *asked])
        assert written == {"models": folder}


def test_what_was_measured_is_not_shown_as_nothing(script):
    row = script("pipeline").row("saving", 0.0312, "s", "an epoch", 7.91)
    assert (row["value"], row["base"], row["ratio"]) == ("0.0312", "7.91", "0.00394")
    row = script("pipeline").row("loader", 13521.84, "images/s", "training", 252.04)
    assert (row["value"], row["base"], row["ratio"]) == ("13,521.8", "252.0", "53.6")


# Networks beside PyTorch -------------------------------------------------------------------------


def test_a_network_trains_in_its_training_step_and_in_no_other(script):
    models = script("models")
    made, facts = models.build("bat_resnet18", 2, 64, {"width": 0.125})
    assert facts["between"] == ["layer2.nl1", "layer3.nl1"]
    assert facts["attn"]["bat"]["layer2"]["size"] == 4
    json.dumps(facts)  # a worker sends them as such

    paddle.seed(0)
    network = models.ab.create_model("resnet18", num_classes=10, width=0.125, image_size=64)
    steps = models.steps(network, 2, 64)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    steps["inference"]()
    assert all((network.state_dict()[n].numpy() == v).all() for n, v in state.items())
    assert not network.training
    steps["train"]()
    assert network.training
    changed = [n for n, v in state.items() if (network.state_dict()[n].numpy() != v).any()]
    assert {"conv1.weight", "bn1._mean", "fc.bias"} <= set(changed)
    assert made.keys() == steps.keys()


class Side:
    """A worker that answers with what it is given."""

    def __init__(self, params=100, threads=2, seconds=()):
        self.facts = {"params": params, "threads": threads, "attn": {}, "between": [], "width": 1.0}
        self.seconds = iter(seconds)

    def build(self, **experiment):
        return self.facts

    def turn(self, step):
        return next(self.seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_row_gives_speeds_and_the_ratio_of_the_two_sides(script):
    models = script("models")
    ours, theirs = Side(seconds=[9, 0.5, 0.5] * 2), Side(seconds=[9, 1, 1] * 2)
    row, _ = models.compare("resnet50", ours, theirs, rounds=2)
    assert row["batch"] == 32
    assert (row["train"], row["torch_train"], row["train_ratio"]) == ("64.0", "32.0", "2.00")


def test_another_network_or_other_threads_are_no_comparison(script):
    models = script("models")
    with pytest.raises(RuntimeError, match="1,000 parameters and its twin 1,003"):
        models.build_pair("resnet50", Side(1000), Side(1003))
    models.build_pair("resnet50", Side(1000), Side(1001))
    with pytest.raises(RuntimeError, match="2 threads against 1"):
        models.build_pair("resnet50", Side(), Side(threads=1))


def test_a_mode_that_cannot_be_built_is_left_out_of_the_others(script, monkeypatch, capsys):
    class NoCompiler(Side):
        def build(self, mode, **experiment):
            if mode == "compiled":
                raise RuntimeError("no compiler")

    models = script("models")
    took = iter([1, 0.5, 2, None, 4])  # seconds of a step, in the order of the modes
    monkeypatch.setattr(models, "paddle_side", lambda *_: Side(seconds=[next(took)] * 6))
    monkeypatch.setattr(models, "torch_side", lambda *_: NoCompiler(seconds=[next(took)] * 6))
    rows = models.compare_modes("a python", rounds=1)
    assert [row["mode"] for row in rows] == ["float32", "bfloat16 products", "eager", "bfloat16"]
    assert [row["train_ratio"] for row in rows] == ["1.00", "2.00", "0.50", "0.25"]
    assert [row["inference"] for row in rows] == ["32.0", "64.0", "16.0", "8.0"]
    assert "compiled is left out: no compiler" in capsys.readouterr().err


def test_what_is_slower_is_said(script):
    rows = [
        {"model": "a", "train_ratio": "1.30", "inference_ratio": "0.99"},
        {"model": "b", "train_ratio": "0.90", "inference_ratio": "1.00"},
    ]
    assert script("models").slower(rows) == (
        "In training 1 of 2 are slower than PyTorch: b 0.90. "
        "In inference 0 of 2 are slower than PyTorch."
    )


# Around training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(data_dir):
    return planning.plan("02_ge", profile="smoke", data_dir=data_dir, device="cpu")


def test_the_steps_of_a_job_train_load_and_save(script, plan):
    pipeline = script("pipeline")
    experiment = pipeline.chosen(plan, "animals10", GE.title)
    assert experiment.model == "ge_resnet50"
    steps, facts = pipeline.build(experiment.to_dict(), str(plan.data_dir))
    assert facts["batches"] == len(plan.comparison("animals10").images.train) // 16
    for _ in range(facts["batches"] + 1):  # beyond the end of an epoch
        pixels, labels = steps["load"]()
    assert pixels.shape == (16, 3, 56, 56)
    assert labels.shape == (16,)
    steps["train"]()
    steps["save"]()


def test_reading_all_images_copies_none(script, plan):
    pipeline = script("pipeline")
    experiment = pipeline.chosen(plan, "animals10", RESNET.title)
    found = pipeline.read_all(experiment.dataset, 64, str(plan.data_dir))
    assert found["set"] > 10
    assert found["copied"] == 0


def test_a_copy_of_a_mapped_file_is_seen(script, tmp_path):
    pipeline, path = script("pipeline"), tmp_path / "mapped.u8"
    path.write_bytes(bytes(2_000_000))
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    array = np.frombuffer(mapped, dtype=np.uint8)
    assert array.sum() == 0
    assert pipeline.copied("mapped.u8") == 0
    mapped[:1_000_000] = bytes(range(250)) * 4000
    assert 0.99 < pipeline.copied("mapped.u8") < 1.1
    with pytest.raises(RuntimeError, match="not mapped"):
        pipeline.copied("another.u8")


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        ([], ["jobs", "data", "memory"]),
        (["memory", "jobs"], ["jobs", "memory"]),
    ],
)
def test_parts_are_measured_as_asked(script, tmp_path, monkeypatch, data_dir, asked, measured):
    pipeline, done = script("pipeline"), []

    def measure(part):
        return lambda plan, rounds: done.append(part) or [pipeline.row(part, 1, "s", "none", 1)]

    monkeypatch.setattr(pipeline, "MEASURES", {part: measure(part) for part in pipeline.PARTS})
    pipeline.main([*asked, "--results", str(tmp_path), "--data-dir", str(data_dir)])
    assert done == measured
    lines = (tmp_path / "pipeline.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[-len(measured) :]] == measured


def test_an_unknown_part_is_named(script, capsys):
    with pytest.raises(SystemExit):
        script("pipeline").main(["pages"])
    assert "unknown part pages; there are jobs, data, memory, reproduce" in capsys.readouterr().err


def test_the_whole_command_is_timed_up_to_its_last_run_and_its_end(script, tmp_path, monkeypatch):
    pipeline, program, seen = script("pipeline"), tmp_path / "python", tmp_path / "seen"
    # It goes on once somebody has asked for the time at its first line, or fails a minute later.
    program.write_text(
        "#!/bin/sh\necho '[ 1/1] a run'\n"
        f"for i in $(seq 600); do [ -e {seen} ] && break; sleep 0.1; done\n"
        f'[ -e {seen} ] || exit 1\necho "$@"\nexit $FAIL\n'
    )
    program.chmod(0o755)
    times = iter((10, 13, 17, 20, 23))

    def clock():
        now = next(times)
        if now == 13:
            seen.touch()
        return now

    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(pipeline.sys, "executable", str(program))
    monkeypatch.setenv("FAIL", "0")
    trained, whole, said = pipeline.reproduce_all({"profile": "quick", "epochs": None})
    assert (trained, whole) == (3, 7)
    assert said.splitlines()[1] == "-m attn_book reproduce --profile quick"
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(RuntimeError, match="attn_book reproduce failed"):
        pipeline.reproduce_all({})


@pytest.mark.parametrize("changed", [False, True])
def test_a_second_call_that_has_nothing_to_do_is_a_row(
    script, tmp_path, monkeypatch, capsys, changed
):
    pipeline = script("pipeline")
    schedule = Schedule([], 1, {})
    schedule.up_to_date = len(PAGES) + len(GUIDES) - changed
    monkeypatch.setattr("attn_book.driver.schedule.missing_of", lambda plans: [])
    assert schedule.run() == 0
    said = capsys.readouterr().out
    monkeypatch.setattr(pipeline, "reproduce_all", lambda settings: (60.0, 80.0, said))
    metrics = {"seconds": 40.0, "peak_memory_mb": 900.0}
    for name, seconds in (("experiment", 0), ("metrics", 50)):
        (tmp_path / f"{name}.json").touch()
        os.utime(tmp_path / f"{name}.json", (seconds, seconds))
    run = SimpleNamespace(folder=tmp_path, metrics=metrics)
    plan = SimpleNamespace(experiments=[SimpleNamespace(name="a run")], results_dir=tmp_path)
    monkeypatch.setattr(pipeline.planned, "run_of", lambda *_: run)
    monkeypatch.setattr(pipeline.planning, "plan", lambda *_, **__: plan)
    monkeypatch.setattr(pipeline.reproduce, "job_count", lambda *_: 1)
    rows = pipeline.measure_reproduce({})
    assert ("second call" in [row["what"] for row in rows]) != changed


# Full size over PyTorch --------------------------------------------------------------------------


def test_the_recipes_at_full_width_are_those_of_the_records(script):
    run = script("run")
    records = sorted((PROJECT / "book" / "published" / "full_size" / "records").glob("*.json"))
    assert len(records) >= 15
    for path in records:
        record = read_json(path)
        recipe = asdict(run.recipe_of(record["task"], record["model"], {}))
        assert {name: recipe[name] for name in record["recipe"]} == record["recipe"], path
        assert recipe["decay"] == "all"


def test_the_command_line_changes_recipe_and_network(script, capsys):
    run = script("run")
    changed = ["--recipe", "epochs=2", "augmentation=pad_crop", "--options", "squeeze=avg"]
    options = run.parse(["cifar10", "senet_cifar", *changed])
    assert dict(options.options) == {"squeeze": "avg"}
    assert options.models == ["senet_cifar"]
    recipe = run.recipe_of(options.task, "senet_cifar", dict(options.recipe))
    assert (recipe.epochs, recipe.augmentation, recipe.nesterov) == (2, "pad_crop", True)
    with pytest.raises(SettingError, match=r"--recipe: .*'epoch'"):
        run.recipe_of("cifar10", "senet_cifar", {"epoch": 2})
    with pytest.raises(SettingError, match="epochs must be a whole number from 1, not 'two'"):
        run.recipe_of("cifar10", "senet_cifar", {"epochs": "two"})
    with pytest.raises(SystemExit):
        run.parse(["cifar10", "senet_cifar", "--recipe", "epochs"])
    assert "'epochs' is not like epochs=2" in capsys.readouterr().err


def write_animals(folder):
    random = np.random.default_rng(0)
    for animal in ("cat", "dog"):
        (folder / "animals10" / animal).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "animals10" / animal / f"{number:02}.png")


def test_at_full_width_a_profile_gives_recipe_and_fold(script, tmp_path):
    write_animals(tmp_path)
    run = script("run")
    models = ["se_resnet50", "srm_resnet50"]
    options = ["animals10", *models, "--profile", "study", "--data-dir", str(tmp_path)]
    options = run.parse(options)
    for fold, seed in ((None, 3), (1, 3)):
        options.fold = fold
        experiments, images = run.experiments_of(options, seed)
        assert [one.model for one in experiments] == models
        assert {one.fold for one in experiments} == {3 if fold is None else fold}
        assert {one.recipe for one in experiments} == {PROFILES["study"].recipes["animals10"]}
        assert len(images.val) == 8


def test_a_record_at_full_width_is_one_that_is_accepted(script, data_dir, tmp_path):
    run, folder = script("run"), tmp_path / "records"
    images = datasets.load("shapes", data_dir, short_side=64)
    recipe = run.recipe_of("cifar10", "senet_cifar", {"epochs": 2})
    experiment = Experiment("shapes", images.fingerprint, "senet_cifar", recipe, 0)
    kept = run.Kept(experiment, images, folder, compute={"device": "cpu"}, params=1)
    labels = images.val.labels
    for epoch in (1, 2):
        scores = np.random.default_rng(epoch).standard_normal((len(labels), 10)).astype("float32")
        row = {"epoch": epoch, "val_acc": float((scores.argmax(axis=1) == labels).mean())}
        kept.add(row, scores, labels)
        assert kept.record["finished"] == (epoch == 2)
        seal(tmp_path)
        assert full_size.problems(tmp_path) == []
    published = PROJECT / "book" / "published" / "full_size" / "records"
    assert read_json(published / "animals10-resnet50-s0.json").keys() <= kept.record.keys()


class InStep:
    """Networks that are trained in step, each a number that grows by one an epoch."""

    def __init__(self, networks, labels):
        self.networks = [SimpleNamespace(value=0.0) for _ in range(networks)]
        self.labels = labels
        for network in self.networks:
            network.state = lambda of=network: {"value": np.array([of.value])}
            network.restore = lambda state, of=network: setattr(of, "value", state["value"].item())

    def epochs(self, first):
        for epoch in range(first + 1, 4):
            found = []
            for network in self.networks:
                network.value += 1
                scores = np.eye(10, dtype="float32")[(self.labels + epoch) % 10]
                found.append(({"epoch": epoch, "train_acc": 0, "val_acc": 0, "seconds": 1}, scores))
            yield found


@pytest.fixture
def in_step(script, data_dir, tmp_path):
    """A function that begins two networks in step: their training and what is kept of them."""
    run, images = script("run"), datasets.load("shapes", data_dir, short_side=64)
    recipe = run.recipe_of("cifar10", "senet_cifar", {"epochs": 3})

    def begin(models=("senet_cifar", "vgg19"), precision="float32"):
        compute = {"precision": precision}
        made = [Experiment("shapes", images.fingerprint, model, recipe, 0) for model in models]
        kept = [run.Kept(one, images, tmp_path / "kept", compute=compute, params=1) for one in made]
        return InStep(len(models), images.val.labels), kept, images.val.labels

    return begin


def test_networks_in_step_are_kept_together_when_they_are_killed(script, in_step, monkeypatch):
    run, save = script("run"), script("run").save_tensors
    saved = iter(range(3))  # killed between the two of the second epoch

    def killed(*arguments):
        if next(saved, None) is None:
            raise KeyboardInterrupt
        save(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(run, "save_tensors", killed)
        run.go_on(*in_step(), keep_every=1)
    training, kept, labels = in_step()
    run.go_on(training, kept, labels, keep_every=1)
    assert [network.value for network in training.networks] == [3, 3]
    assert [one.record["finished"] for one in kept] == [True, True]
    left = {path.name for path in kept[0].path.parent.iterdir()}
    ends = (".json", ".scores.npy", ".safetensors")
    assert left == {f"{one.path.name}{end}" for one in kept for end in ends}


def test_a_finished_record_without_its_state_stays(script, in_step):
    run, (training, kept, labels) = script("run"), in_step()
    run.go_on(training, kept, labels, keep_every=0)  # no state at all
    files = [Path(f"{one.path}{end}") for one in kept for end in (".json", ".scores.npy")]
    before = [path.read_bytes() for path in files]
    again, *others = in_step()
    run.go_on(again, *others, keep_every=1)
    assert [path.read_bytes() for path in files] == before
    assert [network.value for network in again.networks] == [0, 0]
    with pytest.raises(SettingError, match="was computed in float32, and this is tf32: choose"):
        run.go_on(*in_step(precision="tf32"), keep_every=1)


def test_networks_of_different_epochs_are_to_be_trained_alone(script, in_step):
    run = script("run")
    run.go_on(*in_step(["vgg19"]), keep_every=2)
    with pytest.raises(
        SettingError, match=r"not from: .*senet.* 0, .*vgg19.* 2; train each of them"
    ):
        run.go_on(*in_step(), keep_every=1)
    for model in ("senet_cifar", "vgg19"):
        run.go_on(*in_step([model]), keep_every=1)
    run.go_on(*in_step(), keep_every=1)


def test_every_network_of_every_page_is_held_against_paddle(script, monkeypatch):
    check, block = script("check"), Entry("vgg19", "VGG-19 on a page of its own", {"attn": "eca"})
    titles = {e.title for page in PAGES.values() for part in page for e in part.entries}
    assert len(check.cases()) == len(titles)
    assert check.cases()["resnet50"].dataset == "animals10"
    pages = {**PAGES, "10_eca": (Comparison("animals10", (RESNET, block)),)}
    monkeypatch.setattr(check, "PAGES", pages)
    assert len(check.cases()) == len(titles) + 1


def test_a_difference_is_a_share_of_its_own_tensor_and_never_overlooked(script):
    check = script("check")
    ours = {"loss": np.array(2.0), "gradients/a": np.array([1.0, 4.0]), "gradients/b": np.zeros(2)}
    theirs = {**ours, "gradients/a": np.array([1.0, 4.4]), "gradients/b": np.array([0, 4e-6])}
    assert check.differences(ours, theirs) == {"loss": 0, "gradients": pytest.approx(1.0)}
    broken = {**ours, "gradients/b": np.array([0, np.nan])}
    assert np.isnan(check.differences(ours, broken)["gradients"])
    with pytest.raises(RuntimeError, match=r"same tensors: \['gradients/b'\]"):
        check.differences(ours, {name: ours[name] for name in ("loss", "gradients/a")})


@pytest.fixture(scope="module")
def peer():
    """An interpreter with PyTorch."""
    path = Path(os.environ.get("PEER_PYTHON", PROJECT / ".venv-torch" / "bin" / "python"))
    if not path.exists():
        pytest.skip(f"{path} is not there; make bench PEER=torch sets it up")
    return path


def test_a_network_over_pytorch_takes_the_step_that_paddle_takes(script, peer, capsys, monkeypatch):
    check = script("check")
    variants = ["srm_resnet50", "senet_cifar-squeeze_none"]
    check.main(["--peer", str(peer), "--only", *variants])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == variants
    monkeypatch.setattr(check, "LIMIT", 1e-20)
    with pytest.raises(SystemExit, match="differ by more than 1e-20: mobilenet_v2"):
        check.main(["--peer", str(peer), "--only", "mobilenet_v2"])


ALL_BUT = """
import run
import loop
recipe = run.recipe_of("animals10", "srm_resnet18", {"width": 0.125})
model = loop.build_model(run.Experiment("animals10", "", "srm_resnet18", recipe, 0), 4)
decayed = set(loop.build_optimizer(model, recipe).param_groups[0]["params"])
print(*(name for name, p in model.named_parameters() if p not in decayed))
"""


def test_decay_at_full_width_spares_the_block_of_srm_alone(peer):
    command = [str(peer), "-c", ALL_BUT]
    said = subprocess.run(command, cwd=FULL_SIZE, capture_output=True, text=True, check=True)
    spared = said.stdout.split()
    assert {name.partition(".attn.")[2] for name in spared} == {"cfc", "bn.weight", "bn.bias"}
    assert len(spared) == 3 * 8  # blocks


STOPS = """
import sys
sys.path.insert(0, {folder!r})
import run
import loop
whole = loop.Training.epochs
def one(self, first=0):
    yield next(whole(self, first))
    sys.exit("stopped")
loop.Training.epochs = one
run.main(sys.argv[1:])
"""


def test_networks_in_step_that_were_stopped_go_on_to_the_records_of_each_alone(peer, tmp_path):
    write_animals(tmp_path)
    small = ["width=0.125", "stem=small", "image_size=32", "batch_size=9", "epochs=2"]
    arguments = ["--cpu", "--recipe", *small, "drop_last=false"]
    arguments += ["--data-dir", str(tmp_path), "--out"]
    stops = ["-c", STOPS.format(folder=str(FULL_SIZE))]

    def run(program, models, workers, folder):
        command = [str(peer), *program, "animals10", *models, "--workers", workers, *arguments]
        command.append(str(tmp_path / folder / "records"))
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def records(folder):
        found = {path.name: read_json(path) for path in (tmp_path / folder).glob("*/*.json")}
        for record in found.values():
            del record["compute"]["group"]
            for row in record["history"]:
                del row["seconds"]
        return found

    program, both = [str(FULL_SIZE / "run.py")], ["bat_resnet18", "se_resnet18"]
    assert "stopped" in run(stops, both, "1", "together").stderr
    assert not any(record["finished"] for record in records("together").values())
    again = (both, "1", "together"), *(([one], "0", "alone") for one in both)
    for models, workers, folder in again:
        done = run(program, models, workers, folder)
        assert done.returncode == 0, done.stderr
    for folder in ("together", "alone"):
        seal(tmp_path / folder)
        assert full_size.problems(tmp_path / folder) == []
    assert all(record["finished"] for record in records("together").values())
    assert records("together") == records("alone")
    assert len(records("alone")) == 2
    for path in (tmp_path / "together" / "records").glob("*se_*"):
        path.unlink()
    assert "all go on from one epoch, not from: animals10-bat_resnet18" in run(
        program, both, "1", "together"
    ).stderr  # fmt: skip


def test_the_network_that_diverged_is_named(peer, tmp_path):
    write_animals(tmp_path)
    small = ["width=0.125", "stem=small", "image_size=32", "batch_size=8", "epochs=1"]
    command = [str(peer), str(FULL_SIZE / "run.py"), "animals10", "se_resnet18", "--cpu"]
    command += ["--workers", "0", "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--recipe", *small, "learning_rate=1e30"], capture_output=True, text=True
    )
    assert "error: se_resnet18: epoch 1 gives what is not finite, at rate" in done.stderr
