import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


@pytest.mark.parametrize(("channels", "count"), [(128, 6), (256, 12), (2048, 96)])
def test_parameter_counts_of_the_original(channels, count):
    assert sum(p.size for p in create_attn("sa", channels).parameters()) == count


def test_gates():
    layer, half = create_attn("sa", 16, groups=2), paddle.randn([4, 4, 3, 5])
    assert layer.channel_gate(half).shape == [4, 4, 1, 1]
    assert layer.spatial_gate(half).shape == [4, 4, 3, 5]


def test_shuffle_interleaves_the_two_halves_of_the_channels():
    layer = create_attn("sa", 8, groups=2)
    x = paddle.arange(1, 9, dtype="float32").reshape([1, 8, 1, 1])
    order = np.rint(layer(x).numpy().ravel() * (1 + np.exp(-1)))
    np.testing.assert_array_equal(order, [1, 5, 2, 6, 3, 7, 4, 8])


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match=r"96 channels .* 2 \* 64 groups; groups=48 works"):
        create_attn("sa", 96)
    with pytest.raises(ValueError, match="channels=7 is odd"):
        create_attn("sa", 7, groups=1)
