"""Which of oneDNN's kernels the book's convolutions take: asked, never timed.

oneDNN falls back on reference kernels, plain loops, for what a processor's fast ones do not cover;
on AVX2 those are the weights of a 3x3 convolution on a map of 2x2, at seconds a call.
"""

import functools
import json
import os
import subprocess
import sys

import pytest

import attn_blocks as ab
from attn_blocks import native
from attn_blocks.device import AVX512, processor
from attn_blocks.native import conv
from attn_book.study.pages import PAGES
from attn_book.study.recipes import PROFILES

import paddle  # isort: skip
from paddle import nn  # isort: skip

pytestmark = pytest.mark.skipif(
    not native.available(), reason=f"no native operators here: {native.describe()['reason']}"
)
INSTRUCTIONS = [
    "AVX2",
    pytest.param(
        "AVX512_CORE",
        marks=pytest.mark.skipif(
            not processor()["flags"] >= AVX512, reason="this processor has no AVX-512"
        ),
    ),
    "ALL",
]
# Asks in a process of its own, since oneDNN reads the limit once.
ASK = """
import json, sys
from attn_blocks import native
from attn_blocks.native import conv

def hashable(value):
    return tuple(map(hashable, value)) if isinstance(value, list) else value

assert native.available()
kernels = [conv.kernels(*map(hashable, asked)) for asked in json.load(sys.stdin)]
json.dump([native.library.instruction_set(), kernels], sys.stdout)
"""


@functools.cache
def ask(shapes, instructions):
    """The set that oneDNN takes if it may use no more than these instructions, and its kernels."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        input=json.dumps(shapes),
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def networks():
    """Every network of every profile, once: name, options as training gives them, batch size."""
    found = {}
    for profile in PROFILES.values():
        for comparison in (comparison for page in PAGES.values() for comparison in page):
            recipe = profile.recipes[comparison.task]
            size = {"width": recipe.width, "stem": recipe.stem, "image_size": recipe.image_size}
            for entry in comparison.entries:
                network = entry.model, {**size, **entry.options}, recipe.batch_size
                found[repr(network)] = network
    return found.values()


def output_shape(layer, shape):
    """[N, C, H, W] of what a convolution makes of an input of this shape."""
    padding = conv._four_sides(layer._updated_padding)
    sides = [
        (side + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
        for side, pads, dilation, kernel, stride in zip(
            shape[2:],
            (padding[:2], padding[2:]),
            layer._dilation,
            layer._kernel_size,
            layer._stride,
            strict=True,
        )
    ]
    return [shape[0], layer._out_channels, *sides]


@pytest.fixture(scope="module")
def book_shapes():
    """The arguments of ``conv.kernels`` for all convolutions, of training batches and one image."""
    found = set()
    with pytest.MonkeyPatch.context() as patch, paddle.no_grad():
        for model, options, batch_size in networks():

            def forward(layer, x, batch_size=batch_size):
                found.update(layer.geometry([batch, *x.shape[1:]]) for batch in (batch_size, 1))
                return paddle.zeros(output_shape(layer, x.shape))

            patch.setattr(conv.NativeConv2D, "forward", forward)
            network = native.accelerate(ab.create_model(model, num_classes=10, **options))
            network.eval()
            network(paddle.zeros([1, 3, options["image_size"], options["image_size"]]))
    return sorted(found)


@pytest.fixture(scope="module")
def small_shapes():
    """Those for which oneDNN's own choice of layouts is a reference kernel on AVX2."""
    return [
        native.accelerate(nn.Conv2D(channels, channels, 3, padding=1)).geometry(
            [32, channels, side, side]
        )
        for channels in (16, 512)
        for side in (1, 2, 7)
    ]


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_no_convolution_of_the_book_takes_a_reference_kernel(
    book_shapes, small_shapes, instructions
):
    assert len(book_shapes) > 500  # as many as four profiles of eleven networks have, and more
    used, names = ask((*book_shapes, *small_shapes), instructions)
    names = names[: len(book_shapes)]
    slow = [
        (shape, kernels)
        for shape, kernels in zip(book_shapes, names, strict=True)
        if len(kernels) != 3 or any(name.startswith("ref") for name in kernels)
    ]
    assert not slow
    if instructions == "AVX2":  # the limit was kept, so the answer is an AVX2 machine's
        assert used == "AVX2"
        assert not any("avx512" in name for kernels in names for name in kernels)
        assert any("avx2" in name for kernels in names for name in kernels)


def test_small_maps_on_avx2(book_shapes, small_shapes):
    _, names = ask((*book_shapes, *small_shapes), "AVX2")
    assert len(small_shapes) == 6
    for forward, weights, data in names[len(book_shapes) :]:
        assert forward == data == "jit:avx2"
        assert weights in ("jit:avx2", "x64:gemm:jit")


def test_a_reference_kernel_is_refused(monkeypatch):
    """Whatever it is for, Paddle's own operator is taken, forward and backward."""
    layer = native.accelerate(nn.Conv2D(16, 16, 3))
    assert type(layer) is conv.NativeConv2D
    x = paddle.randn([2, 16, 5, 5])
    monkeypatch.setattr(conv, "_call", lambda *arguments: pytest.fail("oneDNN was called"))
    for refused in range(3):
        names = ["jit:any"] * 3
        names[refused] = "ref:any"
        monkeypatch.setattr(conv, "kernels", lambda *shape, names=names: tuple(names))
        y = layer(x)
        y.sum().backward()
        expected = nn.functional.conv2d(x, layer.weight, layer.bias)
        assert (y == expected).all()
        assert layer.weight.grad is not None
        layer.clear_gradients()
