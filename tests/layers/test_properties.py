"""What holds for every block, whatever it computes."""

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

from attn_blocks.layers import create_attn, list_attns

CHANNELS, HEIGHT, WIDTH = 16, 6, 9
CASES = [
    ("se", {"reduction": 4}),
    ("se", {"reduction": 4, "squeeze": "none", "shift": True, "bias": False}),
    ("ge", {}),
    ("ge", {"extent": 4}),
    ("ge", {"variant": "theta", "feat_size": (HEIGHT, WIDTH)}),
    ("ge", {"variant": "theta_plus", "extent": 2, "reduction": 4}),
    ("ge", {"variant": "theta_plus", "feat_size": (HEIGHT, WIDTH), "reduction": 4}),
    ("srm", {}),
    ("sge", {"groups": 4}),
    ("sa", {"groups": 4}),
    ("nl", {}),
    ("nl", {"mode": "gaussian", "subsample": "input"}),
    ("nl", {"mode": "dot_product", "subsample": "projections", "norm": False}),
    ("nl", {"mode": "concatenation"}),
    ("gc", {}),
    ("gc", {"pooling": "avg", "fusion": ("mul", "add")}),
    ("bat", {"size": 3, "groups": 2, "dropout": 0.0}),
]
# A block that is not listed is held to the same with its default settings.
CASES += [(name, {}) for name in list_attns() if name not in {listed for listed, _ in CASES}]
every_case = pytest.mark.parametrize(
    ("name", "keywords"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v))
)


def make(name, keywords, dtype="float32", random_parameters=True):
    """A block in evaluation mode, away from its initial values unless told otherwise."""
    paddle.seed(0)
    layer = create_attn(name, CHANNELS, **keywords).to(dtype=dtype)
    if random_parameters:
        for parameter in layer.parameters():
            if not parameter.stop_gradient:
                parameter.set_value(0.3 * paddle.randn(parameter.shape, dtype=dtype))
    layer.eval()
    return layer


def feature_map(n=2, height=HEIGHT, width=WIDTH, dtype="float32"):
    rng = np.random.default_rng(1)
    return paddle.to_tensor(rng.standard_normal((n, CHANNELS, height, width)), dtype=dtype)


@every_case
@pytest.mark.parametrize(("height", "width"), [(6, 9), (9, 6), (3, 15), (9, 3)])
def test_shape_is_kept_for_odd_and_oblong_maps(name, keywords, height, width):
    if "feat_size" in keywords:
        keywords = {**keywords, "feat_size": (height, width)}
    x = feature_map(height=height, width=width)
    for training in (True, False):
        layer = make(name, keywords)
        layer.train() if training else layer.eval()
        y = layer(x)
        assert y.shape == x.shape
        assert bool(paddle.isfinite(y).all())


@every_case
def test_samples_do_not_see_each_other_in_evaluation(name, keywords):
    layer, x = make(name, keywords, "float64"), feature_map(3, dtype="float64")
    together = layer(x).numpy()
    for i in range(3):
        np.testing.assert_allclose(layer(x[i : i + 1]).numpy()[0], together[i], rtol=0, atol=1e-12)


@every_case
@pytest.mark.parametrize("value", [0.0, 1.0, -3.7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_finite_at_constant_maps(name, keywords, value, dtype, training):
    layer = make(name, keywords, dtype)
    layer.train() if training else layer.eval()
    x = paddle.full([2, CHANNELS, HEIGHT, WIDTH], value, dtype=dtype)
    x.stop_gradient = False
    y = layer(x)
    (y * feature_map(dtype=dtype)).sum().backward()
    trainable = [p for p in layer.parameters() if not p.stop_gradient]
    for tensor in (y, x.grad, *(p.grad for p in trainable)):
        assert bool(paddle.isfinite(tensor).all())


@every_case
@pytest.mark.parametrize("training", [True, False])
def test_gradient_is_the_slope_of_the_output(name, keywords, training):
    """Along one random direction through the inputs and all parameters, in float64."""
    layer, n = make(name, keywords, "float64"), 4
    layer.train() if training else layer.eval()
    x, gy = feature_map(n, dtype="float64"), feature_map(n, dtype="float64").flip(axis=[0])
    x.stop_gradient = False
    tensors = [x, *(p for p in layer.parameters() if not p.stop_gradient)]
    (layer(x) * gy).sum().backward()
    directions = [paddle.randn(t.shape, dtype="float64") for t in tensors]
    slope = sum(float((t.grad * d).sum()) for t, d in zip(tensors, directions, strict=True))

    def moved(step):
        with paddle.no_grad():
            for t, d in zip(tensors, directions, strict=True):
                t.set_value(t + step * d)
            loss = float((layer(x) * gy).sum())
            for t, d in zip(tensors, directions, strict=True):
                t.set_value(t - step * d)
        return loss

    step = 1e-6
    assert slope == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=1e-5, abs=1e-5)


@every_case
def test_traced_block_gives_the_same_and_is_saved_and_loaded(name, keywords, tmp_path):
    layer, x = make(name, keywords), feature_map(3)
    expected = layer(x).numpy()
    # Batch, height and width stay open; only the channel count is known.
    spec = [InputSpec([None, CHANNELS, None, None], "float32")]
    traced = paddle.jit.to_static(layer, input_spec=spec, full_graph=True)
    np.testing.assert_allclose(traced(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    paddle.jit.save(traced, str(tmp_path / "block"))
    restored = paddle.jit.load(str(tmp_path / "block"))
    restored.eval()
    np.testing.assert_allclose(restored(x).numpy(), expected, rtol=1e-5, atol=1e-5)


# What Paddle itself differentiates only once on a CPU, and the settings here that need it.
ONCE = {
    "nearest-neighbour interpolation": [("ge", {"extent": 4})],
    "depth-wise convolution": [("ge", {"variant": "theta_plus", "extent": 2, "reduction": 4})],
    "soft-max": [("nl", {}), ("nl", {"mode": "gaussian", "subsample": "input"}), ("gc", {})],
    "max-pooling": [
        ("nl", {"mode": "dot_product", "subsample": "projections", "norm": False}),
        ("bat", {"size": 3, "groups": 2, "dropout": 0.0}),
    ],
    "layer norm": [("gc", {"pooling": "avg", "fusion": ("mul", "add")})],
}
TWICE = [case for case in CASES if not any(case in cases for cases in ONCE.values())]
TWICE += [("nl", {"mode": "dot_product"})]


@pytest.mark.parametrize(("name", "keywords"), TWICE, ids=str)
def test_second_derivative_is_the_slope_of_the_first(name, keywords):
    """Along one random direction through the input, in training and in float64."""
    layer = make(name, keywords, "float64")
    layer.train()

    def gradient(x):
        x.stop_gradient = False
        loss = (layer(x) * feature_map(4, dtype="float64").flip(axis=[0])).sum()
        return x, paddle.grad(loss, x, create_graph=True)[0]

    start, direction = feature_map(4, dtype="float64"), paddle.randn([4, CHANNELS, HEIGHT, WIDTH])
    direction = direction.astype("float64")
    x, first = gradient(start.clone())
    second = float((paddle.grad((first * direction).sum(), x)[0] * direction).sum())
    step = 1e-5
    ahead, behind = (gradient(start + s * direction)[1] for s in (step, -step))
    slope = float(((ahead - behind) * direction).sum()) / (2 * step)
    assert second == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.skipif(
    paddle.__version__.startswith("2."),
    reason="Paddle 2 casts in eager mode on a GPU only, never in a static program",
)
@every_case
def test_autocast_breaks_nothing(name, keywords):
    """In a static program, for only there does Paddle cast on a CPU.

    Its CPU kernels do not run in half precision, so the program is built, which checks the type of
    every operand, and not run. One operation is left out of the casting: its GPU kernels take
    bfloat16, and the check knows only those of the CPU.
    """
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            layer = create_attn(name, CHANNELS, **keywords)
            x = paddle.static.data("x", [2, CHANNELS, HEIGHT, WIDTH], "float32")
            left_out = ["max_pool2d_with_index"]
            with paddle.amp.auto_cast(level="O1", dtype="bfloat16", custom_black_list=left_out):
                y = layer(x)
        kinds = {op.name() for op in program.global_block().ops}
        in_half = [
            op.name()
            for op in program.global_block().ops
            if op.name() in ("pd_op.conv2d", "pd_op.matmul")
            and op.results()[0].dtype == paddle.bfloat16
        ]
    finally:
        paddle.disable_static()
    assert list(y.shape) == [2, CHANNELS, HEIGHT, WIDTH]
    assert bool(in_half) == bool({"pd_op.conv2d", "pd_op.matmul"} & kinds)


@every_case
def test_starts_as_documented(name, keywords):
    layer, x = make(name, keywords, random_parameters=False), feature_map()
    y = layer(x)
    if name == "nl" or (name == "gc" and "mul" not in keywords.get("fusion", ())):
        expected = x
    elif name in ("srm", "gc"):
        expected = 0.5 * x
    elif name == "sge":
        expected = paddle.nn.functional.sigmoid(paddle.to_tensor(1.0)) * x
    elif name == "sa":
        gated = paddle.nn.functional.sigmoid(paddle.to_tensor(1.0)) * x
        expected = paddle.nn.functional.channel_shuffle(gated, 2)
    elif name == "bat":  # not the identity: what it adds has been through a ReLU
        assert float((y - x).min()) >= 0.0
        assert float((y - x).max()) > 0.0
        return
    else:
        if hasattr(layer, "gate"):
            gate = layer.gate(x)
            assert float(gate.min()) > 0.1
            assert float(gate.max()) < 0.9
        return
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)
