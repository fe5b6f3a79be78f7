"""Each block equals its NumPy restatement on random shapes, settings and parameters, in float64.

The restatements are shown in the notebooks; with the papers' recorded arrays at hand,
``tests/analysis/test_reference.py`` holds the same blocks against the original code.
"""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks.layers import create_attn
from attn_book.analysis import numpy_blocks

few = settings(max_examples=12)
sides = st.integers(2, 9)
seeds = st.integers(0, 2**32 - 1)


def randomise(layer, rng):
    """Every parameter and statistic drawn anew, variances positive; returns them by name."""
    parameters = {}
    for name, tensor in layer.state_dict().items():
        value = 0.3 * rng.standard_normal(tensor.shape)
        if name.endswith("_variance"):
            value = rng.uniform(0.5, 2.0, tensor.shape)
        tensor.set_value(paddle.to_tensor(value))
        parameters[name] = value
    return parameters


def check(name, shape, seed, restatement, *arguments, **keywords):
    rng = np.random.default_rng(seed)
    layer = create_attn(name, shape[1], **keywords).to(dtype="float64")
    layer.eval()
    parameters = randomise(layer, rng)
    x = rng.standard_normal(shape)
    expected = restatement(x, parameters, *arguments)
    actual = layer(paddle.to_tensor(x)).numpy()
    # Paddle's norms hold their eps in float32: exact only to about 1e-8.
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)


@few
@given(n=st.integers(1, 3), c=st.integers(1, 9), h=sides, w=sides, r=st.integers(1, 4), seed=seeds)
def test_se(n, c, h, w, r, seed):
    keywords = {"reduction": min(r, c), "bias": bool(seed % 2)}
    check("se", (n, c, h, w), seed, numpy_blocks.squeeze_excite, **keywords)


@few
@given(n=st.integers(1, 3), c=st.integers(2, 9), h=sides, w=sides, seed=seeds)
@pytest.mark.parametrize("squeeze", ["avg", "none"])
def test_se_with_shift(squeeze, n, c, h, w, seed):
    restatement = numpy_blocks.squeeze_excite_with_shift
    keywords = {"reduction": 2, "squeeze": squeeze, "shift": True, "bias": False}
    check("se", (n, c, h, w), seed, restatement, squeeze == "avg", **keywords)


@few
@given(n=st.integers(1, 3), c=st.integers(2, 6), h=sides, w=sides, seed=seeds)
@pytest.mark.parametrize("variant", ["theta_minus", "theta", "theta_plus"])
@pytest.mark.parametrize("extent", [0, 2, 4, 8])
def test_ge(variant, extent, n, c, h, w, seed):
    keywords = {"variant": variant, "extent": extent, "feat_size": (h, w), "reduction": 2}
    check("ge", (n, c, h, w), seed, numpy_blocks.gather_excite, variant, extent, **keywords)


@few
@given(n=st.integers(1, 4), c=st.integers(1, 9), h=sides, w=sides, seed=seeds)
def test_srm(n, c, h, w, seed):
    check("srm", (n, c, h, w), seed, numpy_blocks.style_recalibration)


@few
@given(n=st.integers(1, 3), m=st.integers(1, 4), g=st.integers(1, 4), h=sides, w=sides, seed=seeds)
def test_sge(n, m, g, h, w, seed):
    check("sge", (n, m * g, h, w), seed, numpy_blocks.spatial_group_enhance, g, groups=g)


@few
@given(n=st.integers(1, 3), m=st.integers(1, 3), g=st.integers(1, 4), h=sides, w=sides, seed=seeds)
def test_sa(n, m, g, h, w, seed):
    check("sa", (n, 2 * m * g, h, w), seed, numpy_blocks.shuffle_attention, g, groups=g)


@few
@given(n=st.integers(1, 3), c=st.integers(2, 6), h=sides, w=sides, scale=st.booleans(), seed=seeds)
@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"])
@pytest.mark.parametrize("subsample", [None, "input", "projections"])
def test_nl(mode, subsample, n, c, h, w, scale, seed):
    keywords = {"mode": mode, "scale": scale, "subsample": subsample, "norm": bool(seed % 2)}
    check("nl", (n, c, h, w), seed, numpy_blocks.non_local, *keywords.values(), **keywords)


@few
@given(n=st.integers(1, 3), c=st.integers(2, 9), h=sides, w=sides, seed=seeds)
@pytest.mark.parametrize("pooling", ["att", "avg"])
@pytest.mark.parametrize("fusion", [("add",), ("mul",), ("mul", "add")])
def test_gc(pooling, fusion, n, c, h, w, seed):
    keywords = {"pooling": pooling, "fusion": fusion}
    shape = (n, c, h, w)
    check("gc", shape, seed, numpy_blocks.global_context, pooling, fusion, hidden=3, **keywords)


@few
@given(
    n=st.integers(1, 3),
    per_group=st.integers(1, 2),
    groups=st.integers(1, 3),
    size=st.integers(1, 4),
    u=st.integers(1, 3),
    v=st.integers(1, 3),
    seed=seeds,
)
def test_bat(n, per_group, groups, size, u, v, seed):
    shape = (n, 2 * per_group * groups, size * u, size * v)
    restatement = numpy_blocks.bilinear_attn_transform
    check("bat", shape, seed, restatement, size, groups, size=size, groups=groups)
