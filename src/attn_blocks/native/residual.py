"""The networks' own layers, with each batch norm and its ReLU, and each addition and its, in one.

Every class here is the one of the same name in ``models`` with that one difference.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.models import resnet, sa_inception, senet_cifar
from attn_blocks.native.norm import add_relu, norm_relu


class BasicBlock(resnet.BasicBlock):
    """Two passes over a map fewer."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = norm_relu(self.bn1, self.conv1(x))
        y = self.bn2(self.conv2(y))
        return add_relu(self.attn(y), self.downsample(x))


class Bottleneck(resnet.Bottleneck):
    """Three passes over a map fewer."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = norm_relu(self.bn1, self.conv1(x))
        y = norm_relu(self.bn2, self.conv2(y))
        y = self.bn3(self.conv3(y))
        return add_relu(self.attn(y), self.downsample(x))


class ResNet(resnet.ResNet):
    """One pass over the first map fewer."""

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.maxpool(norm_relu(self.bn1, self.conv1(x)))


class SENetCifar(senet_cifar.SENetCifar):
    """One pass over the first map and one over the last map fewer."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = norm_relu(self.bn1, self.conv1(x))
        x = norm_relu(self.bn2, self.conv2(self.blocks(x)))
        return F.log_softmax(self.fc(self.avgpool(x).flatten(1)))


class ResidualInception(sa_inception.ResidualInception):
    """One pass over a map fewer."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return add_relu(self.inception(x), self.shortcut(x))


_FUSED = {
    cls.__base__: cls for cls in (BasicBlock, Bottleneck, ResNet, SENetCifar, ResidualInception)
}


def fused_class(layer: nn.Layer) -> type[nn.Layer] | None:
    """The class here that computes what ``layer`` does; None where there is none."""
    return _FUSED.get(type(layer))
