"""Squeeze-and-Excitation.

Paper: Squeeze-and-Excitation Networks, Hu, Shen, Sun, CVPR 2018 (arXiv 1709.01507, extended, with
Albanie and Wu), section 3, equations 2 to 4.
Official code: https://github.com/hujie-frank/SENet (Caffe); PyTorch copies named by the authors or
used as baselines: moskomule/senet.pytorch, hyunjaelee410/style-based-recalibration-module.

Deviations
* Biases: the official Caffe network and most copies have them in both layers (default here);
  moskomule/senet.pytorch has none (``bias=False``), which is what the paper's parameter count
  2/r * sum(N_s * C_s^2) says.
* Hidden width: C // r; timm takes the nearest multiple of 8, at least 8 (give ``hidden``).
* JYPark09/SENet-PyTorch puts out two numbers a channel, y = x * sigmoid(w) + b (``shift=True``).
  Its published file pools x and then overwrites the pooled value, so that nothing is squeezed and
  the gate is per pixel (``squeeze="none"``).
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.errors import choose
from attn_blocks.layers.base import check_input, conv2d, hidden_width, positive, register


@register("se")
class SqueezeExcite(nn.Layer):
    """y = x * sigmoid(W2 relu(W1 z + b1) + b2), z the mean of x over its pixels.

    At the start the weights are small and random, so the gate lies near 0.5.

    Args:
        channels: C of the input [N, C, H, W].
        reduction: r, the hidden layer has C // r units.
        bias: biases in both layers.
        hidden: units of the hidden layer, in place of C // r.
        squeeze: "avg" pools over the pixels (the paper), "none" gates every pixel by itself.
        shift: also predict a number to add, y = x * sigmoid(w) + b.

    Raises:
        ValueError: C // r is 0, an unknown ``squeeze``, or an input that is not [N, C, H, W].
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        bias: bool = True,
        hidden: int | None = None,
        squeeze: str = "avg",
        shift: bool = False,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.squeeze = choose("squeeze", squeeze, ("avg", "none"))
        self.shift = shift
        hidden = hidden_width(channels, reduction, hidden)
        self.fc1 = conv2d(channels, hidden, bias=bias)
        self.fc2 = conv2d(hidden, 2 * channels if shift else channels, bias=bias)

    def squeezed(self, x: paddle.Tensor) -> paddle.Tensor:
        """z, [N, C, 1, 1]; with ``squeeze="none"`` x itself."""
        return x.mean((2, 3), keepdim=True) if self.squeeze == "avg" else x

    def excite(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor | None]:
        """The factor and, with ``shift``, the summand of each channel (else None)."""
        e = self.fc2(F.relu(self.fc1(self.squeezed(x))))
        w, b = e.split(2, axis=1) if self.shift else (e, None)
        return F.sigmoid(w), b

    def gate(self, x: paddle.Tensor) -> paddle.Tensor:
        """What x is multiplied with: [N, C, 1, 1], or [N, C, H, W] with ``squeeze="none"``."""
        return self.excite(x)[0]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        gate, shift = self.excite(x)
        return x * gate if shift is None else x * gate + shift
