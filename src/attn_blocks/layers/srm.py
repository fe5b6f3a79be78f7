"""Style-based Recalibration Module.

Paper: SRM: A Style-based Recalibration Module for Convolutional Neural Networks, Lee, Kim, Nam,
ICCV 2019 (arXiv 1903.10829), section 3.
Official code: https://github.com/hyunjaelee410/style-based-recalibration-module.

Deviations: the paper takes the population standard deviation without an eps; the official code,
and this file, the unbiased variance with 1e-5 added under the root. Paddle's batch norm keeps the
biased variance of a batch for evaluation, PyTorch's the unbiased, twice as large for two images.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant

from attn_blocks.layers.base import (
    check_batch_statistics,
    check_input,
    check_pixels,
    pixels_in_a_row,
    positive,
    register,
)


@register("srm")
class StyleRecalibration(nn.Layer):
    """y = x * sigmoid(BN(w1 * mean + w2 * std)), channel by channel.

    At the start w1 = w2 = 0, so the gate is sigmoid(0) = 0.5. The batch norm sees one value per
    sample and channel; it needs training batches of at least 2 (and learns nothing from 2: the
    normalised values are then +-1 whatever the weights are).

    The official training code exempts its parameters from weight decay.

    Args:
        channels: C of the input [N, C, H, W].

    Raises:
        ValueError: an input that is not [N, C, H, W], 1x1 maps (no unbiased variance), or a
            training batch of 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.cfc = self.create_parameter([channels, 2], default_initializer=Constant(0.0))
        self.bn = nn.BatchNorm2D(channels)

    def style(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Mean and standard deviation of each channel, two [N, C]."""
        x = pixels_in_a_row(x)
        mean = x.mean(axis=-1, keepdim=True)
        variance = (x - mean).square().sum(axis=-1) / (x.shape[-1] - 1)
        return mean.squeeze(-1), (variance + 1e-5).sqrt()

    def gate(self, x: paddle.Tensor) -> paddle.Tensor:
        """What x is multiplied with, [N, C, 1, 1]."""
        mean, std = self.style(x)
        z = (self.cfc[:, 0] * mean + self.cfc[:, 1] * std).unsqueeze([2, 3])
        check_batch_statistics(self, z)
        return F.sigmoid(self.bn(z))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        check_pixels(self, x)
        return x * self.gate(x)
