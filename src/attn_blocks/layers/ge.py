"""Gather-Excite.

Paper: Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks, Hu, Shen,
Albanie, Sun, Vedaldi, NeurIPS 2018 (arXiv 1810.12348), section 2.
Official code: https://github.com/hujie-frank/GENet (Caffe prototxt and figures). PyTorch: the
global theta in hyunjaelee410/style-based-recalibration-module, all extents in timm.

Deviations
* The official definition has no bias in the gather's convolution; the SRM repository's copy has
  one (``conv_bias=True``).
* Global theta-plus: the official definition has a ReLU between the gather's batch norm and the
  excite's two layers. For extents 2, 4 and 8 there is no official definition; timm, followed here,
  has none. ``gather_relu`` chooses otherwise.
* timm's global theta pads the convolution (``padding="same"``), so that it gathers to nearly the
  size of the map and not to 1x1 as in the paper.
* timm's default, no gather parameters but the two excite layers, is SE (``mlp=True``).
* Paddle's batch norm keeps the biased variance of a batch for evaluation, PyTorch's the unbiased.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.errors import choose
from attn_blocks.layers.base import (
    check_batch_statistics,
    check_input,
    conv2d,
    hidden_width,
    known_shape,
    pixels_in_a_row,
    positive,
    register,
)


def window_means(size: int, extent: int, dtype: paddle.dtype) -> paddle.Tensor:
    """Matrix [ceil(size / E), size]: row i takes the mean of the pixels less than E from i * E.

    What average pooling with kernel 2E-1, stride E and padding E-1 does along one axis when the
    padding does not count. A matrix, because the gradient of Paddle's pooling divides by a count in
    float32, which shows in float64.
    """
    centres, pixels = paddle.arange(0, size, extent), paddle.arange(size)
    near = ((pixels - centres.unsqueeze(1)).abs() < extent).astype(dtype)
    return near / near.sum(axis=1, keepdim=True)


@register("ge")
class GatherExcite(nn.Layer):
    """y = x * sigmoid(interpolate(excite(gather(x)))).

    ===========  =======================================  ====================================
    variant      gather, global extent                    gather, extent E
    ===========  =======================================  ====================================
    theta_minus  mean over the map                        mean over (2E-1) x (2E-1), stride E
    theta        depth-wise conv of the map's size, BN    log2(E) x [depth-wise 3x3 / 2, BN],
                                                          a ReLU between them
    theta_plus   as theta                                 as theta
    ===========  =======================================  ====================================

    Each pixel takes the gathered value that is nearest. The excite is the identity, for theta_plus
    two 1x1 convolutions C -> C/r -> C with a ReLU. theta_minus without ``mlp`` has no parameters.
    With theta the gate starts at 0.5 on average.

    Args:
        channels: C of the input [N, C, H, W].
        variant: "theta_minus", "theta" or "theta_plus".
        extent: 0 for the whole map, or a power of two (2, 4 and 8 in the paper).
        feat_size: height and width of the map, or one number for both; needed by theta and
            theta_plus at the global extent, whose convolution has this size, and not used else.
        reduction: r of the excite's two layers, where it has them.
        conv_bias: a bias in the gather's convolutions.
        hidden: units of the excite's hidden layer, in place of C // r.
        mlp: whether the excite has its two layers; None: for theta_plus only.
        gather_relu: a ReLU between gather and those two layers; None: at the global extent of
            theta and theta_plus only.
        padding: "valid" or "same" (timm) for the global convolution; not used where there is none.

    Raises:
        ValueError: an unknown variant, an extent that is neither 0 nor a power of two, no
            ``feat_size`` where it is needed, C // r = 0; in the forward an input that is not
            [N, C, H, W], a map that is not of ``feat_size``, or a single value to normalise.
    """

    def __init__(
        self,
        channels: int,
        variant: str = "theta_minus",
        extent: int = 0,
        feat_size: int | tuple[int, int] | None = None,
        reduction: int = 16,
        conv_bias: bool = False,
        hidden: int | None = None,
        mlp: bool | None = None,
        gather_relu: bool | None = None,
        padding: str = "valid",
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.variant = choose("variant", variant, ("theta_minus", "theta", "theta_plus"))
        self.extent = extent
        choose("padding", padding, ("valid", "same"))
        if type(extent) is not int or extent < 0 or extent == 1 or extent & (extent - 1):
            raise ValueError(
                f"extent={extent!r} must be 0 (the whole map) or a power of two: 2, 4 or 8"
            )
        self.is_local = extent != 0 or (variant != "theta_minus" and padding == "same")
        self.feat_size: tuple[int, int] | None = None
        self.gather_layers = None
        if variant != "theta_minus":
            if extent == 0:
                self.gather_layers = self._global_gather(feat_size, conv_bias, padding)
            else:
                self.gather_layers = self._strided_gather(conv_bias)
        self.mlp = variant == "theta_plus" if mlp is None else mlp
        if self.mlp:
            hidden = hidden_width(channels, reduction, hidden)
            self.fc1 = conv2d(channels, hidden)
            self.fc2 = conv2d(hidden, channels)
        parametric_and_global = variant != "theta_minus" and extent == 0
        self.gather_relu = parametric_and_global if gather_relu is None else gather_relu

    def _depthwise(self, bias: bool, **geometry: int | tuple[int, int]) -> nn.Conv2D:
        c = self.channels
        return conv2d(c, c, groups=c, bias=bias, **geometry)

    def _global_gather(
        self, feat_size: int | tuple[int, int] | None, bias: bool, padding: str
    ) -> nn.Sequential:
        if feat_size is None:
            raise ValueError(
                f"variant={self.variant!r} at the global extent has a convolution of the map's "
                "size; give feat_size=(height, width), or extent=2, 4 or 8"
            )
        if not isinstance(feat_size, tuple | list):
            feat_size = (feat_size, feat_size)
        if len(feat_size) != 2:
            raise ValueError(f"feat_size={feat_size!r} must be (height, width), such as (56, 56)")
        height, width = (positive("feat_size", side) for side in feat_size)
        if padding == "valid":
            self.feat_size, pad = (height, width), (0, 0)
        else:
            pad = ((height - 1) // 2, (width - 1) // 2)
        return nn.Sequential(
            ("conv1", self._depthwise(bias, kernel_size=(height, width), padding=pad)),
            ("norm1", nn.BatchNorm2D(self.channels)),
        )

    def _strided_gather(self, bias: bool) -> nn.Sequential:
        stages: list[tuple[str, nn.Layer]] = []
        for i in range(1, self.extent.bit_length()):
            if i > 1:
                stages.append((f"relu{i - 1}", nn.ReLU()))
            stages.append((f"conv{i}", self._depthwise(bias, kernel_size=3, stride=2, padding=1)))
            stages.append((f"norm{i}", nn.BatchNorm2D(self.channels)))
        return nn.Sequential(*stages)

    @staticmethod
    def whole_map_conv(x: paddle.Tensor, conv: nn.Conv2D) -> paddle.Tensor:
        """A depth-wise convolution as large as the map: [N, C, H, W] -> [N, C, 1, 1].

        It is one inner product a channel, and is computed as that.
        """
        weight = conv.weight.reshape([conv.weight.shape[0], -1, 1])  # [C, H*W, 1]
        y = pixels_in_a_row(x).transpose([1, 0, 2]) @ weight  # [C, N, 1]
        y = y.transpose([1, 0, 2]).unsqueeze(3).astype(x.dtype)  # autocast lowers products only
        return y if conv.bias is None else y + conv.bias.reshape([1, -1, 1, 1])

    def gather(self, x: paddle.Tensor) -> paddle.Tensor:
        """The context of each pixel's neighbourhood, [N, C, h, w]; 1x1 at the global extent."""
        if self.gather_layers is not None:
            for name, layer in self.gather_layers.named_children():
                if name.startswith("norm"):
                    check_batch_statistics(self, x)
                is_whole_map = self.feat_size and name == "conv1"
                x = self.whole_map_conv(x, layer) if is_whole_map else layer(x)
            return x
        if self.extent == 0:
            return x.mean((2, 3), keepdim=True)
        # The mean over a window is a mean over rows of means over columns.
        rows = window_means(x.shape[2], self.extent, x.dtype)
        columns = window_means(x.shape[3], self.extent, x.dtype)
        return rows @ x @ columns.transpose([1, 0])

    def gate(self, x: paddle.Tensor) -> paddle.Tensor:
        """What x is multiplied with: [N, C, 1, 1] or [N, C, H, W]."""
        g = self.gather(x)
        if self.mlp:
            g = F.relu(g) if self.gather_relu else g
            g = self.fc2(F.relu(self.fc1(g)))
        if self.is_local:
            g = F.interpolate(g, size=x.shape[2:], mode="nearest")
        return F.sigmoid(g)

    def check(self, x: paddle.Tensor) -> None:
        """Raise ValueError for an input that the forward cannot take."""
        check_input(self, x)
        height, width = known_shape(x)[2:]
        if self.feat_size and height and width and (height, width) != self.feat_size:
            raise ValueError(
                f"GatherExcite was built for maps of {self.feat_size[0]}x{self.feat_size[1]}, "
                f"got {height}x{width}; give feat_size=({height}, {width})"
            )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        self.check(x)
        return x * self.gate(x)
