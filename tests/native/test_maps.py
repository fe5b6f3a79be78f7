"""The compiled steps of attention blocks: Paddle's numbers, and a check that notices others."""

import numpy as np
import pytest

from attn_blocks import native
from attn_blocks.native import maps

import paddle  # isort: skip

pytestmark = pytest.mark.skipif(
    not native.available(), reason=f"no native operators here: {native.describe()['reason']}"
)
# Every step with inputs of another shape than those that are tried when the library is loaded.
SHAPES = {
    "mean": [[2, 3, 1, 1]],
    "moments": [[5, 2, 9, 4]],
    "product": [[2, 6, 8, 8], [6, 1, 8, 8]],
    "gate": [[4, 6, 7, 7], [4, 6, 7, 7]],
    "shuffle_attention": [[2, 12, 4, 9], [3], [3], [3], [3]],
}


@pytest.mark.parametrize("name", SHAPES)
def test_equals_paddles_with_all_gradients(name):
    plain = next(own for fast, own, _ in maps._STEPS if fast.__name__ == name)
    arrays = [np.random.default_rng(3).normal(2, 1, s).astype("float32") for s in SHAPES[name]]
    found = [maps._results(step, arrays) for step in (getattr(maps, name), plain)]
    for fast, own in zip(*found, strict=True):
        assert fast.shape == own.shape
        np.testing.assert_allclose(fast, own, rtol=1e-4, atol=1e-5 * np.abs(own).max())


def test_extreme_gates_and_what_is_no_number():
    x = np.random.default_rng(3).normal(2, 1, [2, 4, 3, 3]).astype("float32")
    x[0, 0, 0, 0], x[1, 3, 0, 0] = np.nan, np.inf
    one, shifts = np.ones(2, "float32"), np.array([-200, 200], "float32")
    arrays = [x, one, shifts, one, shifts]
    fast, own = (
        step(*map(paddle.to_tensor, arrays)).numpy()
        for step in (maps.shuffle_attention, maps._plain_shuffle_attention)
    )
    np.testing.assert_allclose(fast, own, rtol=1e-5, atol=1e-30)  # and not a number where it is not
    assert np.isnan(fast).any() and (np.abs(fast[~np.isnan(fast)]) > 1).any()


def test_an_upstream_gradient_that_is_a_view():
    x = paddle.randn([2, 4, 3, 5])
    gates = [paddle.to_tensor(np.full([2, 4, 1, 1], 0.5, "float32"), stop_gradient=False)] * 2
    upstream = paddle.randn([2, 5, 3, 4]).transpose([0, 3, 2, 1])
    y = maps.gate(x, gates[0])
    fast = paddle.grad(y, gates[0], upstream)[0]
    own = paddle.grad(x * gates[1], gates[1], upstream)[0]
    np.testing.assert_allclose(fast.numpy(), own.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", range(len(maps._STEPS)))
def test_a_wrong_step_is_noticed(number, monkeypatch):
    _, own, shapes = maps._STEPS[number]

    def wrong(*inputs):
        found = own(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        return (*found[:-1], found[-1] * 1.01)

    assert maps.difference() < 1e-4
    monkeypatch.setattr(maps, "_STEPS", ((wrong, own, shapes),))
    assert maps.difference() > 1e-3
