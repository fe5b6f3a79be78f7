"""Shuffle Attention.

Paper: SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, Zhang, Yang, ICASSP 2021
(arXiv 2102.00240), section 3, equations 1 to 3.
Official code: https://github.com/wofmanaf/SA-Net (models/sa_resnet.py).

Deviations: the paper writes a group norm; the code's has as many groups as channels, that is an
instance norm, with its own weight and bias before the block's. The abstract counts 300 extra
parameters for ResNet-50; the code adds 708 (3C/64 in each of 16 blocks). This file is the code.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant

from attn_blocks.layers.base import check_input, largest_divisor, positive, register


@register("sa")
class ShuffleAttention(nn.Layer):
    """One half of each channel group is gated by channel, the other by pixel; then a shuffle.

    With m = C / (2G), all parameters have m entries, shared by the G groups. At the start the
    weights are 0 and the biases 1: every gate is sigmoid(1) = 0.731, so the block multiplies by
    0.731 and permutes the channels.

    Args:
        channels: C of the input [N, C, H, W].
        groups: G.

    Raises:
        ValueError: C is not a multiple of 2G, or the input is not [N, C, H, W].
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.groups = positive("groups", groups)
        if channels % 2:
            raise ValueError(f"channels={channels} is odd; two equal halves need an even number")
        if channels % (2 * groups):
            raise ValueError(
                f"{channels} channels do not divide into 2 * {groups} groups; "
                f"groups={largest_divisor(channels // 2, groups)} works"
            )
        half = channels // (2 * groups)
        zero, one = Constant(0.0), Constant(1.0)
        self.cweight = self.create_parameter([1, half, 1, 1], default_initializer=zero)
        self.cbias = self.create_parameter([1, half, 1, 1], default_initializer=one)
        self.sweight = self.create_parameter([1, half, 1, 1], default_initializer=zero)
        self.sbias = self.create_parameter([1, half, 1, 1], default_initializer=one)
        self.gn = nn.GroupNorm(half, half)

    def channel_gate(self, x0: paddle.Tensor) -> paddle.Tensor:
        """The gate of the first halves, [N*G, m, 1, 1]."""
        return F.sigmoid(self.cweight * x0.mean((2, 3), keepdim=True) + self.cbias)

    def spatial_gate(self, x1: paddle.Tensor) -> paddle.Tensor:
        """The gate of the second halves, [N*G, m, H, W]: sigmoid(sweight * GN(x1) + sbias)."""
        # With as many groups as channels, a group norm is an instance norm; Paddle differentiates
        # only the latter twice.
        gn = self.gn
        normed = F.instance_norm(x1, weight=gn.weight, bias=gn.bias, eps=gn._epsilon)
        return F.sigmoid(self.sweight * normed + self.sbias)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        grouped = x.reshape([-1, self.channels // self.groups, *x.shape[2:]])
        x0, x1 = grouped.split(2, axis=1)
        y = paddle.concat([x0 * self.channel_gate(x0), x1 * self.spatial_gate(x1)], axis=1)
        return self.shuffle(y.reshape([-1, *x.shape[1:]]))

    def shuffle(self, x: paddle.Tensor) -> paddle.Tensor:
        """Channels a1 a2 ... b1 b2 ... as a1 b1 a2 b2 ..., [N, C, H, W]."""
        pairs = x.reshape([-1, 2, self.channels // 2, *x.shape[2:]]).transpose([0, 2, 1, 3, 4])
        return pairs.reshape([-1, self.channels, *x.shape[2:]])
