"""Bilinear attentional transform.

Paper: Non-Local Neural Networks With Grouped Bilinear Attentional Transforms, Chi, Yuan, Mu, Wang,
CVPR 2020, section 3.
Official code: https://github.com/BA-Transform/BAT-Image-Classification (model_zoo/non_local.py).

Deviations
* The official code takes the block height for both matrices, so it is limited to square maps;
  here, as in timm, rows and columns have their own.
* The official convolutions before a batch norm have a (useless) bias; timm's have none
  (``conv_bias=False``). timm also has other defaults: C/4, 2 groups.
* Class defaults of the official block are s=4, k=4; its network uses s=7, the default here.
* The official code multiplies by the matrices kron(p, I) and kron(q, I); here p and q act on the
  axes of blocks, which gives the same numbers with H/s (W/s) times fewer multiplications.
* Paddle's batch norm keeps the biased variance of a batch for evaluation, PyTorch's the unbiased.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.layers.base import (
    check_input,
    conv2d,
    hidden_width,
    kaiming_fan_out,
    known_shape,
    largest_divisor,
    positive,
    register,
)


def conv_bn_relu(inputs: int, outputs: int, bias: bool) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU, with the block's initial values."""
    conv = conv2d(inputs, outputs, bias=bias, weight_init=kaiming_fan_out(outputs))
    return nn.Sequential(("conv", conv), ("bn", nn.BatchNorm2D(outputs)), ("relu", nn.ReLU()))


class BATransform(nn.Layer):
    """relu(BN(conv(P x Q))): rows and columns of s x s blocks are mixed by the input's own p and q.

    With u = H/s and v = W/s, and p, q of the channel's group,
    y[i*u + r, j*v + t] = sum over a, b of p[i, a] * x[a*u + r, b*v + t] * q[b, j].

    Args:
        channels: C of the input [N, C, H, W]; channel c belongs to group c // (C / groups).
        size: s, the map is divided into s x s blocks.
        groups: k, each with a p and a q.
        conv_bias: biases in the convolutions that a batch norm follows.

    Raises:
        ValueError: C is not a multiple of the groups, an input that is not [N, C, H, W], or H or W
            is not a multiple of s.
    """

    def __init__(self, channels: int, size: int, groups: int, conv_bias: bool = True) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.size = positive("size", size)
        self.groups = positive("groups", groups)
        if channels % groups:
            raise ValueError(
                f"the {channels} channels that are transformed do not divide into {groups} groups; "
                f"groups={largest_divisor(channels, groups)} works"
            )
        entries = groups * size * size
        init = {"weight_init": kaiming_fan_out(entries, kernel_area=size)}
        self.conv1 = conv_bn_relu(channels, groups, conv_bias)
        self.conv_p = conv2d(groups, entries, (size, 1), **init)
        self.conv_q = conv2d(groups, entries, (1, size), **init)
        self.conv2 = conv_bn_relu(channels, channels, conv_bias)

    def transforms(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """p, its rows summing to 1, and q, its columns summing to 1; both [N, groups, s, s]."""
        k, s = self.groups, self.size
        sizes = [size for size in known_shape(x)[2:] if size is not None]
        if any(size % s for size in sizes):
            works = largest_divisor(math.gcd(*sizes), s)
            raise ValueError(
                f"a map of {'x'.join(map(str, sizes))} does not divide into {s}x{s} blocks; "
                f"size={works} works"
            )
        o = self.conv1(x)
        rows = F.adaptive_max_pool2d(o, (s, 1))
        columns = F.adaptive_max_pool2d(o, (1, s))
        p = F.sigmoid(self.conv_p(rows)).reshape([-1, k, s, s])
        q = F.sigmoid(self.conv_q(columns)).reshape([-1, k, s, s])
        return p / p.sum(axis=3, keepdim=True), q / q.sum(axis=2, keepdim=True)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        p, q = self.transforms(x)
        y = self.mix_rows(p, x)
        y = self.mix_rows(q.transpose([0, 1, 3, 2]), y.transpose([0, 1, 3, 2]))  # the columns
        return self.conv2(y.transpose([0, 1, 3, 2]))

    def mix_rows(self, p: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        """kron(p, I) x: the s bands of H/s rows are replaced by their mixtures, [N, C, H, W]."""
        height, width = x.shape[2:]
        bands = [-1, self.groups, self.channels // self.groups, self.size]
        y = p.unsqueeze(2) @ x.reshape([*bands, height // self.size * width])
        return y.reshape([-1, self.channels, height, width])

    def kronecker_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates that the official code spends beyond the forward above.

        It multiplies by kron(p, I) and kron(q, I) with all their zeros, and published figures
        count that.
        """
        return self.channels * height * width * (height + width - 2 * self.size)


@register("bat")
class BilinearAttnTransform(nn.Layer):
    """y = x + dropout(relu(BN(conv2(BATransform(relu(BN(conv1(x)))))))).

    At the start the batch norms have weight 1, so the block is not the identity (as published).

    Args:
        channels: C of the input [N, C, H, W].
        reduction: r, the transform works on C // r channels.
        size: s, H and W must be multiples of it.
        groups: k, with a pair of matrices each.
        dropout: share of whole channels that training drops.
        hidden: channels of the transform, in place of C // r.
        conv_bias: biases in the convolutions that a batch norm follows.

    Raises:
        ValueError: C // r is 0 or not a multiple of the groups, ``dropout`` is outside [0, 1), an
            input that is not [N, C, H, W], or H or W is not a multiple of s.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        size: int = 7,
        groups: int = 4,
        dropout: float = 0.2,
        hidden: int | None = None,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        if not (isinstance(dropout, int | float) and 0 <= dropout < 1):
            raise ValueError(f"dropout={dropout!r} must be at least 0 and less than 1, such as 0.2")
        inner = hidden_width(channels, reduction, hidden)
        self.conv1 = conv_bn_relu(channels, inner, conv_bias)
        self.transform = BATransform(inner, size, groups, conv_bias)
        self.conv2 = conv_bn_relu(inner, channels, conv_bias)
        self.dropout = nn.Dropout2D(dropout)

    def transforms(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The matrices p and q that mix rows and columns of blocks; both [N, groups, s, s]."""
        return self.transform.transforms(self.conv1(x))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        return x + self.dropout(self.conv2(self.transform(self.conv1(x))))
