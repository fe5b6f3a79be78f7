"""The steps of attention blocks that ``maps.cc`` computes: one number a map, and gates.

All take and give float32 tensors on the CPU; ``attention`` decides when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional as F

from attn_blocks.native.norm import call


def mean(x: paddle.Tensor) -> paddle.Tensor:
    """The mean of each map, [N, C, H, W] -> [N, C, 1, 1]."""
    return call("map_mean", x)[0]


def moments(x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Mean and unbiased variance of each map of at least two pixels, two [N, C]."""
    first, second = call("map_moments", x)
    return first, second


def product(x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """The inner product of each map with its channel's weights [C, 1, H, W]: [N, C, 1, 1]."""
    return call("map_product", x, weight)[0]


def gate(x: paddle.Tensor, factor: paddle.Tensor) -> paddle.Tensor:
    """x * factor, [N, G, 1, 1] or [N, G, H, W] for G groups of successive channels."""
    return call("gate", x, factor)[0]


def shuffle_attention(
    x: paddle.Tensor,
    number_scale: paddle.Tensor,
    number_shift: paddle.Tensor,
    pixel_scale: paddle.Tensor,
    pixel_shift: paddle.Tensor,
    epsilon: float = 1e-5,
) -> paddle.Tensor:
    """All of ``layers.sa``: [N, C, H, W] in groups of 2m channels, scales and shifts [m].

    The first m channels of a group are multiplied with sigmoid(scale * mean + shift), the others
    with the same of their normalised pixels; ``epsilon`` is that norm's. Then comes the shuffle.
    """
    scales_and_shifts = number_scale, number_shift, pixel_scale, pixel_shift
    return call("shuffle_attention", x, *scales_and_shifts, epsilon)[0]


def _plain_shuffle_attention(x: paddle.Tensor, *scales_and_shifts: paddle.Tensor) -> paddle.Tensor:
    a, b, c, d = (values.reshape([1, -1, 1, 1]) for values in scales_and_shifts)
    grouped = x.reshape([-1, 2 * a.size, *x.shape[2:]])
    x0, x1 = grouped.split(2, axis=1)
    number = F.sigmoid(a * x0.mean((2, 3), keepdim=True) + b)
    pixel = F.sigmoid(c * F.instance_norm(x1) + d)
    y = paddle.concat([x0 * number, x1 * pixel], axis=1)
    pairs = y.reshape([x.shape[0], 2, -1, *x.shape[2:]]).transpose([0, 2, 1, 3, 4])
    return pairs.reshape(x.shape)


# Each step: the compiled one, Paddle's, and the shapes of what they take.
_STEPS = (
    (mean, lambda x: x.mean((2, 3), keepdim=True), [[3, 4, 5, 7]]),
    (moments, lambda x: (x.mean((2, 3)), x.var((2, 3))), [[3, 4, 5, 7]]),
    (
        product,
        lambda x, w: (x * w.transpose([1, 0, 2, 3])).sum((2, 3), keepdim=True),
        [[3, 4, 5, 7], [4, 1, 5, 7]],
    ),
    (gate, lambda x, g: x * g, [[3, 4, 5, 7], [3, 4, 1, 1]]),
    (gate, lambda x, g: x * g.repeat_interleave(2, 1), [[3, 4, 5, 7], [3, 2, 5, 7]]),
    (shuffle_attention, _plain_shuffle_attention, [[3, 8, 5, 7], [2], [2], [2], [2]]),
)


def difference() -> float:
    """Largest relative difference to Paddle's own results, outputs and gradients."""
    random = np.random.default_rng(0)  # not Paddle's generator: a check must not move its state
    worst = 0.0
    for *functions, shapes in _STEPS:
        arrays = [random.standard_normal(shape, dtype="float32") for shape in shapes]
        fast, own = (_results(function, arrays) for function in functions)
        off = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(fast, own, strict=True)]
        worst = max(worst, float(max(off)))
    return worst


def _results(function: Callable[..., Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What a step makes of these arrays, and the gradients of each."""
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = paddle.zeros([])
    for y in outputs:
        weights = np.linspace(-1, 2, y.size, dtype="float32").reshape(y.shape)
        loss = loss + (y * paddle.to_tensor(weights)).sum()
    loss.backward()
    return [y.numpy() for y in outputs] + [x.grad.numpy() for x in inputs]
