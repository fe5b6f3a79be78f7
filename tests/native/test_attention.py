"""The attention blocks' faster forms: the plain ones' numbers, gradients and counts."""

import copy

import numpy as np
import pytest

from attn_blocks import count_macs, native
from attn_blocks.layers import create_attn
from attn_blocks.native import attention, library

import paddle  # isort: skip

CHANNELS, HEIGHT, WIDTH = 16, 6, 9
CASES = [
    ("se", {"reduction": 4}),
    ("se", {"reduction": 4, "squeeze": "none", "shift": True}),
    ("ge", {}),
    ("ge", {"extent": 2}),
    ("ge", {"variant": "theta_plus", "feat_size": (HEIGHT, WIDTH), "reduction": 4}),
    ("sge", {"groups": 4}),
    ("sa", {"groups": 4}),
    ("gc", {}),
    ("gc", {"pooling": "avg", "fusion": ("mul", "add")}),
]
every_case = pytest.mark.parametrize(("name", "keywords"), CASES, ids=str)


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """As on a machine without a compiler: only what needs none is made faster."""
    monkeypatch.delenv("ATTN_BLOCKS_NATIVE", raising=False)
    monkeypatch.setattr(library, "why_not", lambda: "no compiler")


def pair(name, keywords, dtype="float64"):
    """A block with random parameters, and its faster twin."""
    paddle.seed(0)
    plain = create_attn(name, CHANNELS, **keywords).to(dtype=dtype)
    for parameter in plain.parameters():
        if not parameter.stop_gradient:
            parameter.set_value(0.3 * paddle.randn(parameter.shape, dtype=dtype))
    with pytest.warns(UserWarning, match="no compiler"):
        fast = native.accelerate(copy.deepcopy(plain))
    assert type(fast).__module__ == attention.__name__
    assert list(fast.state_dict()) == list(plain.state_dict())
    return plain, fast


def outcome(layer, image):
    """Output, gradients and running statistics after a step of training."""
    x = paddle.to_tensor(image, stop_gradient=False)
    y = layer(x)
    weights = np.linspace(-1, 1, y.size).reshape(y.shape).astype(image.dtype)
    (y * paddle.to_tensor(weights)).sum().backward()
    state = [value.numpy() for value in layer.state_dict().values()]
    gradients = [p.grad.numpy() for p in layer.parameters() if not p.stop_gradient]
    return [y.numpy(), x.grad.numpy(), *gradients, *state]


@every_case
def test_gives_the_same(name, keywords):
    image = np.random.default_rng(1).normal(0.3, 1, (3, CHANNELS, HEIGHT, WIDTH))
    for plain, fast in zip(*(outcome(layer, image) for layer in pair(name, keywords)), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-10, atol=1e-10)


@every_case
def test_a_traced_program_keeps_the_papers_operations(name, keywords):
    counts = {count_macs(layer, (CHANNELS, HEIGHT, WIDTH)) for layer in pair(name, keywords)}
    assert len(counts) == 1


@pytest.mark.parametrize(("name", "keywords"), [("sa", {"groups": 4}), ("se", {"reduction": 4})])
def test_maps_of_one_pixel(name, keywords):
    image = np.random.default_rng(1).normal(size=(3, CHANNELS, 1, 1))
    for plain, fast in zip(*(outcome(layer, image) for layer in pair(name, keywords)), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-10, atol=1e-10)


def test_the_plain_form_is_taken_off_the_cpu(monkeypatch):
    monkeypatch.setattr(attention, "_computed_here", lambda x: False)
    x = paddle.randn([2, CHANNELS, HEIGHT, WIDTH])
    for name, keywords in CASES:
        plain, fast = pair(name, keywords, "float32")
        np.testing.assert_array_equal(fast(x).numpy(), plain(x).numpy())


def test_blocks_speak_under_their_own_name():
    _, fast = pair("se", {"reduction": 4})
    with pytest.raises(ValueError, match=r"^SqueezeExcite\(16\) takes"):
        fast(paddle.zeros([2, 8, 4, 4]))


def test_subclasses_are_left_alone():
    class Special(type(create_attn("se", CHANNELS))):
        pass

    special = Special(CHANNELS)
    with pytest.warns(UserWarning, match="no compiler"):
        assert type(native.accelerate(special)) is Special
