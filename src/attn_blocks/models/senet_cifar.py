"""The small SENet for CIFAR-10 of the book's first write-up.

``Network(3, 128, 10, 10)`` of JYPark09/SENet-PyTorch (network.py): 2,708,106 parameters. Its
squeeze-and-excitation block (Hu et al. 2018, https://arxiv.org/abs/1709.01507) gives a weight and
a bias for each channel, y = x * sigmoid(w) + b, and as published it squeezes nothing: the pooled
value is computed and then overwritten, so that the gate is per pixel (``squeeze="none"``). The
block that its text describes is ``squeeze="avg"``; both have the same number of parameters.
"""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

from attn_blocks.errors import choose
from attn_blocks.layers import create_attn
from attn_blocks.layers.base import conv2d
from attn_blocks.models.resnet import BasicBlock, linear
from attn_blocks.models.scaling import STEMS, block_settings, halve, scale_channels

RESIDUAL_BLOCKS = 9


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """A convolution without bias that keeps the map's size / stride; PyTorch's initial values."""
    return conv2d(inputs, outputs, kernel, bias=False, stride=stride, padding=kernel // 2)


class SENetCifar(nn.Layer):
    """Images [N, 3, H, W] -> log-probabilities [N, num_classes].

    The log-softmax at the end is the published one. Cross-entropy, which applies another, gives
    the same loss: a log-softmax of log-probabilities changes nothing.

    Initial values are PyTorch's own, since the write-up's code sets none.

    Args:
        num_classes: outputs of the last layer.
        width: scales the 128 channels.
        stem: a 3x3 convolution in every case, of stride 2 for ``"small"``, else 1 as published.
        image_size: side of the images, pixels; recorded only.
        squeeze: ``"none"`` as published or ``"avg"`` as described.
        attn: False leaves the squeeze-and-excitation blocks out.

    Raises:
        SettingError: an unknown stem or ``squeeze``.
    """

    def __init__(
        self,
        num_classes: int = 10,
        width: float = 1.0,
        stem: str = "cifar",
        image_size: int = 32,
        squeeze: str = "none",
        attn: bool = True,
    ):
        super().__init__()
        choose("stem", stem, STEMS)
        channels = scale_channels(128, width)
        stride = 2 if stem == "small" else 1
        side = halve(image_size, stride - 1)
        options = {"squeeze": squeeze, "shift": True, "bias": False}
        se = block_settings("se", channels, side, [side], width, options)

        self.conv1 = conv(3, channels, 3, stride)
        self.bn1 = nn.BatchNorm2D(channels)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(
                    channels,
                    channels,
                    1,
                    create_attn("se", channels, **se) if attn else nn.Identity(),
                    conv,
                )
                for _ in range(RESIDUAL_BLOCKS)
            )
        )
        self.conv2 = conv(channels, channels, 1)
        self.bn2 = nn.BatchNorm2D(channels)
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc = linear(channels, num_classes)
        self.settings = {
            "stem": "small" if stem == "small" else "cifar",
            "attn": {"se": {"blocks": {"channels": channels, "map": side, **se}}} if attn else {},
        }

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(self.blocks(x))))
        return F.log_softmax(self.fc(self.avgpool(x).flatten(1)))
