import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn
from attn_blocks.layers.bat import BATransform


@pytest.mark.parametrize(
    ("channels", "keywords", "count"),
    [
        (512, {}, 343156),
        (1024, {}, 1330292),
        (512, {"hidden": 128, "groups": 2, "conv_bias": False}, 152192),  # timm
    ],
)
def test_parameter_counts_of_the_originals(channels, keywords, count):
    layer = create_attn("bat", channels, **keywords)
    assert sum(p.size for p in layer.parameters() if not p.stop_gradient) == count


def test_rows_of_p_and_columns_of_q_sum_to_one():
    layer = create_attn("bat", 16, size=3, groups=2)
    p, q = layer.transforms(paddle.randn([2, 16, 6, 9]))
    assert p.shape == q.shape == [2, 2, 3, 3]
    np.testing.assert_allclose(p.sum(axis=3).numpy(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(q.sum(axis=2).numpy(), 1.0, rtol=1e-5)


def test_bands_are_mixed_as_by_the_kronecker_product():
    layer = BATransform(4, size=3, groups=2)
    p, x = paddle.rand([2, 2, 3, 3]), paddle.randn([2, 4, 6, 5])
    mixed = layer.mix_rows(p, x).numpy()
    for i, j in np.ndindex(2, 4):
        expected = np.kron(p[i, j // 2].numpy(), np.eye(2)) @ x[i, j].numpy()
        np.testing.assert_allclose(mixed[i, j], expected, rtol=1e-5, atol=1e-6)


def test_kronecker_macs_is_what_the_dense_products_cost_more():
    height, width, channels, size = 6, 9, 4, 3
    dense = channels * height * width * (height + width)
    banded = 2 * channels * height * width * size
    layer = BATransform(channels, size, groups=2)
    assert layer.kronecker_macs(height, width) == dense - banded


def test_dropout_drops_whole_channels_in_training_only():
    paddle.seed(0)
    layer, x = create_attn("bat", 64, size=2, dropout=0.5), paddle.randn([4, 64, 4, 4])
    added = (layer(x) - x).numpy()
    dropped = np.all(added == 0, axis=(2, 3)).mean()
    assert 0.3 < dropped < 0.7
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="5 channels that are transformed .* 4 groups; groups=1 w"):
        create_attn("bat", 10)
    with pytest.raises(ValueError, match="reduction=64 leaves none of 32"):
        create_attn("bat", 32, reduction=64)
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match="must be at least 0 and less than 1"):
            create_attn("bat", 32, dropout=dropout)
    with pytest.raises(ValueError, match="size=0 must be"):
        create_attn("bat", 32, size=0)


def test_map_that_does_not_divide_into_blocks():
    layer = create_attn("bat", 16)
    with pytest.raises(ValueError, match="a map of 8x12 does not divide into 7x7 .* size=4 works"):
        layer(paddle.zeros([1, 16, 8, 12]))
