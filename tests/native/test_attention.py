"""The attention blocks' faster forms: the plain ones' numbers, gradients and counts."""

import copy
import warnings

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
    ("srm", {}),
    ("sge", {"groups": 4}),
    ("sge", {"groups": CHANNELS}),
    ("sa", {"groups": 4}),
    ("sa", {"groups": 8}),
    ("gc", {}),
    ("gc", {"pooling": "avg", "fusion": ("mul", "add")}),
]
every_case = pytest.mark.parametrize(("name", "keywords"), CASES, ids=str)


@pytest.fixture(params=["float32", "float64"], autouse=True)
def dtype(request, monkeypatch):
    """float32 for the compiled operators, float64 as on a machine without a compiler."""
    monkeypatch.delenv("ATTN_BLOCKS_NATIVE", raising=False)
    if request.param == "float64":
        monkeypatch.setattr(library, "why_not", lambda: "no compiler")
    elif not native.available():
        pytest.skip(f"no native operators here: {native.describe()['reason']}")
    return request.param


def accelerated(layer):
    with warnings.catch_warnings():  # of what is not compiled
        warnings.simplefilter("ignore", UserWarning)
        return native.accelerate(layer)


def pair(name, keywords, dtype):
    """A block with random parameters, and its faster twin."""
    paddle.seed(0)
    plain = create_attn(name, CHANNELS, **keywords).to(dtype=dtype)
    for parameter in plain.parameters():
        if not parameter.stop_gradient:
            parameter.set_value(0.3 * paddle.randn(parameter.shape, dtype=dtype))
    fast = accelerated(copy.deepcopy(plain))
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


def assert_same_outcome(layers, image, dtype):
    outcomes = [outcome(layer, image.astype(dtype)) for layer in layers]
    for plain, fast in zip(*outcomes, strict=True):
        if dtype == "float64":
            np.testing.assert_allclose(fast, plain, rtol=1e-10, atol=1e-10)
        else:
            np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=2e-5 * np.abs(plain).max())


@every_case
def test_gives_the_same(name, keywords, dtype):
    image = np.random.default_rng(1).normal(0.3, 1, (3, CHANNELS, HEIGHT, WIDTH))
    assert_same_outcome(pair(name, keywords, dtype), image, dtype)


@every_case
def test_the_same_bits_every_time(name, keywords, dtype):
    image = np.random.default_rng(1).normal(0.3, 1, (3, CHANNELS, HEIGHT, WIDTH)).astype(dtype)
    runs = [outcome(pair(name, keywords, dtype)[1], image) for _ in range(3)]
    for again in runs[1:]:
        for a, b in zip(runs[0], again, strict=True):
            np.testing.assert_array_equal(a, b)


@every_case
def test_a_view_without_recorded_gradients(name, keywords, dtype):
    shape = (3, HEIGHT, WIDTH, CHANNELS)
    image = np.random.default_rng(1).normal(0.3, 1, shape).astype(dtype)
    view = paddle.to_tensor(image).transpose([0, 3, 1, 2])
    plain, fast = pair(name, keywords, dtype)
    with paddle.no_grad():
        y = fast(view)
        assert y.stop_gradient
        np.testing.assert_allclose(y.numpy(), plain(view).numpy(), rtol=1e-4, atol=1e-4)


@every_case
def test_a_traced_program_keeps_the_papers_operations(name, keywords, dtype):
    counts = {count_macs(layer, (CHANNELS, HEIGHT, WIDTH)) for layer in pair(name, keywords, dtype)}
    assert len(counts) == 1


@pytest.mark.parametrize(("name", "keywords"), [("sa", {"groups": 4}), ("se", {"reduction": 4})])
def test_maps_of_one_pixel(name, keywords, dtype):
    image = np.random.default_rng(1).normal(size=(3, CHANNELS, 1, 1))
    assert_same_outcome(pair(name, keywords, dtype), image, dtype)


def test_the_plain_form_is_taken_off_the_cpu(monkeypatch):
    monkeypatch.setattr(attention, "_computed_here", lambda x: False)
    monkeypatch.setattr(library, "why_not", lambda: "no compiler")  # nor are its convolutions
    x = paddle.randn([2, CHANNELS, HEIGHT, WIDTH])
    for name, keywords in CASES:
        plain, fast = pair(name, keywords, "float32")
        np.testing.assert_array_equal(fast(x).numpy(), plain(x).numpy())


def test_blocks_speak_under_their_own_name():
    _, fast = pair("se", {"reduction": 4}, "float32")
    with pytest.raises(ValueError, match=r"^SqueezeExcite\(16\) takes"):
        fast(paddle.zeros([2, 8, 4, 4]))


def test_subclasses_are_left_alone():
    class Special(type(create_attn("se", CHANNELS))):
        pass

    special = Special(CHANNELS)
    assert type(accelerated(special)) is Special
