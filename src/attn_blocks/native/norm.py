"""The layers whose forward and backward passes ``norm.cc`` computes on the CPU.

``native.accelerate`` makes these out of Paddle's layers, nobody else does. Paddle's own way is
taken for what the operators do not cover: static graphs, other types than float32, gradients
through a batch norm in evaluation mode, and one of a single value a channel in training.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F


def _covered(*tensors: paddle.Tensor) -> bool:
    return paddle.in_dynamic_mode() and all(
        x.dtype == paddle.float32 and x.size > 0 and x.shape == tensors[0].shape for x in tensors
    )


def call(operator: str, *arguments: Any) -> list[paddle.Tensor]:
    """The outputs of a compiled operator, named without its prefix."""
    outputs = paddle.base.core.eager._run_custom_op(f"attn_blocks_{operator}", *arguments)
    if not paddle.is_grad_enabled():
        for y in outputs:
            y.stop_gradient = True  # Paddle records nothing then, but leaves the operator's flag
    return outputs


@functools.cache
def nothing() -> paddle.Tensor:
    """What the operators take for an argument that is absent."""
    return paddle.zeros([0], "float32")


class NativeBatchNorm2D(nn.BatchNorm2D):
    """``nn.BatchNorm2D``, by itself or with the ReLU that follows it."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._normalise(x, False) if self._is_covered(x) else super().forward(x)

    def forward_relu(self, x: paddle.Tensor) -> paddle.Tensor:
        """relu(forward(x)) in one pass; see ``norm_relu``."""
        return self._normalise(x, True) if self._is_covered(x) else F.relu(super().forward(x))

    def _is_covered(self, x: paddle.Tensor) -> bool:
        if x.ndim != 4 or x.shape[1] != self._num_features or not _covered(x):
            return False
        # Of one value a channel Paddle takes no statistics in training, but gives it back.
        return x.size > x.shape[1] if self.training else not paddle.is_grad_enabled()

    def _normalise(self, x: paddle.Tensor, relu: bool) -> paddle.Tensor:
        return call(
            "batch_norm",
            x,
            self.weight,
            self.bias,
            self._mean,
            self._variance,
            self._epsilon,
            self._momentum,
            self.training,
            relu,
        )[0]


class NativeReLU(nn.ReLU):
    """``nn.ReLU``."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return call("add_relu", x, nothing())[0] if _covered(x) else super().forward(x)


def norm_relu(norm: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    """relu(norm(x)), in one pass where the norm is a native one."""
    is_native = isinstance(norm, NativeBatchNorm2D)
    return norm.forward_relu(x) if is_native else F.relu(norm(x))


def add_relu(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """relu(x + y) in one pass; two tensors that are broadcast go Paddle's way."""
    return call("add_relu", x, y)[0] if _covered(x, y) else F.relu(x + y)


def native_class(layer: nn.Layer) -> type[nn.Layer] | None:
    """The class here that computes what ``layer`` does; None where there is none."""
    if type(layer) is nn.BatchNorm2D:  # exactly: a subclass may compute something else
        plain = layer._data_format == "NCHW" and not layer._use_global_stats
        affine = layer.weight is not None and layer.bias is not None
        return NativeBatchNorm2D if plain and affine else None
    return NativeReLU if type(layer) is nn.ReLU else None


def difference() -> float:
    """Largest relative difference to Paddle's own results, outputs, gradients and statistics."""
    random = np.random.default_rng(0)  # not Paddle's generator: a check must not move its state
    draw = functools.partial(random.standard_normal, dtype="float32")
    start, other, weight, bias = draw([3, 5, 7, 6]), draw([3, 5, 7, 6]), draw(5), draw(5)
    results = []
    for native in (True, False):
        norm = (NativeBatchNorm2D if native else nn.BatchNorm2D)(5)
        norm.weight.set_value(weight), norm.bias.set_value(bias)
        x, y = (paddle.to_tensor(array, stop_gradient=False) for array in (start, other))
        # At a quarter: no value lies so close to the ReLU's edge that rounding decides.
        summands = norm(x) + norm_relu(norm, x), y + 0.25
        z = add_relu(*summands) if native else F.relu(sum(summands))
        (z * paddle.to_tensor(start)).sum().backward()
        found = (z, x.grad, y.grad, norm.weight.grad, norm.bias.grad, norm._mean, norm._variance)
        results.append([tensor.numpy() for tensor in found])
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*results, strict=True))
