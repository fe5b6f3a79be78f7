"""Statistics, verdicts and tables, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest

from attn_blocks import results
from attn_blocks.errors import CheckpointError, SettingError
from attn_blocks.experiment import PROFILES, Claim, plan
from attn_blocks.files import write_json
from attn_blocks.results import Effect, effect, judge
from attn_blocks.train import write_history


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
    found = results.claim_effect(SIGN, runs)
    assert found.seeds == 2
    assert found.mean == pytest.approx((2 + 5) / 2)
    assert results.claim_effect(SIGN, {"A": runs["A"]}) is None
    assert results.claim_effect(LEVEL, runs).mean == pytest.approx(100 * 2.69 / 3)


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
        results.read_history(path)


def test_reported_history_is_the_write_ups():
    history = results.reported_history("senet_cifar10")
    assert list(history["epoch"]) == list(range(1, 41))
    assert history["test_acc"][-1] == 0.8721
    assert (history["test_acc"].max(), history["test_acc"].argmax() + 1) == (0.8805, 38)
    assert all(len(column) == 40 for column in history.values())
    with pytest.raises(SettingError, match="senet_cifar10"):
        results.reported_history("senet")


def test_recipe_table_has_a_column_for_each_task(tmp_path):
    page = plan("01_se", "smoke", data_dir=tmp_path, results_dir=tmp_path)
    table = results.recipe_table(page)
    assert list(table.columns) == ["CIFAR-10", "Animals-10"]
    assert table.loc["stem"].tolist() == ["cifar", "small"]


@pytest.fixture
def published(tmp_path, monkeypatch, data_dir):
    """A study of one run that another machine made and published; its experiment."""
    study = plan("01_se", "smoke", 0, data_dir, tmp_path / "results")
    what = study.experiments[0]
    shared = replace(PROFILES["smoke"], shared=True)
    monkeypatch.setattr(results, "PROFILES", {**PROFILES, "smoke": shared})
    record = tmp_path / "published" / "smoke" / "runs" / what.name
    write_json(record / "experiment.json", {**what.to_dict(), "sources": {}})
    write_json(record / "metrics.json", {"status": "finished", "final_val_acc": 0.5})
    write_history(record / "history.csv", [])
    return study, what, record


def test_a_published_run_is_finished_here_too(published):
    study, what, record = published
    run = results.run_of(study, what)
    assert results.take_published(run, record.parents[2])
    assert run.status == "finished" and not run.has_weights
    assert {path.name for path in run.folder.iterdir()} == set(results.RECORDS)
    # The pages look into the networks of the first seed, so its weights are made all the same.
    assert not results.is_done(study, what)
    assert results.is_done(replace(study, weights=False), what)


def test_a_published_run_of_other_code_is_not_taken(published):
    study, what, record = published
    write_json(record / "experiment.json", {**what.to_dict(), "sources": {"train.py": "0" * 12}})
    assert not results.take_published(results.run_of(study, what), record.parents[2])


def test_short_profiles_are_always_trained(published, monkeypatch):
    study, what, record = published
    monkeypatch.setattr(results, "PROFILES", PROFILES)
    assert not results.take_published(results.run_of(study, what), record.parents[2])
