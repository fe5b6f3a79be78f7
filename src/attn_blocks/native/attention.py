"""Attention blocks in forms that Paddle computes faster on a CPU; they need nothing compiled.

Paddle's CPU kernels are slow at means over two axes, at broadcasting over any but the last axis and
at the gradients of both. Each class here is the block of the same name in ``layers`` with some of
its steps computed otherwise, and gives the same to rounding. A traced program, which also is what
multiply-adds are counted in, and another device keep the equations of the paper: they are called
by the name of the plain class, since Paddle 2's tracing does not understand ``super()``.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.layers import gc, ge, sa, se, sge
from attn_blocks.layers.base import check_input, check_pixels


def _computed_here(x: paddle.Tensor) -> bool:
    """Whether what is done to ``x`` is computed now and on the CPU."""
    return paddle.in_dynamic_mode() and x.place.is_cpu_place() and x.size > 0


def pixel_mean(x: paddle.Tensor) -> paddle.Tensor:
    """The mean of each map, [N, C, H, W] -> [N, C, 1, 1], as a product with a vector of 1/(H*W)."""
    if not _computed_here(x):
        return x.mean((2, 3), keepdim=True)
    pixels = x.shape[2] * x.shape[3]
    means = x.reshape([-1, pixels]) @ paddle.full([pixels, 1], 1 / pixels, x.dtype)
    return means.reshape([*x.shape[:2], 1, 1])


class SqueezeExcite(se.SqueezeExcite):
    """With ``pixel_mean``."""

    def squeezed(self, x: paddle.Tensor) -> paddle.Tensor:
        return pixel_mean(x) if self.squeeze == "avg" else x


class GatherExcite(ge.GatherExcite):
    """With ``pixel_mean``."""

    def gather(self, x: paddle.Tensor) -> paddle.Tensor:
        is_mean = self.gather_layers is None and self.extent == 0
        return pixel_mean(x) if is_mean else ge.GatherExcite.gather(self, x)


class GlobalContext(gc.GlobalContext):
    """With ``pixel_mean``."""

    def context(self, x: paddle.Tensor) -> paddle.Tensor:
        return pixel_mean(x) if self.pooling == "avg" else gc.GlobalContext.context(self, x)


class SpatialGroupEnhance(sge.SpatialGroupEnhance):
    """With one matrix product a group, and one number a map in each of the other steps."""

    def attention(self, x: paddle.Tensor) -> paddle.Tensor:
        if not _computed_here(x):
            return sge.SpatialGroupEnhance.attention(self, x)
        height, width = x.shape[2:]
        x = x.reshape([-1, self.channels // self.groups, height, width])
        maps = x.reshape([x.shape[0], -1, height * width])
        means = pixel_mean(x).reshape([x.shape[0], 1, -1])
        a = (means @ maps).squeeze(1)  # [N*G, H*W]
        a = a - a.mean(axis=1, keepdim=True)
        variance = a.square().sum(axis=1) / (a.shape[1] - 1)
        std = variance.clip(min=1e-24).sqrt() + 1e-5
        # weight * (a / std) + bias
        scale = self.weight.flatten() / std.reshape([-1, self.groups])
        shift = self.bias.flatten().expand_as(scale)
        gate = F.sigmoid(a * scale.reshape([-1, 1]) + shift.reshape([-1, 1]))
        return gate.reshape([-1, self.groups, height, width])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not _computed_here(x):
            return sge.SpatialGroupEnhance.forward(self, x)
        check_input(self, x)
        check_pixels(self, x)
        # Repeating costs less than broadcasting, whose gradient sums slowly over the middle axis.
        return x * self.attention(x).repeat_interleave(self.channels // self.groups, axis=1)


class ShuffleAttention(sa.ShuffleAttention):
    """With ``pixel_mean``, and both affine maps of the pixel gate joined before its norm."""

    def channel_gate(self, x0: paddle.Tensor) -> paddle.Tensor:
        return F.sigmoid(self.cweight * pixel_mean(x0) + self.cbias)

    def spatial_gate(self, x1: paddle.Tensor) -> paddle.Tensor:
        # Paddle's batch norm leaves a single value as it is, so maps of 1x1 go the other way.
        if not _computed_here(x1) or x1.shape[2:] == [1, 1]:
            return sa.ShuffleAttention.spatial_gate(self, x1)
        weight = self.sweight.flatten() * self.gn.weight
        bias = self.sweight.flatten() * self.gn.bias + self.sbias.flatten()
        # The batch norm of one image whose channels are all the maps is the instance norm, and its
        # gradient takes a fraction of the time.
        samples, channels = x1.shape[:2]
        unused = paddle.zeros([samples * channels], x1.dtype)
        y = F.batch_norm(
            x1.reshape([1, samples * channels, *x1.shape[2:]]),
            running_mean=unused,
            running_var=unused.clone(),
            weight=weight.tile([samples]),
            bias=bias.tile([samples]),
            training=True,
            epsilon=self.gn._epsilon,
        )
        return F.sigmoid(y.reshape(x1.shape))

    def shuffle(self, x: paddle.Tensor) -> paddle.Tensor:
        return (
            F.channel_shuffle(x, 2) if _computed_here(x) else sa.ShuffleAttention.shuffle(self, x)
        )


_FASTER = {
    cls.__base__: cls
    for cls in (SqueezeExcite, GatherExcite, GlobalContext, SpatialGroupEnhance, ShuffleAttention)
}


def faster_class(layer: nn.Layer) -> type[nn.Layer] | None:
    """The class here that computes what ``layer`` does; None where there is none."""
    return _FASTER.get(type(layer))
