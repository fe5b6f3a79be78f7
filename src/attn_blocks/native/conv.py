"""Convolution on the CPU by oneDNN, which Paddle's wheel carries and eager mode does not use.

``conv.cc`` is the custom operator. ``native.accelerate`` makes these layers out of Paddle's, nobody
else does.
"""

from __future__ import annotations

import ctypes
import functools
import os

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from attn_blocks.native.norm import call, nothing

_library: ctypes.CDLL | None = None


def maths() -> str:
    """The type in which products are taken, "float32" or "bfloat16"."""
    return "bfloat16" if os.environ.get("ATTN_BLOCKS_NATIVE_BF16", "0") == "1" else "float32"


def _call(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor,
    strides: list[int],
    paddings: list[int],
    dilations: list[int],
    groups: int,
) -> paddle.Tensor:
    return call(
        "conv2d",
        x,
        weight,
        bias,
        strides,
        paddings,
        dilations,
        groups,
        maths() == "bfloat16",
        not x.stop_gradient,
    )[0]


class NativeConv2D(nn.Conv2D):
    """``nn.Conv2D`` through the native operator.

    Paddle's own way is taken for what the operator does not cover: static graphs (so that
    ``paddle.jit.save`` writes the ordinary operator), other types than float32, inputs of another
    rank or channel count (so that the error is Paddle's), and shapes for which oneDNN has nothing
    but its reference kernel on this processor.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not paddle.in_dynamic_mode() or x.dtype != paddle.float32 or not self._fits(x.shape):
            return super().forward(x)
        return _call(
            x,
            self.weight,
            nothing() if self.bias is None else self.bias,
            self._stride,
            _four_sides(self._updated_padding),
            self._dilation,
            self._groups,
        )

    def _fits(self, shape: list[int]) -> bool:
        if len(shape) != 4 or shape[0] == 0 or shape[1] != self._in_channels:
            return False
        return not any(name.startswith("ref") for name in kernels(*self.geometry(shape)))

    def geometry(self, shape: list[int]) -> tuple[object, ...]:
        """The arguments of ``kernels`` for an input of this shape [N, C, H, W]."""
        return (
            tuple(shape),
            tuple(self.weight.shape),
            self.bias is not None,
            tuple(self._stride),
            tuple(_four_sides(self._updated_padding)),
            tuple(self._dilation),
            self._groups,
            maths(),
        )


@functools.cache
def kernels(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: bool,
    strides: tuple[int, ...],
    paddings: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
    products: str,
) -> tuple[str, ...]:
    """oneDNN's names for the kernels that a convolution takes on this processor.

    Those of the output and of the gradients of weights and input, such as "jit:avx2",
    "x64:gemm:jit" (a matrix product) or "ref:any"; none where there is no such convolution. oneDNN
    calls them ``impl_info_str``, see https://oneapi-src.github.io/oneDNN/.

    Args:
        shape, weight: [N, C, H, W] of the input and [O, C / groups, H, W] of the kernel.
        bias: whether there is one.
        strides, dilations: of height and width; ``paddings``: top, bottom, left, right.
        groups: of channels.
        products: what ``maths`` gives.
    """
    assert _library is not None, "library.load has not been called"
    names = ctypes.create_string_buffer(200)
    _library.attn_blocks_conv2d_kernels(
        (ctypes.c_int64 * 4)(*shape),
        (ctypes.c_int64 * 4)(*weight),
        int(bias),
        (ctypes.c_int * 2)(*strides),
        (ctypes.c_int * 4)(*paddings),
        (ctypes.c_int * 2)(*dilations),
        groups,
        int(products == "bfloat16"),
        names,
        ctypes.c_int64(len(names)),
    )
    return tuple(names.value.decode().split())


def use(path: str) -> None:
    """Ask the compiled operators at ``path``, which Paddle has loaded, from now on."""
    global _library
    _library = ctypes.CDLL(path)


def _four_sides(padding: list[int]) -> list[int]:
    """Paddle's [height, width] or [top, bottom, left, right] as the latter."""
    return [side for side in padding for _ in range(2)] if len(padding) == 2 else padding


def native_class(layer: nn.Layer) -> type[nn.Layer] | None:
    """``NativeConv2D`` where it computes what ``layer`` does, and faster; else None."""
    # Exactly nn.Conv2D: a subclass may compute something else.
    is_covered = (
        type(layer) is nn.Conv2D
        and layer._data_format == "NCHW"
        and layer._padding_mode == "zeros"
        and layer._padding_algorithm != "SAME"
    )
    return NativeConv2D if is_covered and _worthwhile(layer) else None


def _worthwhile(layer: nn.Conv2D) -> bool:
    """Whether oneDNN has a fast kernel for these channels; for others it can be far slower.

    It has for depth-wise layers and for multiples of eight; kernels of more than one pixel also
    want at least sixteen input channels, or the three of an image.
    """
    inputs, outputs = layer._in_channels // layer._groups, layer._out_channels // layer._groups
    if inputs == outputs == 1 and layer._groups > 1:
        return True
    wide = layer._kernel_size == [1, 1] or inputs >= 16
    return ((inputs % 8 == 0 and wide) or inputs == 3) and outputs % 8 == 0


def difference() -> float:
    """Largest relative difference to Paddle's own results, output and gradients."""
    return max(
        _compare(16, 32, (3, 3), 1, [1, 1, 1, 1], 1, 1),
        _compare(8, 12, (1, 1), 2, [0, 0, 0, 0], 1, 1),
        _compare(6, 6, (3, 5), 2, [1, 0, 2, 1], 2, 6),
    )


def _compare(
    channels: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int,
    padding: list[int],
    dilation: int,
    groups: int,
) -> float:
    random = np.random.default_rng(0)  # not Paddle's generator: a check must not move its state
    kernel_shape = (outputs, channels // groups, *kernel)
    shapes = ((2, channels, 11, 9), kernel_shape, (outputs,))
    arrays = [random.standard_normal(shape).astype("float32") for shape in shapes]
    results = []
    for native in (True, False):
        x, weight, bias = (paddle.to_tensor(array, stop_gradient=False) for array in arrays)
        if native:
            y = _call(x, weight, bias, [stride] * 2, padding, [dilation] * 2, groups)
        else:
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        weights = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
        (y * paddle.to_tensor(weights)).sum().backward()
        results.append([t.numpy() for t in (y, x.grad, weight.grad, bias.grad)])
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*results, strict=True))
