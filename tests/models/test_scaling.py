"""The rules for width: divisors, shares and rounding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks.layers import create_attn, keywords_of, list_attns
from attn_blocks.layers.base import largest_divisor
from attn_blocks.models.scaling import block_settings, halve, scale_channels

channels = st.integers(1, 256).map(lambda n: 8 * n)
widths = st.floats(0.05, 2.0)


@given(channels, widths)
@settings(max_examples=100)
def test_scaled_channels_are_the_nearest_multiple_of_8_of_at_least_90_percent(full, width):
    wanted = full * width
    allowed = [multiple for multiple in range(8, 8192, 8) if multiple >= 0.9 * wanted]
    scaled = scale_channels(full, width)
    assert scaled in allowed
    assert abs(scaled - wanted) == min(abs(multiple - wanted) for multiple in allowed)


def test_full_width_changes_nothing():
    assert [scale_channels(c, 1.0) for c in (16, 24, 64, 1280, 4096)] == [16, 24, 64, 1280, 4096]
    assert [scale_channels(c, 1 / 4) for c in (64, 128, 16)] == [16, 32, 8]


@given(st.integers(1, 2000), st.integers(0, 100))
@settings(max_examples=100)
def test_largest_divisor(number, limit):
    divisor = largest_divisor(number, limit)
    assert number % divisor == 0
    assert all(number % d for d in range(divisor + 1, limit + 1))


@pytest.mark.parametrize(("size", "times", "side"), [(224, 2, 56), (45, 1, 23), (45, 2, 12)])
def test_halve(size, times, side):
    assert halve(size, times) == side


@pytest.mark.parametrize("attn", list_attns())
@given(st.integers(1, 32).map(lambda n: 8 * n), widths)
@settings(max_examples=10)
def test_the_rules_give_settings_that_work_at_any_width(attn, count, width):
    chosen = block_settings(attn, count, 14, [28, 14], width, {})
    create_attn(attn, count, **chosen)
    assert set(chosen) == set(keywords_of(attn))


@pytest.mark.parametrize("attn", [name for name in list_attns() if name != "ge"])
def test_full_width_keeps_the_official_defaults(attn):
    assert block_settings(attn, 512, 28, [28, 14], 1.0, {}) == keywords_of(attn)


def test_hidden_layers_keep_their_share_and_at_least_one_channel():
    assert block_settings("se", 64, 7, [7], 0.25, {})["reduction"] == 16
    assert block_settings("se", 8, 7, [7], 0.25, {})["reduction"] == 8
    assert block_settings("gc", 8, 7, [7], 0.25, {})["ratio"] == 2 / 8


def test_an_option_wins_over_the_rule():
    assert block_settings("se", 8, 7, [7], 0.25, {"reduction": 4})["reduction"] == 4
    assert block_settings("sa", 64, 7, [7], 0.25, {"groups": 2})["groups"] == 2
    assert block_settings("bat", 64, 14, [28, 14], 1.0, {"size": 2})["size"] == 2
