"""Spatial Group-wise Enhance.

Paper: Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks,
Li, Hu, Yang, 2019 (arXiv 1905.09646), section 3, equations 1 to 5.
Official code: https://github.com/implus/PytorchInsight (classification/models/imagenet).

Deviations: the paper normalises with the population standard deviation; the official code, and
this file, with the unbiased one (n - 1 pixels), 1e-5 added to it outside the root. Under the
root the variance has a floor of 1e-24 here, which gives constant maps a finite gradient and changes
no value. Some copies start ``bias`` at 0; the official value is 1.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant

from attn_blocks.layers.base import (
    check_input,
    check_pixels,
    largest_divisor,
    positive,
    register,
)


@register("sge")
class SpatialGroupEnhance(nn.Layer):
    """Each of G channel groups is gated by how much its pixels look like the group's mean.

    At the start weight = 0 and bias = 1: every gate is sigmoid(1) = 0.731. The two parameters have
    G entries each, whatever C is.

    Args:
        channels: C of the input [N, C, H, W].
        groups: G; group g is the channels g*C/G to (g+1)*C/G - 1.

    Raises:
        ValueError: C is not a multiple of G, the input is not [N, C, H, W], or its maps are 1x1
            (no unbiased variance).
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.groups = positive("groups", groups)
        if channels % groups:
            raise ValueError(
                f"{channels} channels do not divide into {groups} groups; "
                f"groups={largest_divisor(channels, groups)} works"
            )
        self.weight = self.create_parameter([1, groups, 1, 1], default_initializer=Constant(0.0))
        self.bias = self.create_parameter([1, groups, 1, 1], default_initializer=Constant(1.0))

    def attention(self, x: paddle.Tensor) -> paddle.Tensor:
        """The gate of every group and pixel, [N, G, H, W]."""
        height, width = x.shape[2:]
        x = x.reshape([-1, self.channels // self.groups, height, width])  # each group by itself
        a = (x * x.mean((2, 3), keepdim=True)).sum(axis=1)  # [N*G, H, W]
        a = a - a.mean((1, 2), keepdim=True)
        variance = a.square().sum((1, 2), keepdim=True) / (height * width - 1)
        # The root has no finite slope at 0. A floor far below eps^2 leaves the value as it is
        # (a is 0 where it acts) and makes the gradient at constant maps finite.
        a = a / (variance.clip(min=1e-24).sqrt() + 1e-5)
        a = a.reshape([-1, self.groups, height, width])
        return F.sigmoid(self.weight * a + self.bias)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        check_pixels(self, x)
        height, width = x.shape[2:]
        grouped = x.reshape([-1, self.channels // self.groups, height, width])
        gate = self.attention(x).reshape([-1, 1, height, width])
        return (grouped * gate).reshape([-1, self.channels, height, width])
