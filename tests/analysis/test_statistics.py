"""Means, intervals and tests over seeds, against numbers worked out by hand."""

import math

import pytest

from attn_blocks.errors import SettingError
from attn_book.analysis.statistics import effect


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
