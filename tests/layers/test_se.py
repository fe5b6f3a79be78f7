import numpy as np
import paddle
import pytest

from attn_blocks.layers import create_attn


def test_gate_has_one_number_a_channel_and_is_what_x_is_multiplied_with():
    layer, x = create_attn("se", 32), paddle.randn([2, 32, 4, 5])
    assert layer.gate(x).shape == [2, 32, 1, 1]
    np.testing.assert_allclose(layer(x).numpy(), (x * layer.gate(x)).numpy())


def test_nothing_is_squeezed_as_published_for_cifar():
    layer = create_attn("se", 32, squeeze="none", shift=True, bias=False)
    assert layer.gate(paddle.randn([2, 32, 4, 5])).shape == [2, 32, 4, 5]


@pytest.mark.parametrize(
    ("channels", "keywords", "count"),
    [
        (64, {"bias": False}, 512),  # moskomule/senet.pytorch
        (256, {}, 8464),  # SRM repository
        (2048, {}, 526464),
        (64, {"hidden": 8}, 1096),  # timm
        (128, {"bias": False, "shift": True}, 3072),  # JYPark09/SENet-PyTorch
    ],
)
def test_parameter_counts_of_the_originals(channels, keywords, count):
    layer = create_attn("se", channels, **keywords)
    assert sum(p.size for p in layer.parameters()) == count


def test_initial_values_are_pytorchs():
    paddle.seed(0)
    layer = create_attn("se", 256)
    for parameter in (layer.fc1.weight, layer.fc1.bias):  # uniform in +-1/sqrt(256)
        assert float(parameter.abs().max()) <= 1 / 16
    assert float(layer.fc1.weight.std()) == pytest.approx(1 / 16 / 3**0.5, rel=0.05)
    assert float(layer.fc2.weight.std()) == pytest.approx(1 / 4 / 3**0.5, rel=0.05)


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match="reduction=16 leaves none of 8 channels"):
        create_attn("se", 8)
    with pytest.raises(ValueError, match="squeeze 'max'; choose one of: avg, none"):
        create_attn("se", 64, squeeze="max")
    with pytest.raises(ValueError, match="hidden=0 must be"):
        create_attn("se", 64, hidden=0)
