"""Attention blocks in forms that are computed faster on a CPU.

Paddle's CPU kernels are slow at means over two axes, at broadcasting over any but the last axis and
at the gradients of both. Each class here is the block of the same name in ``layers`` with some of
its steps computed otherwise, and gives the same to rounding: by the operators of ``maps.cc``
where they are compiled, else by those of Paddle's that take least time. A traced program, which
also is what multiply-adds are counted in, and another device keep the equations of the paper: they
are called by the name of the plain class, since Paddle 2's tracing does not understand ``super()``.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.layers import gc, ge, sa, se, sge, srm
from attn_blocks.layers.base import check_input, check_pixels
from attn_blocks.native import library, maps


def _computed_here(x: paddle.Tensor) -> bool:
    """Whether what is done to ``x`` is computed now and on the CPU."""
    return paddle.in_dynamic_mode() and x.place.is_cpu_place() and x.size > 0


def _compiled(*tensors: paddle.Tensor) -> bool:
    """Whether a step that takes these is one for the compiled operators, which know float32."""
    here = all(_computed_here(x) and x.dtype == paddle.float32 for x in tensors)
    return here and not library.why_not()


def pixel_mean(x: paddle.Tensor) -> paddle.Tensor:
    """The mean of each map, [N, C, H, W] -> [N, C, 1, 1]."""
    if _compiled(x):
        return maps.mean(x)
    if not _computed_here(x):
        return x.mean((2, 3), keepdim=True)
    # A product with a vector of 1 / (H * W).
    pixels = x.shape[2] * x.shape[3]
    means = x.reshape([-1, pixels]) @ paddle.full([pixels, 1], 1 / pixels, x.dtype)
    return means.reshape([*x.shape[:2], 1, 1])


def gated(x: paddle.Tensor, gate: paddle.Tensor) -> paddle.Tensor:
    """x * gate, [N, C, H, W], with a gate [N, G, 1, 1] or [N, G, H, W] for G groups of channels."""
    if _compiled(x, gate):
        return maps.gate(x, gate)
    repeats = x.shape[1] // gate.shape[1]
    # Repeating costs less than broadcasting, whose gradient sums slowly over the middle axis.
    return x * (gate if repeats == 1 else gate.repeat_interleave(repeats, axis=1))


class SqueezeExcite(se.SqueezeExcite):
    """With ``pixel_mean`` and ``gated``."""

    def squeezed(self, x: paddle.Tensor) -> paddle.Tensor:
        return pixel_mean(x) if self.squeeze == "avg" else x

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        gate, shift = self.excite(x)
        return gated(x, gate) if shift is None else gated(x, gate) + shift


class GatherExcite(ge.GatherExcite):
    """With ``pixel_mean``, the convolution of the map's size in one pass, and ``gated``."""

    @staticmethod
    def whole_map_conv(x: paddle.Tensor, conv: nn.Conv2D) -> paddle.Tensor:
        if not _compiled(x, conv.weight):
            return ge.GatherExcite.whole_map_conv(x, conv)
        y = maps.product(x, conv.weight)
        return y if conv.bias is None else y + conv.bias.reshape([1, -1, 1, 1])

    def gather(self, x: paddle.Tensor) -> paddle.Tensor:
        is_mean = self.gather_layers is None and self.extent == 0
        return pixel_mean(x) if is_mean else ge.GatherExcite.gather(self, x)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        self.check(x)
        return gated(x, self.gate(x))


class StyleRecalibration(srm.StyleRecalibration):
    """With both moments of a map in one pass, and ``gated``."""

    def style(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        if not _compiled(x):
            return srm.StyleRecalibration.style(self, x)
        mean, variance = maps.moments(x)
        return mean, (variance + 1e-5).sqrt()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        check_pixels(self, x)
        return gated(x, self.gate(x))


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
        pixels = x.reshape([x.shape[0], -1, height * width])
        means = pixel_mean(x).reshape([x.shape[0], 1, -1])
        a = (means @ pixels).squeeze(1)  # [N*G, H*W]
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
        return gated(x, self.attention(x))


class ShuffleAttention(sa.ShuffleAttention):
    """In one pass; without the compiled operator with ``pixel_mean``, and with both affine maps of
    the pixel gate joined before its norm."""

    def channel_gate(self, x0: paddle.Tensor) -> paddle.Tensor:
        return F.sigmoid(self.cweight * pixel_mean(x0) + self.cbias)

    def spatial_gate(self, x1: paddle.Tensor) -> paddle.Tensor:
        # Paddle's batch norm leaves a single value as it is, so maps of 1x1 go the other way.
        if not _computed_here(x1) or x1.shape[2:] == [1, 1]:
            return sa.ShuffleAttention.spatial_gate(self, x1)
        weight, bias = self._joined()
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

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not _compiled(x):
            return sa.ShuffleAttention.forward(self, x)
        check_input(self, x)
        own = self.cweight.flatten(), self.cbias.flatten(), *self._joined()
        return maps.shuffle_attention(x, *own, self.gn._epsilon)

    def _joined(self) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Weight and bias of the norm and of the block as one of each, [m]."""
        weight, bias = self.sweight.flatten(), self.sbias.flatten()
        return weight * self.gn.weight, weight * self.gn.bias + bias

    def shuffle(self, x: paddle.Tensor) -> paddle.Tensor:
        return (
            F.channel_shuffle(x, 2) if _computed_here(x) else sa.ShuffleAttention.shuffle(self, x)
        )


_FASTER = {
    cls.__base__: cls
    for cls in (
        SqueezeExcite,
        GatherExcite,
        StyleRecalibration,
        SpatialGroupEnhance,
        ShuffleAttention,
        GlobalContext,
    )
}


def faster_class(layer: nn.Layer) -> type[nn.Layer] | None:
    """The class here that computes what ``layer`` does; None where there is none."""
    return _FASTER.get(type(layer))
