"""SA-Residual-Inception-Net: the write-up's count, its pooling, its width and smallest images."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

import attn_blocks as ab
from attn_blocks.errors import SettingError


def test_published_size():
    model = ab.create_model("sa_inception", num_classes=16, image_size=256)
    assert ab.count_params(model) == 1_559_600
    blocks = [la for la in model.sublayers() if type(la) is type(ab.create_attn("sa", 256))]
    assert [block.groups for block in blocks] == [64] * 4
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    assert [norm._epsilon for norm in norms] == [1e-3] * 4


def test_the_global_average_is_the_published_pooling_at_256_pixels():
    model = ab.create_model("sa_inception", 16, width=1 / 4, image_size=256)
    model.eval()
    x = paddle.randn([1, 3, 256, 256])
    features = model.b5(model.b4(model.b3(model.b2(model.b1(x)))))
    assert features.shape[2:] == [2, 2]
    published = model.fc(F.avg_pool2d(features, 2).flatten(1))
    np.testing.assert_allclose(model(x).numpy(), published.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 256), ("small", 128), ("cifar", 64)])
def test_each_stem_has_its_image_size_of_the_same_maps(stem, size):
    model = ab.create_model("sa_inception", 16, width=1 / 8, stem=stem, image_size=size)
    x = model.b1(paddle.zeros([1, 3, size, size]))
    assert x.shape[2:] == [64, 64]


@pytest.mark.parametrize(("stem", "least"), [("imagenet", 127), ("small", 63), ("cifar", 32)])
def test_the_smallest_image_works_and_the_next_is_refused(stem, least):
    model = ab.create_model("sa_inception", 4, width=1 / 8, stem=stem, image_size=least)
    assert model(paddle.zeros([1, 3, least, least])).shape == [1, 4]
    words = f"{least - 1}x{least - 1} images are too small"
    with pytest.raises(SettingError, match=words) as caught:
        ab.create_model("sa_inception", 4, width=1 / 8, stem=stem, image_size=least - 1)
    assert str(caught.value).count("with stem=") == {"imagenet": 2, "small": 1, "cifar": 0}[stem]


def test_width_keeps_the_channels_of_a_group():
    model = ab.create_model("sa_inception", 16, width=1 / 2)
    settings = model.settings["attn"]["sa"]["b3, b4, b5"]
    assert settings == {"channels": 128, "groups": 32}


def test_a_residual_module_adds_its_routes_to_its_shortcut():
    module = ab.create_model("sa_inception", 16, width=1 / 4).b5[0]
    x = paddle.randn([1, module.shortcut.weight.shape[1], 4, 4])
    expected = F.relu(module.inception(x) + module.shortcut(x))
    np.testing.assert_array_equal(module(x).numpy(), expected.numpy())
    assert (module.inception(x).numpy() >= 0).all()
