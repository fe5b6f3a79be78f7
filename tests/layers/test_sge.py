import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


@pytest.mark.parametrize("groups", [8, 32, 64])
def test_parameter_count_is_two_a_group(groups):
    layer = create_attn("sge", 128, groups=groups)
    assert sum(p.size for p in layer.parameters()) == 2 * groups


def test_attention_is_the_gate_of_every_group_and_pixel():
    layer, x = create_attn("sge", 12, groups=3), paddle.randn([2, 12, 4, 5])
    layer.weight.set_value(paddle.randn(layer.weight.shape))
    gate = layer.attention(x)
    assert gate.shape == [2, 3, 4, 5]
    expected = x.numpy() * gate.numpy().repeat(4, axis=1)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-6)


def test_a_pixel_like_its_group_gains():
    layer = create_attn("sge", 2, groups=1)
    layer.weight.set_value(paddle.ones_like(layer.weight))
    x = paddle.ones([1, 2, 3, 3])
    x[:, :, 1, 1] = 5.0
    gate = layer.attention(x)[0, 0].numpy()
    assert gate.argmax() == 4


def test_constant_map_keeps_the_initial_gate():
    layer = create_attn("sge", 8, groups=2)
    layer.weight.set_value(paddle.ones_like(layer.weight))
    gate = layer.attention(paddle.full([1, 8, 3, 3], 2.0))
    np.testing.assert_allclose(gate.numpy(), 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="48 channels do not divide into 32 .*groups=24 works"):
        create_attn("sge", 48, groups=32)
    with pytest.raises(ValueError, match="32 channels do not divide into 64 .*groups=32 works"):
        create_attn("sge", 32)
    with pytest.raises(ValueError, match="1x1 map does not have; use maps of at least 2 pixels"):
        create_attn("sge", 64)(paddle.zeros([2, 64, 1, 1]))
