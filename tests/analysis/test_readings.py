"""Readings: a figure's sentence has the figure's numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from attn_book.analysis import readings
from attn_book.analysis.judgement import Verdict
from attn_book.study.claims import CLAIMS, PRIMARY


def run(accuracy, train=0.9, loss=0.5, params=1e6, macs=1e6, confusion=((8, 2), (1, 9)), **metrics):
    return SimpleNamespace(
        metrics={
            "final_val_acc": accuracy,
            "final_train_acc": train,
            "params": params,
            "macs": macs,
            **metrics,
        },
        history={"val_loss": np.array([1.0, loss])},
        confusion=np.array(confusion),
        classes=["cat", "dog"],
    )


def test_curves_say_where_they_end_and_which_is_farthest_from_its_training_images():
    runs = {
        "ResNet-50": [run(0.6, train=0.9), run(0.7, train=0.8, loss=0.7)],
        "SE-ResNet-50": [run(0.8, train=0.75)],
        "GE-ResNet-50": [],
    }
    assert str(readings.training_curves(runs)) == (
        "Accuracy on validation images at the end of training: ResNet-50 0.650 (on training images "
        "0.850, validation loss 0.600) and SE-ResNet-50 0.800 (on training images 0.750, "
        "validation loss 0.500). The widest gap is that of ResNet-50, 20.0 points below its "
        "accuracy on training images."
    )
    above = str(readings.training_curves({"A": [run(0.8, train=0.5)], "B": [run(0.8, train=0.8)]}))
    assert above.endswith(
        "The widest gap is that of A, 30.0 points above its accuracy on training images."
    )
    assert str(readings.validation_curves(runs)) == (
        "From the highest end to the lowest: SE-ResNet-50 (0.800) and ResNet-50 (0.650)."
    )


def test_confusions_are_counted_over_all_runs():
    runs = {
        "ResNet-50": [run(0.5), run(0.5, confusion=((5, 5), (0, 10)))],
        "SE-ResNet-50": [run(1.0, confusion=((10, 0), (0, 10)))],
    }
    assert str(readings.confusion_matrices(runs)) == (
        "ResNet-50 most often takes cat for dog (7 of 20 images) and dog for cat (1 of 20 images); "
        "SE-ResNet-50 confuses nothing."
    )


def test_networks_above_and_below_the_plain_one_have_their_cost():
    blocks = {"blocks": {"attn": {}}}
    runs = {
        "SE-ResNet-50": [run(0.75, params=1.1e6, **blocks)],
        "ResNet-50": [run(0.7)],
        "BAT-ResNet-50": [run(0.65, macs=1.5e6, **blocks)],
        "NL-ResNet-50": [run(0.7, params=0.9e6, **blocks)],
    }
    assert str(readings.accuracy_against_cost(runs)) == (
        "ResNet-50 has 0.700; above it lies SE-ResNet-50 (+5.0 points, +10.0% parameters, +0.0% "
        "multiply-adds); not above it lie BAT-ResNet-50 (-5.0 points, +0.0% parameters, +50.0% "
        "multiply-adds) and NL-ResNet-50 (+0.0 points, -10.0% parameters, +0.0% multiply-adds)."
    )


@pytest.mark.parametrize("is_complete", [False, True])
def test_gains_are_in_order_with_intervals_only_where_there_are_any(is_complete):
    claims = [claim for claim in CLAIMS if claim.family == PRIMARY][:3]
    values = dict(zip(claims, (-0.5, 1.25, None), strict=True))
    found = []
    for claim, value in values.items():
        interval = (value - 1, value + 1) if is_complete and value is not None else None
        shared = {"is_own": True, "unit": "points", "folds": "", "outcome": ""}
        found.append(Verdict(claim, **shared, value=value, interval=interval))
    names = [claim.better for claim in claims]
    first, second = (" [+0.2, +2.2]", " [-1.5, +0.5]") if is_complete else ("", "")
    assert str(readings.gains(found)) == (
        f"Above ResNet-50, from the largest to the smallest: {names[1]} +1.2 points{first} and "
        f"{names[0]} -0.5 points{second}; no finished run of {names[2]}."
    )


def test_nothing_is_read_from_nothing():
    for reading in (
        readings.training_curves,
        readings.validation_curves,
        readings.confusion_matrices,
        readings.accuracy_against_cost,
    ):
        assert str(reading({"ResNet-50": []})) == readings.NOTHING
    assert str(readings.gains([])) == readings.NOTHING
