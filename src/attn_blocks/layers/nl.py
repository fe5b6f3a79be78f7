"""Non-local block.

Paper: Non-local Neural Networks, Wang, Girshick, Gupta, He, CVPR 2018 (arXiv 1711.07971),
section 3, equations 1 to 6.
Official code: https://github.com/facebookresearch/video-nonlocal-net (Caffe2). PyTorch: the
baseline of https://github.com/BA-Transform/BAT-Image-Classification, whose settings are the
default here.

Deviations
* Scale: the paper's text has none; the official code and the BAT repository multiply the logits
  of the embedded Gaussian by c^-0.5 (default, c = ``inner``), timm by C^-0.5, AlexHex7 by nothing.
  The GCNet repository's copy divided by c^-0.5 where it meant to multiply, a bug fixed later.
* Sub-sampling (section 3.3): the official code pools x and then projects it to phi and g
  (``subsample="input"``), AlexHex7/Non-local_pytorch pools the projections; the BAT repository
  and timm do not pool (default).
* Width: C / 2; timm C / 8.
* The official batch norm has eps 1.0000001e-5, everybody else's 1e-5 (``epsilon``).
* Initial values are the BAT repository's (He normal by the fan-out, biases 0); the official ones
  are normal with sigma 0.01. In both the block starts as the identity.
* Paddle's batch norm keeps the biased variance of a batch for evaluation, PyTorch's the unbiased.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant

from attn_blocks.errors import choose
from attn_blocks.layers.base import (
    check_input,
    conv2d,
    kaiming_fan_out,
    known_shape,
    pixels_in_a_row,
    positive,
    positive_number,
    register,
)

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


@register("nl")
class NonLocal(nn.Layer):
    """y = x + BN(z(A g(x))), A[i, j] = f(theta(x_i), phi(x_j)) for all pixels i and keys j.

    ==================  ===========================================
    mode                A
    ==================  ===========================================
    embedded_gaussian   softmax over j of scale * theta_i . phi_j
    gaussian            softmax over j of scale * x_i . x_j
    dot_product         theta_i . phi_j / number of keys
    concatenation       relu(w . [theta_i, phi_j]) / number of keys
    ==================  ===========================================

    The batch norm's weight starts at 0 (without norm: all of z), so the block is the identity.

    Args:
        channels: C of the input [N, C, H, W].
        inner: width of theta, phi and g; None: C // 2.
        mode: as above.
        scale: of the two Gaussian modes: True for (width of the compared vectors)^-0.5, False for
            none, or the factor itself.
        subsample: 2x2 max pooling of what makes keys and values: None, "input" (x, before phi and
            g) or "projections" (phi and g). Odd sizes lose their last row or column there.
        norm: batch norm after z.
        out_bias: a bias in z.
        epsilon: of the batch norm.

    Raises:
        ValueError: an unknown mode or ``subsample``, no inner channel, a scale or an epsilon not
            above 0, an input that is not [N, C, H, W], or a map with a side of 1 that is to be
            pooled.
    """

    def __init__(
        self,
        channels: int,
        inner: int | None = None,
        mode: str = "embedded_gaussian",
        scale: bool | float = True,
        subsample: str | None = None,
        norm: bool = True,
        out_bias: bool = True,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.mode = choose("mode", mode, MODES)
        if subsample is not None:
            choose("subsample", subsample, ("input", "projections"))
        self.subsample = subsample
        if inner is None and channels == 1:
            raise ValueError("channels=1 leaves no inner channel, C // 2; give inner=1")
        inner = positive("inner", channels // 2 if inner is None else inner)
        width = channels if mode == "gaussian" else inner
        if isinstance(scale, bool):
            scale = width**-0.5 if scale else 1.0
        self.scale = positive_number("scale", scale, width**-0.5)
        positive_number("epsilon", epsilon, 1e-5)

        zero = Constant(0.0)
        project = {"weight_init": kaiming_fan_out(inner), "bias_init": zero}
        self.g = conv2d(channels, inner, **project)
        if mode != "gaussian":
            self.theta = conv2d(channels, inner, **project)
            self.phi = conv2d(channels, inner, **project)
        if mode == "concatenation":
            self.concat = conv2d(2 * inner, 1, bias=False)
        first = kaiming_fan_out(channels) if norm else zero
        self.z = conv2d(inner, channels, bias=out_bias, weight_init=first, bias_init=zero)
        self.norm = None
        if norm:
            start = paddle.ParamAttr(initializer=zero)
            self.norm = nn.BatchNorm2D(channels, epsilon=epsilon, weight_attr=start)

    def attention(self, x: paddle.Tensor) -> paddle.Tensor:
        """A, [N, H*W, keys]: row i says where pixel i looks."""
        return self._pairwise(x, self._pool(x, "input"))

    def _pool(self, x: paddle.Tensor, stage: str) -> paddle.Tensor:
        return F.max_pool2d(x, 2) if self.subsample == stage else x

    def _pairwise(self, x: paddle.Tensor, source: paddle.Tensor) -> paddle.Tensor:
        theta = x if self.mode == "gaussian" else self.theta(x)
        phi = self._pool(source if self.mode == "gaussian" else self.phi(source), "projections")
        if self.mode == "concatenation":
            # w . [theta_i, phi_j] is a sum of two dot products: no concatenated pairs needed.
            w_theta, w_phi = self.concat.weight.split(2, axis=1)
            queries = pixels_in_a_row(F.conv2d(theta, w_theta)).transpose([0, 2, 1])
            keys = pixels_in_a_row(F.conv2d(phi, w_phi))
            return F.relu(queries + keys) / keys.shape[-1]
        theta, phi = pixels_in_a_row(theta), pixels_in_a_row(phi)
        if self.mode == "dot_product":
            return paddle.matmul(theta, phi, transpose_x=True) / phi.shape[-1]
        return F.softmax(paddle.matmul(theta * self.scale, phi, transpose_x=True), axis=-1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        if self.subsample and 1 in known_shape(x)[2:]:
            raise ValueError(
                f"subsample={self.subsample!r} pools 2x2, which a map of {x.shape[2]}x{x.shape[3]} "
                "does not allow; use subsample=None"
            )
        source = self._pool(x, "input")
        values = pixels_in_a_row(self._pool(self.g(source), "projections"))
        y = paddle.matmul(values, self._pairwise(x, source), transpose_y=True)
        y = self.z(y.reshape([-1, y.shape[1], *x.shape[2:]]))
        return x + (y if self.norm is None else self.norm(y))
