import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


def test_style_is_mean_and_unbiased_standard_deviation():
    layer, x = create_attn("srm", 4), paddle.randn([3, 4, 5, 2], dtype="float64")
    mean, std = layer.style(x)
    values = x.numpy().reshape(3, 4, 10)
    np.testing.assert_allclose(mean.numpy(), values.mean(-1), rtol=1e-9)
    np.testing.assert_allclose(std.numpy(), np.sqrt(values.var(-1, ddof=1) + 1e-5), rtol=1e-9)


@pytest.mark.parametrize(("channels", "count"), [(64, 256), (2048, 8192)])
def test_parameter_counts_of_the_original(channels, count):
    layer = create_attn("srm", channels)
    assert sum(p.size for p in layer.parameters() if not p.stop_gradient) == count


def test_one_sample_cannot_be_normalised_in_training():
    layer, x = create_attn("srm", 4), paddle.randn([1, 4, 5, 5])
    with pytest.raises(ValueError, match=r"batch of 1 has no variance; use at least 2 samples"):
        layer(x)
    layer.eval()
    assert layer(x).shape == x.shape


def test_one_pixel_has_no_variance():
    with pytest.raises(ValueError, match="1x1 map does not have; use maps of at least 2 pixels"):
        create_attn("srm", 4)(paddle.zeros([2, 4, 1, 1]))
