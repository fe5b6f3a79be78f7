"""The classic baselines VGG-19 and MobileNet-V2, built from the parts of ``paddle.vision``.

At width 1 and with the ``imagenet`` stem they are ``paddle.vision.models.vgg19()`` and
``mobilenet_v2()``: the same parameters under the same names, the same initial values. The third
classic, ResNet-50, is the book's own (``resnet.py``).
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.vision.models import VGG
from paddle.vision.models.mobilenetv2 import InvertedResidual
from paddle.vision.models.vgg import make_layers
from paddle.vision.ops import ConvNormActivation

from attn_blocks.errors import SettingError, choose
from attn_blocks.models.scaling import STEMS, scale_channels

# Simonyan and Zisserman 2015, table 1, column E: (channels, 3x3 convolutions) before each pool.
VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
# Sandler et al. 2018, table 2: expansion, channels, repeats, stride.
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class VGG19(VGG):
    """VGG-19 without normalisation; images [N, 3, H, W] -> logits [N, num_classes].

    Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556.

    Args:
        num_classes: outputs of the last layer.
        width: scales every channel count, the 4096 of the two hidden linear layers too.
        stem: ``"imagenet"`` as published; ``"small"`` leaves out the first max-pool, ``"cifar"``
            the first two.
        image_size: side of the images, pixels.

    Raises:
        SettingError: an unknown stem, or images that are too small for the max-pools.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        stem: str = "imagenet",
        image_size: int = 224,
    ):
        choose("stem", stem, STEMS)
        smallest = 2 ** (len(VGG19_STAGES) - STEMS.index(stem))
        if image_size < smallest:
            other = "" if stem == "cifar" else ", or 8x8 with stem='cifar'"
            raise SettingError(
                f"{image_size}x{image_size} images are too small for the max-pools of "
                f"stem={stem!r}; use at least {smallest}x{smallest}{other}"
            )
        layers: list[int | str] = []
        for stage, (channels, repeats) in enumerate(VGG19_STAGES):
            layers += [scale_channels(channels, width)] * repeats
            layers += ["M"] if stage >= STEMS.index(stem) else []
        super().__init__(make_layers(layers), num_classes=0)
        hidden = scale_channels(4096, width)
        self.num_classes = num_classes
        self.classifier = nn.Sequential(
            nn.Linear(scale_channels(512, width) * 7 * 7, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )
        self.settings: dict[str, Any] = {}


class MobileNetV2(nn.Layer):
    """MobileNet-V2; images [N, 3, H, W] -> logits [N, num_classes].

    Sandler et al. 2018, https://arxiv.org/abs/1801.04381. One deviation: ``width`` scales the last
    1280 channels too, where the paper keeps them below width 1.

    Args:
        num_classes: outputs of the last layer.
        width: scales every channel count.
        stem: ``"imagenet"`` as published; ``"small"`` keeps the map's size in the second stage,
            ``"cifar"`` also in the first convolution.
        image_size: side of the images, pixels; any works.

    Raises:
        SettingError: an unknown stem.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        stem: str = "imagenet",
        image_size: int = 224,
    ):
        super().__init__()
        choose("stem", stem, STEMS)
        channels = scale_channels(32, width)
        last = scale_channels(1280, width)

        def conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Layer:
            return ConvNormActivation(inputs, outputs, kernel, stride, activation_layer=nn.ReLU6)

        layers = [conv(3, channels, 3, stride=1 if stem == "cifar" else 2)]
        for stage, (expansion, outputs, repeats, stride) in enumerate(MOBILENET_STAGES, start=1):
            outputs = scale_channels(outputs, width)
            if stage == 2 and stem != "imagenet":
                stride = 1
            for i in range(repeats):
                block_stride = stride if i == 0 else 1
                layers.append(InvertedResidual(channels, outputs, block_stride, expansion))
                channels = outputs
        layers.append(conv(channels, last, 1, stride=1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
        self.settings: dict[str, Any] = {}

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
