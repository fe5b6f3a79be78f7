"""Global context block.

Paper: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, Cao, Xu, Lin, Wei,
Hu, ICCV workshops 2019 (arXiv 1904.11492), section 3.4, equation 5.
Official code: https://github.com/xvjiarui/GCNet (mmdet/ops/gcb/context_block.py).

Deviations: timm's GlobalContext multiplies by default where the official block adds, has ratio
1/8, a layer norm eps of 1e-6 (``epsilon``) and starts its last layers at other values. The
defaults here are the official ones; so are the initial values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant, KaimingNormal

from attn_blocks.errors import choose
from attn_blocks.layers.base import (
    check_input,
    conv2d,
    pixels_in_a_row,
    positive,
    positive_number,
    register,
)


@register("gc")
class GlobalContext(nn.Layer):
    """y = x + f_add(context) and / or x * sigmoid(f_mul(context)), the same for every pixel.

    context = sum over the pixels of softmax(conv_mask(x)) * x; f = conv, layer norm, ReLU, conv.
    With both fusions x is multiplied first; each has an f of its own. The last convolution of f
    starts at 0: adding starts as the identity, multiplying with a gate of 0.5.

    Args:
        channels: C of the input [N, C, H, W].
        ratio: the hidden layer of f has int(C * ratio) units. It should leave at least 2: the
            layer norm of a single unit is a constant, and f no longer depends on the context.
        pooling: "att" as above, or "avg": the context is the mean over the pixels.
        fusion: ("add",), ("mul",) or ("mul", "add").
        hidden: units of the hidden layer, in place of int(C * ratio).
        epsilon: of the layer norm.

    Raises:
        ValueError: an unknown pooling or fusion, no fusion, int(C * ratio) = 0, an epsilon that is
            not above 0, or an input that is not [N, C, H, W].
    """

    def __init__(
        self,
        channels: int,
        ratio: float = 1 / 16,
        pooling: str = "att",
        fusion: Sequence[str] = ("add",),
        hidden: int | None = None,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.pooling = choose("pooling", pooling, ("att", "avg"))
        if isinstance(fusion, str) or not isinstance(fusion, Collection) or not fusion:
            raise ValueError(f'fusion={fusion!r}; give ("add",), ("mul",) or ("mul", "add")')
        for name in fusion:
            choose("fusion", name, ("add", "mul"))
        if hidden is None:
            hidden = int(channels * positive_number("ratio", ratio, 1 / 16))
            if hidden < 1:
                raise ValueError(
                    f"ratio={ratio} leaves none of {channels} channels; ratio=2/{channels} or "
                    "hidden=1 works"
                )
        positive("hidden", hidden)
        positive_number("epsilon", epsilon, 1e-5)

        zero = Constant(0.0)
        if pooling == "att":
            self.conv_mask = conv2d(
                channels, 1, weight_init=KaimingNormal(fan_in=channels), bias_init=zero
            )

        def transform() -> nn.Sequential:
            return nn.Sequential(
                ("conv1", conv2d(channels, hidden)),
                ("norm", nn.LayerNorm([hidden, 1, 1], epsilon=epsilon)),
                ("relu", nn.ReLU()),
                ("conv2", conv2d(hidden, channels, weight_init=zero, bias_init=zero)),
            )

        self.f_mul = transform() if "mul" in fusion else None
        self.f_add = transform() if "add" in fusion else None

    def attention(self, x: paddle.Tensor) -> paddle.Tensor:
        """The weight of each pixel in the context, [N, 1, H, W], summing to 1.

        Raises:
            ValueError: the pooling is "avg".
        """
        if self.pooling == "avg":
            raise ValueError('pooling="avg" weighs all pixels alike; attention needs "att"')
        logits = pixels_in_a_row(self.conv_mask(x))
        return F.softmax(logits, axis=-1).reshape([-1, 1, *x.shape[2:]])

    def context(self, x: paddle.Tensor) -> paddle.Tensor:
        """The one vector that every pixel receives, [N, C, 1, 1]."""
        if self.pooling == "avg":
            return x.mean((2, 3), keepdim=True)
        weights = pixels_in_a_row(self.attention(x))
        return paddle.matmul(pixels_in_a_row(x), weights, transpose_y=True).unsqueeze(-1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        context = self.context(x)
        if self.f_mul is not None:
            x = x * F.sigmoid(self.f_mul(context))
        if self.f_add is not None:
            x = x + self.f_add(context)
        return x
