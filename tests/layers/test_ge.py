import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


def test_theta_minus_has_no_parameters():
    assert not create_attn("ge", 64, variant="theta_minus").parameters()


@pytest.mark.parametrize(
    ("channels", "size", "count"), [(256, 56, 803584), (2048, 7, 106496)]
)  # SRM repository, stages 1 and 4
def test_parameter_counts_of_the_original(channels, size, count):
    layer = create_attn("ge", channels, variant="theta", feat_size=size, conv_bias=True)
    assert sum(p.size for p in layer.parameters() if not p.stop_gradient) == count


@pytest.mark.parametrize(("extent", "shape"), [(2, [5, 3]), (4, [3, 2]), (8, [2, 1])])
@pytest.mark.parametrize("variant", ["theta_minus", "theta"])
def test_extent_divides_the_map_rounded_up(variant, extent, shape):
    layer, x = create_attn("ge", 8, variant=variant, extent=extent), paddle.randn([2, 8, 9, 6])
    assert layer.gather(x).shape == [2, 8, *shape]
    assert layer.gate(x).shape == x.shape


def test_padding_does_not_count_in_the_mean():
    layer = create_attn("ge", 1, extent=4)
    np.testing.assert_allclose(layer.gather(paddle.ones([1, 1, 9, 9])).numpy(), 1.0, rtol=1e-6)


@pytest.mark.parametrize(("size", "gathered"), [(7, 7), (14, 13)])
def test_timms_padding_does_not_gather_to_one_value(size, gathered):
    layer = create_attn("ge", 4, variant="theta", feat_size=size, padding="same")
    x = paddle.randn([2, 4, size, size])
    assert layer.gather(x).shape == [2, 4, gathered, gathered]
    assert layer(x).shape == x.shape


def test_mlp_on_the_mean_is_squeeze_and_excitation():
    ge = create_attn("ge", 32, mlp=True)
    se = create_attn("se", 32)
    se.set_state_dict(ge.state_dict())
    x = paddle.randn([2, 32, 4, 5])
    np.testing.assert_allclose(ge(x).numpy(), se(x).numpy(), rtol=1e-6)


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="variant 'theta-plus'.*did you mean 'theta_plus'"):
        create_attn("ge", 32, variant="theta-plus")
    for extent in (-2, 1, 6):
        with pytest.raises(ValueError, match=f"extent={extent} must be 0 .* or a power of two"):
            create_attn("ge", 32, extent=extent)
    with pytest.raises(ValueError, match=r"give feat_size=\(height, width\), or extent"):
        create_attn("ge", 32, variant="theta")
    with pytest.raises(ValueError, match="feat_size=0 must be"):
        create_attn("ge", 32, variant="theta", feat_size=0)
    with pytest.raises(ValueError, match="padding 'full'; choose one of: valid, same"):
        create_attn("ge", 32, variant="theta", feat_size=7, padding="full")
    with pytest.raises(ValueError, match="reduction=64 leaves none of 32"):
        create_attn("ge", 32, variant="theta_plus", feat_size=7, reduction=64)


def test_map_of_another_size_is_refused():
    layer = create_attn("ge", 8, variant="theta", feat_size=7)
    with pytest.raises(ValueError, match=r"maps of 7x7, got 7x14; give feat_size=\(7, 14\)"):
        layer(paddle.zeros([2, 8, 7, 14]))


@pytest.mark.parametrize("keywords", [{"feat_size": 4}, {"extent": 4}])
def test_one_value_cannot_be_normalised(keywords):
    layer, x = create_attn("ge", 8, variant="theta", **keywords), paddle.zeros([1, 8, 4, 4])
    with pytest.raises(ValueError, match=r"batch of 1 has no variance; use at least 2 samples"):
        layer(x)
    layer.eval()
    assert layer(x).shape == x.shape
