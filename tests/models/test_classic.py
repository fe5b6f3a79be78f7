"""The classics are those of paddle.vision at full width, and shrink where they are told to."""

import numpy as np
import paddle
import pytest
from paddle.vision import models as vision

import attn_blocks as ab
from attn_blocks.errors import SettingError
from attn_blocks.models.classic import VGG19, MobileNetV2
from attn_blocks.models.resnet import ResNet
from attn_blocks.models.sa_inception import SAInception
from attn_blocks.models.senet_cifar import SENetCifar


@pytest.mark.parametrize("name", ["vgg19", "mobilenet_v2"])
def test_parameters_equal_paddle_vision(name):
    with paddle.LazyGuard():
        ours, theirs = ab.create_model(name), vision.__dict__[name]()
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert str(ours.features) == str(theirs.features)
    assert str(ours.classifier) == str(theirs.classifier)


def test_mobilenet_equals_paddle_vision_with_the_same_weights():
    ours, theirs = ab.create_model("mobilenet_v2"), vision.mobilenet_v2()
    missing, unexpected = ours.set_state_dict(theirs.state_dict())
    assert not missing and not unexpected
    ours.eval(), theirs.eval()
    x = paddle.randn([2, 3, 64, 64])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg19", "mobilenet_v2"])
def test_each_stem_halves_the_map_once_less(name):
    sides = []
    for stem in ("imagenet", "small", "cifar"):
        model = ab.create_model(name, 4, width=1 / 8, stem=stem, image_size=64)
        sides.append(model.features(paddle.zeros([1, 3, 64, 64])).shape[2])
    assert sides == [2, 4, 8]


def test_the_smallest_image_of_the_last_stem_is_named_once():
    with pytest.raises(SettingError, match="stem='cifar'; use at least 8x8$"):
        ab.create_model("vgg19", 4, width=1 / 8, stem="cifar", image_size=7)


@pytest.mark.parametrize("network", [VGG19, MobileNetV2, ResNet, SENetCifar, SAInception])
def test_a_network_by_itself_refuses_a_stem_that_does_not_exist(network):
    with pytest.raises(SettingError, match="unknown stem 'x'; choose one of: imagenet, small"):
        network(stem="x")


def test_width_scales_every_channel_count():
    with paddle.LazyGuard():
        half, full = (ab.create_model("vgg19", width=width).features for width in (1 / 2, 1))
        mobile = ab.create_model("mobilenet_v2", width=1 / 2)
    for path, weight in full.state_dict().items():
        assert half.state_dict()[path].shape[0] * 2 == weight.shape[0], path
    assert mobile.features[0][0].weight.shape[0] == 16
    assert mobile.features[17].conv[2].weight.shape[0] == 160
    assert mobile.classifier[1].weight.shape[0] == 640


def test_vgg_scales_its_hidden_layers():
    with paddle.LazyGuard():
        model = ab.create_model("vgg19", 10, width=1 / 4)
    assert model.classifier[0].weight.shape == [128 * 7 * 7, 1024]
    assert model.classifier[6].weight.shape == [1024, 10]
