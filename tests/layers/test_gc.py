import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


@pytest.mark.parametrize(
    ("channels", "keywords", "count"),
    [
        (256, {}, 8753),
        (2048, {}, 528769),
        (256, {"fusion": ("mul",), "hidden": 32}, 16993),  # timm
    ],
)
def test_parameter_counts_of_the_originals(channels, keywords, count):
    layer = create_attn("gc", channels, **keywords)
    assert sum(p.size for p in layer.parameters()) == count


def test_attention_weighs_the_pixels_of_the_context():
    layer, x = create_attn("gc", 16), paddle.randn([2, 16, 3, 5])
    a = layer.attention(x)
    assert a.shape == [2, 1, 3, 5]
    np.testing.assert_allclose(a.sum(axis=[1, 2, 3]).numpy(), 1.0, rtol=1e-5)
    expected = (x * a).sum(axis=[2, 3], keepdim=True)
    np.testing.assert_allclose(layer.context(x).numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


def test_every_pixel_receives_the_same():
    layer, x = create_attn("gc", 64), paddle.randn([2, 64, 3, 5])
    layer.f_add.conv2.weight.set_value(paddle.randn(layer.f_add.conv2.weight.shape))
    added = (layer(x) - x).numpy()
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :, :1, :1], x.shape), atol=1e-5)
    assert np.abs(added).max() > 1e-3


def test_order_of_the_fusions_does_not_matter():
    first = create_attn("gc", 16, fusion=("mul", "add"))
    second = create_attn("gc", 16, fusion=["add", "mul"])
    second.set_state_dict(first.state_dict())
    x = paddle.randn([2, 16, 3, 5])
    np.testing.assert_array_equal(first(x).numpy(), second(x).numpy())


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="pooling 'max'; choose one of: att, avg"):
        create_attn("gc", 16, pooling="max")
    for fusion in ((), "add"):
        with pytest.raises(ValueError, match=r'give \("add",\), \("mul",\) or'):
            create_attn("gc", 16, fusion=fusion)
    with pytest.raises(ValueError, match="fusion 'channel_add'; choose one of: add, mul"):
        create_attn("gc", 16, fusion=("channel_add",))
    with pytest.raises(ValueError, match="leaves none of 8 channels; ratio=2/8 or hidden=1 works"):
        create_attn("gc", 8)
    with pytest.raises(ValueError, match='weighs all pixels alike; attention needs "att"'):
        create_attn("gc", 16, pooling="avg").attention(paddle.zeros([1, 16, 2, 2]))
