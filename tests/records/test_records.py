"""Statistics, verdicts and tables, against numbers worked out by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_blocks.errors import CheckpointError, SettingError
from attn_blocks.files import read_json, save_tensors, write_json
from attn_book.analysis import tables, verdicts
from attn_book.analysis.statistics import Effect, effect
from attn_book.analysis.verdicts import judge
from attn_book.records import planned, published, reading, repair, reproduction
from attn_book.records import run as records_run
from attn_book.study import claims
from attn_book.study.claims import Claim
from attn_book.study.experiment import Experiment
from attn_book.study.plan import plan
from attn_book.study.recipes import PROFILES
from attn_book.training.build import build_model
from attn_book.training.run import write_history


def test_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, s/sqrt(3) = 0.577350, t(0.975, 2) = 4.302653 -> half = 2.484138
    found = effect([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-5)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-5)
    assert found.seeds == 3


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1, 1, 1], 2 / 8),  # two-sided: P(0 or 3 of 3 wins)
        ([1, 1, 1, 1, 1], 2 / 32),
        ([1, 1, 1, 1, -1], 2 * (1 + 5) / 32),
        ([1, 1, 0, 1], 2 / 8),  # a tie counts for neither
        ([1, -1], 1.0),
    ],
)
def test_sign_test_by_hand(values, p):
    assert effect(values).sign_p == pytest.approx(p)


def test_one_seed_has_no_interval_and_ties_no_sign():
    assert math.isnan(effect([0.5]).low)
    assert math.isnan(effect([0.0, 0.0]).sign_p)
    with pytest.raises(SettingError):
        effect([])


SIGN = Claim("p", "animals10", "A", "B", 21.7)
SIZE = Claim("p", "animals10", "A", "B", 21.7, by_size=True)
LEVEL = Claim("p", "cifar10", "A", None, 87.2, target=87.0)


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        (SIGN, 0.1, 2.0, "supported"),
        (SIGN, -2.0, -0.1, "contradicted"),
        (SIGN, -0.5, 0.5, "undecided"),
        (SIZE, 0.1, 2.0, "contradicted"),  # a gain, but nothing like the reported one
        (SIZE, 15.0, 30.0, "supported"),
        (SIZE, -5.0, 30.0, "undecided"),  # holds both the reported gain and none
        (SIZE, -5.0, 10.0, "contradicted"),
        (LEVEL, 87.1, 88.0, "supported"),
        (LEVEL, 86.0, 86.9, "contradicted"),
        (LEVEL, 86.0, 88.0, "undecided"),
    ],
)
def test_verdicts(claim, low, high, verdict):
    found = Effect((low + high) / 2, low, high, 3, 0.25)
    assert judge(claim, found, claim.task, "paper") == verdict
    assert judge(claim, found, "shapes", "paper") == "not tested"
    assert judge(claim, Effect(found.mean, low, high, 2, 1.0), claim.task, "paper") == "not tested"


def test_an_accuracy_of_the_write_ups_settings_needs_those_settings():
    assert judge(LEVEL, Effect(50, 49, 51, 5, 0.1), "cifar10", "study") == "not tested"
    assert judge(SIGN, None, "animals10") == "not tested"


class FakeRun:
    """As much of a run as the pairing reads."""

    def __init__(self, seed, accuracy):
        self.experiment = type("E", (), {"seed": seed})
        self.metrics = {"final_val_acc": accuracy}


def test_effects_are_paired_over_the_seeds_that_both_have():
    runs = {
        "A": [FakeRun(0, 0.80), FakeRun(1, 0.90), FakeRun(2, 0.99)],
        "B": [FakeRun(1, 0.85), FakeRun(0, 0.78)],
    }
    found = verdicts.claim_effect(SIGN, runs)
    assert found.seeds == 2
    assert found.mean == pytest.approx((2 + 5) / 2)
    assert verdicts.claim_effect(SIGN, {"A": runs["A"]}) is None
    assert verdicts.claim_effect(LEVEL, runs).mean == pytest.approx(100 * 2.69 / 3)


@pytest.mark.parametrize(
    "content",
    [
        "epoch,lr\n1,0.1\n",
        "epoch,lr,train_loss,train_acc,val_loss,val_acc,seconds\n1,0.1,2.0,0.5\n",
        "epoch,lr,train_loss,train_acc,val_loss,val_acc,seconds\n1,0.1,x,0,0,0,0\n",
    ],
)
def test_a_damaged_history_is_named(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="history.csv"):
        reading.read_history(path)


def test_reported_history_is_the_write_ups():
    history = claims.reported_history("senet_cifar10")
    assert list(history["epoch"]) == list(range(1, 41))
    assert history["test_acc"][-1] == 0.8721
    assert (history["test_acc"].max(), history["test_acc"].argmax() + 1) == (0.8805, 38)
    assert all(len(column) == 40 for column in history.values())
    with pytest.raises(SettingError, match="senet_cifar10"):
        claims.reported_history("senet")


def test_recipe_table_has_a_column_for_each_task(tmp_path):
    page = plan("01_se", "smoke", data_dir=tmp_path, results_dir=tmp_path)
    table = tables.recipe_table(page)
    assert list(table.columns) == ["CIFAR-10", "Animals-10"]
    assert table.loc["stem"].tolist() == ["cifar", "small"]


def write_run(folder, experiment, weights=False):
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
            "sources": {},
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
    for name in records_run.WEIGHTS if weights else ():
        save_tensors(folder / name, {"w": np.zeros(3)}, {"epoch": str(len(rows))})


@pytest.fixture
def run(tmp_path):
    """A run with all its files, nothing wrong with it."""
    recipe = replace(PROFILES["smoke"].recipes["animals10"], epochs=2)
    experiment = Experiment("shapes", "0" * 64, "resnet18", recipe, seed=1)
    found = records_run.Run(tmp_path / "runs" / experiment.name)
    write_run(found.folder, experiment, weights=True)
    return found


def test_the_speed_of_a_run_is_that_of_its_median_epoch(run):
    write_history(
        run.folder / "history.csv",
        [
            {**dict.fromkeys(reading.HISTORY_COLUMNS, 0.5), "epoch": i + 1, "seconds": seconds}
            for i, seconds in enumerate((2.0, 2.0, 4.0, 2.0, 40.0))
        ],
    )
    assert run.epoch_seconds == 2.0
    # 5.3 images a second over 50 seconds are 265 images, 53 of them in an epoch.
    assert run.images_per_second == pytest.approx(53 / 2)


def test_a_repeat_on_few_images_may_be_further_off(run):
    def allowed(share, images):
        run.metrics.update(final_val_acc=share, confusion=[[images]])
        return reproduction.tolerance(run)

    assert allowed(0.8, 10_000) == allowed(1.0, 359) == 0.05
    # The variance of the difference of two shares of 0.8, each on 359 images.
    assert (allowed(0.8, 359) / 3) ** 2 == pytest.approx(2 * 0.8 * 0.2 / 359)


def test_a_model_without_results_says_why(tmp_path):
    page = plan("03_srm", "smoke", seeds=0, data_dir=tmp_path, results_dir=tmp_path)
    experiments = {
        e.title: experiment for e, experiment in page.comparison("animals10").experiments
    }
    folders = {
        title: planned.run_of(page, experiment).folder for title, experiment in experiments.items()
    }
    for title in ("ResNet-50", "SRM-ResNet-50"):
        write_run(folders[title], experiments[title])
    write_json(folders["SRM-ResNet-50"] / "metrics.json", {"status": "failed", "reason": "nan"})
    found = tables.accuracy_table(page, "animals10")["Final accuracy"]
    assert (
        found["ResNet-50"]
        == f"{records_run.Run(folders['ResNet-50']).metrics['final_val_acc']:.4f}"
    )
    assert found["SRM-ResNet-50"] == "failed"
    assert found["SE-ResNet-50"] == found["GE-ResNet-50"] == "not trained"


def changed(name, **values):
    """A damage: a JSON record with other values (None takes one out)."""

    def damage(folder):
        record = {**read_json(folder / name), **values}
        record = {key: value for key, value in record.items() if value is not None}
        (folder / name).write_text(json.dumps(record))

    return damage


def cut(name, size):
    """A damage: a file without its last bytes."""

    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-size])

    return damage


def edited(name, old, new):
    """A damage: other text."""

    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


AGAIN = "make reproduce-all removes it and makes it again"
DAMAGES = {
    "history cut in a line": (
        cut("history.csv", 9),
        "history.csv is damaged (its last line is cut off)",
    ),
    "history cut in a number": (
        cut("history.csv", 2),
        "history.csv is damaged (its last line is cut off)",
    ),
    "history with a line cut": (
        edited("history.csv", ",1.5\n2", "\n2"),
        "history.csv is damaged (epoch 1 has 6 values)",
    ),
    "history empty": (
        cut("history.csv", 10_000),
        "history.csv is damaged (its columns are missing)",
    ),
    "history of other columns": (
        edited("history.csv", "val_acc", "acc"),
        "history.csv is damaged (its columns",
    ),
    "history with a hole": (
        edited("history.csv", "\n2,", "\n3,"),
        "history.csv is damaged (epoch 2 is called 3)",
    ),
    "history with NaN": (
        edited("history.csv", "0.7", "nan"),
        "history.csv is damaged (a value of epoch 1 is not finite)",
    ),
    "history of bytes": (
        lambda folder: (folder / "history.csv").write_bytes(b"\xff\0"),
        "history.csv is damaged ('utf-8' codec can't decode",
    ),
    "metrics cut": (cut("metrics.json", 5), "metrics.json is not readable JSON ("),
    "metrics a list": (
        lambda folder: (folder / "metrics.json").write_text("[]"),
        "metrics.json is damaged (list indices must be",
    ),
    "metrics without accuracy": (
        changed("metrics.json", final_val_acc=None),
        "metrics.json is damaged ('final_val_acc' is missing)",
    ),
    "metrics with NaN": (
        edited("metrics.json", "20", "NaN"),
        "metrics.json is not readable JSON (NaN is not JSON)",
    ),
    "metrics with text for a number": (
        changed("metrics.json", params="many"),
        "metrics.json is damaged (its params is",
    ),
    "metrics of an unknown status": (
        changed("metrics.json", status="fine"),
        "metrics.json is damaged (its status is",
    ),
    "metrics with an accuracy in percent": (
        changed("metrics.json", final_val_acc=86.1),
        "metrics.json is damaged (its final_val_acc is 86.1, which is no share)",
    ),
    "metrics with an empty confusion matrix": (
        changed("metrics.json", confusion=[[0, 0], [0, 0]]),
        "metrics.json is damaged (its confusion matrix counts no image)",
    ),
    "metrics with half a confusion matrix": (
        changed("metrics.json", confusion=[[1, 1], [1]]),
        "metrics.json is damaged (its confusion matrix is not square)",
    ),
    "metrics of another run": (
        changed("metrics.json", final_val_acc=0.75),
        "metrics.json does not fit the rest of the run (its history ends at accuracy 0.5)",
    ),
    "record cut": (cut("experiment.json", 5), "experiment.json is not readable JSON ("),
    "record without a seed": (
        changed("experiment.json", seed=None),
        "experiment.json is damaged ('seed' is missing)",
    ),
    "record with other data": (
        changed("experiment.json", data="Shapes"),
        "experiment.json is damaged (string ind",
    ),
    "record of another run": (
        changed("experiment.json", seed=2),
        "metrics.json does not fit the rest of the run (its record is that of shapes-resnet18-s2-",
    ),
    "weights cut": (cut("last.safetensors", 1), "last.safetensors is not a whole safetensors file"),
    "best weights empty": (
        cut("best.safetensors", 10_000),
        "best.safetensors is not a whole safetensors file",
    ),
    "weights of no epoch": (
        lambda folder: save_tensors(folder / "last.safetensors", {"w": np.zeros(3)}, {}),
        "last.safetensors does not say of which epoch it is",
    ),
    "weights of another epoch": (
        lambda folder: save_tensors(folder / "last.safetensors", {}, {"epoch": "1"}),
        "metrics.json does not fit the rest of the run (last.safetensors is not of epoch 2)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_removed(run, damage):
    change, words = DAMAGES[damage]
    assert repair.remove_corrupt_files(run) == [] and run.status == "finished" and run.has_weights
    change(run.folder)
    (problem,) = repair.remove_corrupt_files(run)
    assert problem.startswith(f"{run.folder}/{words}")
    assert problem.endswith(AGAIN)
    assert not (run.folder / words.split()[0]).exists()
    # Nothing is left to say, and the run is not taken for finished.
    assert repair.remove_corrupt_files(run) == []
    assert run.status == "unfinished" or not run.has_weights


def test_a_damaged_record_is_never_read(run):
    (run.folder / "metrics.json").write_text('{"status": "finished"}')
    (run.folder / "history.csv").write_text("")
    assert run.status == "unfinished"
    for attribute in ("metrics", "history"):
        with pytest.raises(CheckpointError, match=rf"{attribute}\..* is damaged"):
            getattr(run, attribute)


def test_a_checkpoint_needs_its_history_and_its_best_weights(run):
    assert len(repair.history_behind(run.folder, {"epoch": "2"})) == 2
    with pytest.raises(CheckpointError, match="last.safetensors is of epoch 3, the history has 2"):
        repair.history_behind(run.folder, {"epoch": "3"})
    with pytest.raises(CheckpointError, match="does not say of which epoch"):
        repair.history_behind(run.folder, {"epoch": "two"})
    # Stopped while epoch 2 was being saved: the best weights may already be its own.
    assert len(repair.history_behind(run.folder, {"epoch": "1"})) == 1
    save_tensors(run.folder / "best.safetensors", {"w": np.zeros(3)}, {"epoch": "1"})
    with pytest.raises(CheckpointError, match="best.safetensors is of epoch 1, the best was 2"):
        repair.history_behind(run.folder, {"epoch": "2"})


def test_weights_of_another_model_are_refused(run):
    tensors = {"w": np.zeros(3)} | {
        name: value.numpy() for name, value in build_model(run.experiment, 2).state_dict().items()
    }
    save_tensors(run.folder / "last.safetensors", tensors, {"epoch": "2"})
    with pytest.raises(
        CheckpointError, match=r"last.safetensors does not fit its model .*unknown: w"
    ):
        run.load_model()


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.parametrize(
    ("name", "read"),
    [("metrics.json", reading.read_metrics), ("experiment.json", reading.read_record)],
)
def test_changed_records_are_read_or_refused_in_our_own_words(run, name, read, data):
    whole = read_json(run.folder / name)
    if data.draw(st.booleans()):
        where = whole
        while True:
            key = data.draw(st.sampled_from(sorted(where)))
            if not isinstance(where[key], dict) or not where[key] or data.draw(st.booleans()):
                break
            where = where[key]
        if data.draw(st.booleans()):
            where[key] = data.draw(JSON)
        else:
            del where[key]
    else:
        whole = data.draw(JSON)
    path = run.folder / f"changed-{name}"
    path.write_text(json.dumps(whole))
    try:
        assert read(path) == whole
        if name == "experiment.json":
            (path.parent / "changed").mkdir(exist_ok=True)
            path.replace(path.parent / "changed" / name)
            assert records_run.Run(path.parent / "changed").experiment.name
    except CheckpointError as error:
        assert str(path) in str(error)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_histories_are_read_or_refused_in_our_own_words(run, data):
    content = bytearray((run.folder / "history.csv").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path = run.folder / "changed-history.csv"
    path.write_bytes(bytes(content))
    try:
        rows = reading.read_history(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(
            math.isfinite(value) or name == "val_loss"
            for row in rows
            for name, value in row.items()
        )


def test_an_infinite_validation_loss_is_no_damage(run):
    edited("history.csv", "0.6", "inf")(run.folder)
    assert repair.remove_corrupt_files(run) == []
    assert run.history["val_loss"].tolist() == [math.inf, 0.6]


@pytest.fixture
def published(tmp_path, monkeypatch, data_dir):
    """A study of one run that another machine made and published; its experiment."""
    study = plan("01_se", "smoke", 0, data_dir, tmp_path / "results")
    experiment = study.experiments[0]
    shared = replace(PROFILES["smoke"], shared=True)
    monkeypatch.setattr(results, "PROFILES", {**PROFILES, "smoke": shared})
    record = tmp_path / "published" / "smoke" / "runs" / experiment.name
    write_run(record, experiment)
    return study, experiment, record


def test_a_published_run_is_finished_here_too(published):
    study, experiment, record = published
    run = planned.run_of(study, experiment)
    assert published.import_published_record(run, record.parents[2])
    assert run.status == "finished" and not run.has_weights
    assert {path.name for path in run.folder.iterdir()} == set(reading.RECORDS)
    # The pages look into the networks of the first seed, so its weights are made beside the record.
    assert not planned.is_done(study, experiment)
    assert planned.is_done(replace(study, weights=False), experiment)
    assert planned.training_of(study, experiment).folder == run.repeat.folder
    write_run(run.repeat.folder, experiment, weights=True)
    assert run.has_weights and planned.is_done(study, experiment)


def test_a_run_that_was_begun_here_goes_on_here(published):
    study, experiment, record = published
    run = planned.run_of(study, experiment)
    save_tensors(run.folder / "last.safetensors", {"w": np.zeros(3)}, {"epoch": "1"})
    assert not published.import_published_record(run, record.parents[2])
    (run.folder / "last.safetensors").unlink()
    assert published.import_published_record(run, record.parents[2])
    # Nor is a run that has ended overwritten.
    assert not published.import_published_record(run, record.parents[2])


def test_a_published_run_can_be_trained_here_instead(published):
    study, experiment, record = published
    run = planned.run_of(study, experiment)
    assert not published.return_published(run, record.parents[2])
    published.import_published_record(run, record.parents[2])
    assert published.return_published(run, record.parents[2])
    assert run.status == "unfinished" and not list(run.folder.iterdir())
    # What was trained here is nobody else's, even if its numbers are the same.
    write_run(run.folder, experiment, weights=True)
    assert not published.return_published(run, record.parents[2])
    other_seed = replace(experiment, seed=1)
    assert not study.needs_weights(other_seed)
    assert replace(study, fresh=True).needs_weights(other_seed)


def test_a_published_run_of_other_code_is_not_taken(published):
    study, experiment, record = published
    whole = read_json(record / "experiment.json")
    write_json(record / "experiment.json", {**whole, "sources": {"train.py": "0" * 12}})
    assert not published.import_published_record(
        planned.run_of(study, experiment), record.parents[2]
    )


def test_short_profiles_are_always_trained(published, monkeypatch):
    study, experiment, record = published
    monkeypatch.setattr(results, "PROFILES", PROFILES)
    assert not published.import_published_record(
        planned.run_of(study, experiment), record.parents[2]
    )
