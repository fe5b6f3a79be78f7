"""Two steps in one: what a processor computes faster together, ``native`` computes together."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F


def norm_relu(norm: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    """relu(norm(x)), in one pass where the norm has a way to do that (``forward_relu``)."""
    together = getattr(norm, "forward_relu", None)
    return F.relu(norm(x)) if together is None else together(x)


class AddReLU(nn.Layer):
    """relu(x + y), the end of a residual block; two tensors of one shape -> the same shape."""

    def forward(self, x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
        return F.relu(x + y)
