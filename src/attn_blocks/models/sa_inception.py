"""SA-Residual-Inception-Net: shuffle attention between residual Inception modules.

The network of the book's write-up on shuffle attention (Zhang and Yang 2021,
https://arxiv.org/abs/2102.00240) for 16 classes of Caltech-101: 1,559,600 parameters. Inception
modules after Szegedy et al. 2015, https://arxiv.org/abs/1409.4842.
"""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

from attn_blocks.errors import SettingError, choose
from attn_blocks.layers import create_attn
from attn_blocks.models.scaling import STEMS, block_settings, halve, scale_channels

BN_EPSILON = 1e-3
POOLS = 6  # max-pools of 2 in the published network, the stem's among them


def _conv_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2D(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU())


def _conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2D(inputs, outputs, 3, stride, padding=1),
        nn.BatchNorm2D(outputs, epsilon=BN_EPSILON),
        nn.ReLU(),
    )


class Inception(nn.Layer):
    """Four routes, concatenated: [N, inputs, H, W] -> [N, sum of the routes' outputs, H, W].

    Args:
        inputs: channels of x.
        one: outputs of the 1x1 route.
        three: inner and outer channels of the 1x1 - 3x3 route.
        five: inner and outer channels of the 1x1 - 5x5 route.
        pool: outputs of the route of max-pooling and 1x1.
    """

    def __init__(
        self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int
    ):
        super().__init__()
        self.one = _conv_relu(inputs, one, 1)
        self.three = nn.Sequential(_conv_relu(inputs, three[0], 1), _conv_relu(*three, 3))
        self.five = nn.Sequential(_conv_relu(inputs, five[0], 1), _conv_relu(*five, 5))
        self.pool = nn.Sequential(nn.MaxPool2D(3, 1, padding=1), _conv_relu(inputs, pool, 1))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.concat([self.one(x), self.three(x), self.five(x), self.pool(x)], axis=1)


class ResidualInception(nn.Layer):
    """relu(inception(x) + conv1x1(x)); [N, inputs, H, W] -> [N, inception's outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, inception: Inception):
        super().__init__()
        self.inception = inception
        self.shortcut = nn.Conv2D(inputs, outputs, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.inception(x) + self.shortcut(x))


class SAInception(nn.Layer):
    """Images [N, 3, H, W] -> logits [N, num_classes].

    The write-up states the first normalisation's epsilon, 1e-3, and the first convolution's bias;
    the parameter count shows that every convolution has one, and the epsilon is taken for every
    normalisation in the same way. Each convolution of an Inception route is followed by a ReLU.
    Initial values are not stated: Paddle's own, as for the write-up's other networks. The last
    pooling, 2x2 on the 2x2 map of a 256-pixel image, is written as a global average, so that
    other image sizes work.

    Args:
        num_classes: outputs of the last layer.
        width: scales every channel count; a residual module has as many channels as its four
            routes together.
        stem: ``"imagenet"`` as published, a convolution of stride 2 and a max-pool;
            ``"small"`` without that max-pool; ``"cifar"`` without it and with stride 1.
        image_size: side of the images, pixels.
        groups: of the shuffle attention; None for 64 * width, see ``scaling.block_settings``.
        attn: False leaves the shuffle attention out.

    Raises:
        SettingError: an unknown stem, or images that are too small for the max-pools.
        ValueError: the channels do not divide into the groups.
    """

    def __init__(
        self,
        num_classes: int = 16,
        width: float = 1.0,
        stem: str = "imagenet",
        image_size: int = 256,
        groups: int | None = None,
        attn: bool = True,
    ):
        super().__init__()
        choose("stem", stem, STEMS)
        stride = 1 if stem == "cifar" else 2
        pools = POOLS if stem == "imagenet" else POOLS - 1
        side = halve(image_size, stride - 1)
        if side < 2**pools:
            others = ("64x64 with stem='small'", "32x32 with stem='cifar'")[STEMS.index(stem) :]
            raise SettingError(
                f"{image_size}x{image_size} images are too small for stem={stem!r}, "
                f"which halves them {pools + stride - 1} times; use images of at least "
                f"{stride * 2**pools}x{stride * 2**pools}"
                + "".join(f", or {other}" for other in others)
            )

        def scaled(channels: int) -> int:
            return scale_channels(channels, width)

        one, pool = scaled(64), scaled(32)
        three, five = (scaled(64), scaled(128)), (scaled(16), scaled(32))
        channels = one + three[1] + five[1] + pool
        options = {} if groups is None else {"groups": groups}
        sa = block_settings("sa", channels, side, [side], width, options)

        def attention() -> nn.Layer:
            # Without it an identity keeps its place, so that every parameter keeps its name.
            return create_attn("sa", channels, **sa) if attn else nn.Identity()

        def residual() -> nn.Layer:
            inception = Inception(channels, one, three, five, pool)
            return ResidualInception(channels, channels, inception)

        def halving() -> nn.Layer:
            return nn.MaxPool2D(2)

        first = _conv_bn_relu(3, scaled(64), stride)
        self.b1 = nn.Sequential(first, halving()) if stem == "imagenet" else first
        self.b2 = nn.Sequential(_conv_bn_relu(scaled(64), scaled(128)), halving())
        self.b3 = nn.Sequential(_conv_bn_relu(scaled(128), channels), halving(), attention())
        self.b4 = nn.Sequential(_conv_bn_relu(channels, channels), halving(), attention())
        self.b5 = nn.Sequential(
            *(residual(), halving(), attention()),
            *(residual(), halving(), attention()),
            residual(),
        )
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(channels, num_classes)
        blocks = {"sa": {"b3, b4, b5": {"channels": channels, **sa}}}
        self.settings = {"attn": blocks if attn else {}}

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.b5(self.b4(self.b3(self.b2(self.b1(x)))))
        return self.fc(self.avgpool(x).flatten(1))
