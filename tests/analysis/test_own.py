"""A block of the reader's own beside the eight: one comparison more, by the protocol's rules."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from attn_blocks.files import read_json, write_json
from attn_book.analysis import evidence, own, plots, statistics
from attn_book.driver.judge import plan_of
from attn_book.records.recorded import RecordedImages
from attn_book.study.own import find
from attn_book.study.pages import NINE, RESNET

FINGERPRINT = "f" * 64
WOBBLE = np.array([[1, -1, 0, 1, -1], [0, 1, -1, -1, 1], [-1, 0, 1, 0, 0]]) / 200
BLOCKS = [f"{b}-ResNet-50" for b in ("SE", "GE", "SRM", "SGE", "SA", "NL", "GC", "BAT")]


def accuracy(gain, title, seed):
    """A level, a fold's own, and up to half a point beside them; 200 images a run."""
    return 0.80 + gain / 100 + 0.02 * seed + WOBBLE[len(title) % 3][seed]


def recorded(*_):
    images = range(8), range(4)
    return RecordedImages("animals10", "Shapes", "two classes", ("a", "b"), 2, *images, FINGERPRINT)


@pytest.fixture
def block(tmp_path):
    (tmp_path / "mine.py").write_text("class Mine: ...")
    return find("mine.py:Mine", tmp_path)


@pytest.fixture
def judged(tmp_path, block, study_of, study_run, monkeypatch):
    """A function that judges made-up runs: of the nine, and of an own block with that gain.

    ``known`` gives the accuracy of a network of the study for a fold, or None; ``ours`` that of the
    block's.
    """

    def judge(ours, folds=5, known=lambda title, seed: accuracy(0, title, seed)):
        monkeypatch.setattr(evidence, "PUBLISHED", tmp_path / "nothing")
        folder = tmp_path / "study"
        study_of(folder, lambda task, title, seed: known(title, seed), ["animals10"])
        page = plan_of(block, folds, "inside", "study", results_dir=tmp_path, load=recorded)
        entry = page.comparisons[0].comparison.entries[-1]
        for seed in range(folds):
            if ours(seed) is not None:
                study_run(folder, "animals10", entry, seed, ours(seed))
        return own.judged(page)

    return judge


def points(found):
    return {t: dict(row) for t, row in found.evidence.accuracies.items()}


def test_nine_comparisons_are_counted_and_the_residual_is_the_studys(judged):
    found = judged(lambda seed: accuracy(4, "Mine", seed))
    nine = {entry.title: points(found)[entry.title] for entry in NINE.entries}
    assert found.residual == statistics.residual(nine)
    assert found.residual.freedom == 32 and found.pooled == "the 9 networks of the study"
    expected = statistics.difference({**nine, **points(found)}, "Mine (own)", RESNET.title)
    half = statistics.dunnett_critical(9, 32) * found.residual.deviation * math.sqrt(2 / 5)
    assert found.verdict.value == pytest.approx(expected.value)
    assert found.verdict.interval == pytest.approx((expected.value - half, expected.value + half))
    t = expected.value / (found.residual.deviation * math.sqrt(2 / 5))
    assert found.verdict.p_adjusted == pytest.approx(statistics.dunnett_p(t, 9, 32))
    assert (found.verdict.outcome, found.verdict.folds) == ("better", "5 of 5 folds")
    # The eight stay as the protocol judges them.
    assert [verdict.claim.better for verdict in found.eight] == BLOCKS
    of_eight = statistics.dunnett_critical(8, 32) * found.residual.deviation * math.sqrt(2 / 5)
    for verdict in found.eight:
        assert verdict.interval[1] - verdict.value == pytest.approx(of_eight)
    table = own.outcome_table(found)
    assert list(table.index)[-1] == "Mine (own) > ResNet-50 on Animals-10" and len(table) == 9
    text = own.outcome_text(found)
    assert f"{found.residual.deviation:.2f} points with 32 degrees of freedom" in text
    assert "corrected for 9 comparisons" in text


@pytest.mark.parametrize(("gain", "word"), [(0, "within 1.5 points"), (-4, "worse")])
def test_a_block_that_does_nothing_or_harm_is_not_better(judged, gain, word):
    assert judged(lambda seed: accuracy(gain, "Mine", seed)).verdict.outcome == word


def test_fewer_folds_are_compared_on_those_that_both_have(judged):
    found = judged(lambda seed: accuracy(4, "Mine", seed), folds=3)
    assert found.verdict.folds == "3 of 3 folds" and found.residual.freedom == 32
    values = points(found)
    gains = [values["Mine (own)"][seed] - values[RESNET.title][seed] for seed in range(3)]
    assert found.verdict.value == pytest.approx(np.mean(gains))
    half = statistics.dunnett_critical(9, 32) * found.residual.deviation * math.sqrt(2 / 3)
    assert found.verdict.interval[1] - found.verdict.value == pytest.approx(half)
    table = own.accuracy_table(found)
    assert list(table.columns) == ["Fold 0", "Fold 1", "Fold 2", "Mean"]
    assert table.loc["Difference", "Fold 0"] == f"{gains[0]:+.2f}"


def without(title, fold):
    """The study's accuracies without one run."""
    return lambda t, seed: None if (t, seed) == (title, fold) else accuracy(0, t, seed)


@pytest.mark.parametrize(
    ("ours", "known"),
    [
        (lambda seed: accuracy(9, "Mine", seed) if seed < 2 else None, without(None, None)),
        (lambda seed: accuracy(9, "Mine", seed), without(RESNET.title, 1)),
    ],
    ids=["a run of the block is missing", "a run of the plain network is missing"],
)
def test_there_is_no_outcome_while_what_is_compared_is_incomplete(judged, ours, known):
    found = judged(ours, folds=3, known=known)
    assert found.verdict.outcome == "2 of 3 folds" and not found.verdict.is_decided
    assert found.verdict.interval is None and found.verdict.value is not None
    text = own.outcome_text(found)
    assert "There is no outcome until all runs that are compared have ended." in text
    assert "better" not in text and "degrees" not in text
    assert "Mean of both" in own.accuracy_table(found)


def test_an_incomplete_study_gives_the_residual_that_it_has(judged):
    found = judged(lambda s: accuracy(4, "Mine", s), folds=3, known=without("BAT-ResNet-50", 4))
    assert found.residual.freedom == (10 - 1) * (3 - 1)
    assert found.pooled.endswith("and Mine (own) on 3 folds")
    assert found.verdict.word == "better"
    assert not any(verdict.is_decided for verdict in found.eight)  # the study's rule


def only_plain(title, seed):
    return accuracy(0, title, seed) if title == RESNET.title else None


def test_two_networks_alone_leave_two_degrees_of_freedom(judged):
    found = judged(lambda seed: accuracy(3, "Mine", seed), folds=3, known=only_plain)
    assert found.residual.freedom == 2 and found.pooled == "ResNet-50 and Mine (own) on 3 folds"
    half = statistics.dunnett_critical(9, 2) * found.residual.deviation * math.sqrt(2 / 3)
    assert found.verdict.interval[1] - found.verdict.value == pytest.approx(half)
    assert found.verdict.outcome == "open"


def test_equal_differences_give_no_residual_and_no_interval(judged):
    found = judged(lambda s: accuracy(3, RESNET.title, s), folds=2, known=only_plain)
    assert found.residual.freedom == 0
    assert found.verdict.interval is found.verdict.corrected is None
    assert found.verdict.outcome == "open"
    text = own.outcome_text(found)
    assert "Nothing gives a residual (ResNet-50 and Mine (own) on 2 folds leave none)" in text
    assert "degrees of freedom" not in text


def add_report(found, changed):
    """What a run's metrics say of its blocks, made up."""
    for seed, run in found.evidence.runs[found.title].items():
        moved = {"start": 0.5, "end": 0.6, "moved": 0.1 * (seed + 1)}
        spread = {"mean": 0.001, "images": 0.2, "classes": 0.1}
        block = {"parameters": {"weight": moved}, "input": 0.4, "summand": spread}
        blocks = {"layer1.0.attn": block, "layer2.0.attn": block}
        path = run.folder / "metrics.json"
        frozen = {"accuracy": 0.8, "changed": changed}
        write_json(path, {**read_json(path), "blocks": blocks, "frozen": frozen})


@pytest.mark.parametrize("changed", [0.001, 0.2])
def test_what_the_blocks_learnt_and_do(judged, changed):
    found = judged(lambda seed: accuracy(4, "Mine", seed), folds=3)
    add_report(found, changed)
    found = judged(lambda seed: None, folds=3)
    assert own.movement_table(found.runs).loc["weight"].to_dict() == {
        "Start": "0.5",
        "End": "0.6",
        "Moved": "0.2",
    }
    assert own.modulation_table(found.runs).loc["Summand", "Over images"] == "0.2"
    assert found.verdict.constant == (changed < 0.005)
    constant = "(constant: no verdict on attention)" in found.verdict.in_full
    assert constant == ("do the same to all images" in own.frozen_text(found)) == (changed < 0.005)
    cost = {"Extra parameters (%)": 1.0, "Extra MACs (%)": 2.0, "Training step": 1.5}
    figure = plots.own_block(found, cost)
    texts = [text.get_text() for text in figure.findobj(plt.Text)]
    assert {f"Mine (own): {found.verdict.in_full}", "Mine (own)", "SE-ResNet-50"} <= set(texts)
    assert any("1.50 times the time of a training step" in text for text in texts)


def test_records_of_other_images_are_not_compared(judged, monkeypatch):
    monkeypatch.setitem(globals(), "FINGERPRINT", "e" * 64)
    found = judged(lambda seed: accuracy(4, "Mine", seed), folds=3)
    assert not any(found.evidence.runs.values())
    assert found.verdict.value is None and found.verdict.outcome == "0 of 3 folds"
    assert own.outcome_text(found).count("No run of ours speaks to it.") == 1
