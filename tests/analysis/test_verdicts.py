"""The words that a claim gets for an effect."""

import pytest

from attn_book.analysis import verdicts
from attn_book.analysis.statistics import Effect
from attn_book.analysis.verdicts import judge
from attn_book.study.claims import Claim

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
