import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn

MODES = ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


@pytest.mark.parametrize(
    ("channels", "keywords", "count"),
    [(512, {}, 526592), (1024, {}, 2101760), (512, {"inner": 64}, 132800)],  # BAT repository, timm
)
def test_parameter_counts_of_the_originals(channels, keywords, count):
    layer = create_attn("nl", channels, **keywords)
    assert sum(p.size for p in layer.parameters() if not p.stop_gradient) == count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("subsample", "keys"), [(None, 35), ("input", 6), ("projections", 6)]
)  # a 5x7 map and its 2x3 remainder
def test_attention_has_a_row_a_pixel_and_a_column_a_key(mode, subsample, keys):
    layer = create_attn("nl", 8, mode=mode, subsample=subsample)
    a = layer.attention(paddle.randn([2, 8, 5, 7]))
    assert a.shape == [2, 35, keys]
    if mode.endswith("gaussian"):
        np.testing.assert_allclose(a.sum(axis=-1).numpy(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", [True, False])
def test_starts_as_the_identity(mode, norm):
    layer, x = create_attn("nl", 8, mode=mode, norm=norm), paddle.randn([2, 8, 4, 3])
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())


def test_scale():
    x = paddle.randn([1, 16, 4, 4])
    scaled, plain, number = (create_attn("nl", 16, scale=scale) for scale in (True, False, 8**-0.5))
    for layer in (plain, number):
        layer.set_state_dict(scaled.state_dict())
    np.testing.assert_allclose(number.attention(x).numpy(), scaled.attention(x).numpy())
    assert not np.allclose(plain.attention(x).numpy(), scaled.attention(x).numpy())
    assert create_attn("nl", 16, mode="gaussian").scale == 16**-0.5


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="mode 'gauss'; choose one of: embedded_gaussian, gauss"):
        create_attn("nl", 8, mode="gauss")
    with pytest.raises(ValueError, match="subsample 'both'; choose one of: input, projections"):
        create_attn("nl", 8, subsample="both")
    with pytest.raises(ValueError, match="channels=1 leaves no inner channel"):
        create_attn("nl", 1)
    with pytest.raises(ValueError, match="inner=0 must be"):
        create_attn("nl", 8, inner=0)
    with pytest.raises(ValueError, match="map of 1x6 does not allow; use subsample=None"):
        create_attn("nl", 8, subsample="input")(paddle.zeros([1, 8, 1, 6]))
