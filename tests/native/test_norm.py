"""Native batch norm, ReLU and addition: Paddle's numbers, in fewer passes."""

import copy

import numpy as np
import pytest

from attn_blocks import native
from attn_blocks.native.norm import add_relu, norm_relu

import paddle  # isort: skip
from paddle import nn  # isort: skip
from paddle.nn import functional as F  # isort: skip

pytestmark = pytest.mark.skipif(
    not native.available(), reason=f"no native operators here: {native.describe()['reason']}"
)
SHAPES = [(4, 16, 9, 7), (8, 5, 1, 1), (2, 1, 4, 4), (7, 3, 2, 11)]


def draw(shape, mean=0.0):
    random = np.random.default_rng(len(shape) + sum(shape))
    return random.normal(mean, 2, shape).astype("float32")


def norms(channels, **options):
    """Paddle's batch norm and its native twin, with weights of either sign."""
    own = nn.BatchNorm2D(channels, **options)
    own.weight.set_value(draw([channels]))
    own.bias.set_value(draw([channels, 1]).ravel())
    fast = native.accelerate(copy.deepcopy(own))
    assert type(fast) is native.norm.NativeBatchNorm2D
    return own, fast


def gradients(function, *arrays):
    """The output of a function and the gradients of its inputs."""
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    y = function(*inputs)
    weights = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    (y * paddle.to_tensor(weights)).sum().backward()
    return [y.numpy(), *(x.grad.numpy() for x in inputs)]


def assert_equal(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("relu", [False, True], ids=["alone", "with relu"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_equals_paddles_in_gradients_and_statistics(shape, relu):
    found = []
    for layer in norms(shape[1], epsilon=1e-3, momentum=0.7):

        def forward(x, layer=layer):
            return norm_relu(layer, x) if relu else layer(x)

        arrays = gradients(forward, draw(shape))
        arrays += [parameter.grad.numpy() for parameter in (layer.weight, layer.bias)]
        layer.eval()
        with paddle.no_grad():
            arrays.append(forward(paddle.to_tensor(draw(shape))).numpy())
        found.append([*arrays, layer._mean.numpy(), layer._variance.numpy()])
    assert_equal(found[1], found[0])


def test_a_mean_far_above_the_deviation_costs_no_digits():
    image = draw([16, 4, 12, 12]).astype("float64") + 3000
    wide = (image - image.mean((0, 2, 3), keepdims=True)) / image.std((0, 2, 3), keepdims=True)
    layer = native.accelerate(nn.BatchNorm2D(4, epsilon=1e-12))
    y = layer(paddle.to_tensor(image.astype("float32"))).numpy()
    np.testing.assert_allclose(y, wide, atol=1e-3)  # float32 holds 3000 to 2e-4


def test_relu_and_addition_equal_paddles():
    x, y = draw([3, 8, 6, 5]), draw([3, 8, 6, 5], 1)
    relu = native.accelerate(nn.ReLU())
    assert type(relu) is native.norm.NativeReLU
    for fast, own, arrays in (
        (relu, F.relu, [x]),
        (add_relu, lambda x, y: F.relu(x + y), [x, y]),
    ):
        for a, b in zip(gradients(fast, *arrays), gradients(own, *arrays), strict=True):
            np.testing.assert_array_equal(a, b)
    x = paddle.to_tensor(x, stop_gradient=False)
    (add_relu(x, x) + add_relu(x, x)).sum().backward()  # one tensor on both sides
    np.testing.assert_array_equal(x.grad.numpy(), 4 * (x.numpy() > 0))


def test_what_is_no_number_passes():
    x = paddle.to_tensor([[[[np.nan, -1.0, np.inf]]]])
    found = native.accelerate(nn.ReLU())(x).numpy().ravel()
    assert np.isnan(found[0]) and found[1] == 0 and np.isinf(found[2])
    layer = native.accelerate(nn.BatchNorm2D(1))
    assert np.isnan(norm_relu(layer, x).numpy()).any()


def test_views_are_read_in_their_own_order():
    view = paddle.to_tensor(draw([2, 6, 7, 4])).transpose([0, 3, 1, 2])
    for own, fast in [norms(4), (nn.ReLU(), native.accelerate(nn.ReLU()))]:
        np.testing.assert_allclose(fast(view).numpy(), own(view).numpy(), atol=1e-5)
    own, fast = norms(4)
    upstream = paddle.to_tensor(draw([2, 6, 7, 4])).transpose([0, 3, 1, 2])
    for layer in (own, fast):
        layer(view).backward(upstream)
    assert_equal([fast.weight.grad.numpy()], [own.weight.grad.numpy()])


def test_same_bits_every_time():
    _, layer = norms(16)
    arrays = [gradients(lambda x: norm_relu(layer, x), draw([4, 16, 9, 9])) for _ in range(3)]
    for again in arrays[1:]:
        for a, b in zip(arrays[0], again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_paddles_own_way_for_what_is_not_covered():
    own, fast = norms(3)
    for layer in (own, fast):
        layer.eval()
    image = draw([2, 3, 5, 4])
    assert_equal(gradients(fast, image), gradients(own, image))  # gradients, and not training
    with pytest.raises(ValueError, match=r"4|dim"):
        fast(paddle.zeros([2, 3, 4]))
    double = paddle.to_tensor(image.astype("float64"))
    assert native.accelerate(nn.ReLU())(double).dtype == paddle.float64
    x, y = paddle.to_tensor(image), paddle.ones([1, 3, 1, 1])
    np.testing.assert_array_equal(add_relu(x, y).numpy(), F.relu(x + y).numpy())
    assert native.accelerate(nn.ReLU())(paddle.zeros([0, 3])).shape == [0, 3]


def test_one_value_a_channel_is_given_back_as_paddle_does():
    for relu in (False, True):
        found = []
        for layer in norms(5):
            x = paddle.to_tensor(draw([1, 5, 1, 1]))
            y = norm_relu(layer, x) if relu else layer(x)
            found.append([y.numpy(), layer._mean.numpy(), layer._variance.numpy()])
        for ours, expected in zip(found[1], found[0], strict=True):
            np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(found[0][0], np.maximum(x.numpy(), 0) if relu else x.numpy())


def test_only_what_computes_the_same_is_replaced():
    class Special(nn.BatchNorm2D):
        pass

    others = [
        nn.BatchNorm2D(3, data_format="NHWC"),
        nn.BatchNorm2D(3, use_global_stats=True),
        nn.BatchNorm2D(3, weight_attr=False),
        Special(3),
        nn.ReLU6(),
        nn.BatchNorm1D(3),
    ]
    before = [type(layer) for layer in others]
    assert [type(native.accelerate(layer)) for layer in others] == before


def test_a_result_without_gradients():
    _, layer = norms(3)
    x = paddle.to_tensor(draw([2, 3, 5, 4]))
    with paddle.no_grad():
        assert layer(x).stop_gradient
        assert native.accelerate(nn.ReLU())(x).stop_gradient


def test_wrong_results_are_noticed(monkeypatch):
    assert native.norm.difference() < 1e-5
    call = native.norm.call
    monkeypatch.setattr(native.norm, "call", lambda *given: [1.01 * y for y in call(*given)])
    assert native.norm.difference() > 5e-3
