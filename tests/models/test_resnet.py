"""The ResNets: torchvision's layout, and each block where its paper's code puts it."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.vision import models as vision

import attn_blocks as ab
from attn_blocks.models.resnet import DEPTHS, BasicBlock, Bottleneck, conv, map_sizes


@pytest.mark.parametrize("depth", [18, 50])
def test_equals_paddle_vision_with_the_same_weights(depth):
    ours, theirs = ab.create_model(f"resnet{depth}", 10), vision.__dict__[f"resnet{depth}"]()
    theirs.fc = nn.Linear(theirs.fc.weight.shape[0], 10)
    for statistic in (
        name for name in theirs.state_dict() if name.endswith(("_mean", "_variance"))
    ):
        theirs.state_dict()[statistic].uniform_(0.5, 1.5)
    missing, unexpected = ours.set_state_dict(theirs.state_dict())
    assert not missing and not unexpected
    ours.eval(), theirs.eval()
    x = paddle.randn([2, 3, 64, 64])
    expected = theirs(x).numpy()
    np.testing.assert_allclose(ours(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert ab.count_params(ours) == ab.count_params(theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101"])
def test_parameters_equal_paddle_vision(name):
    with paddle.LazyGuard():
        ours, theirs = ab.create_model(name), vision.__dict__[name]()
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("depth", "modules"),
    [
        (18, ["layer2.nl1", "layer3.nl1"]),
        (34, ["layer2.nl1", "layer2.nl3", "layer3.nl1", "layer3.nl3", "layer3.nl5"]),
        (50, ["layer2.nl1", "layer2.nl3", "layer3.nl1", "layer3.nl3", "layer3.nl5"]),
        (101, ["layer2.nl1", "layer2.nl3", "layer3.nl6", "layer3.nl13", "layer3.nl20"]),
    ],
)
@pytest.mark.parametrize("attn", ["nl", "gc", "bat"])
def test_modules_stand_after_the_published_blocks(attn, depth, modules):
    with paddle.LazyGuard():
        model = ab.create_model(f"{attn}_resnet{depth}", 3, width=1 / 8)
    kind = type(ab.create_attn(attn, 64))
    assert [name for name, layer in model.named_sublayers() if isinstance(layer, kind)] == modules
    names = list(model.layer2._sub_layers)
    assert names[names.index("nl1") - 1] == "1"


@pytest.mark.parametrize(
    ("name", "options", "stages"),
    [
        ("se_resnet50", {}, (1, 2, 3, 4)),
        ("gc_resnet50", {"placement": "inside"}, (1, 2, 3, 4)),
        ("gc_resnet50", {"placement": "inside_c3_c5"}, (2, 3, 4)),
    ],
)
def test_blocks_sit_in_every_residual_block_of_their_stages(name, options, stages):
    with paddle.LazyGuard():
        model = ab.create_model(name, 3, width=1 / 8, **options)
    kind = type(ab.create_attn(name.split("_")[0], 64))
    found = [path for path, layer in model.named_sublayers() if isinstance(layer, kind)]
    repeats = DEPTHS[50].repeats
    assert found == [f"layer{s}.{i}.attn" for s in stages for i in range(repeats[s - 1])]


def test_recalibration_and_module_together():
    with paddle.LazyGuard():
        model = ab.create_model("bat_se_resnet50", 3, width=1 / 8, size=2)
    assert type(model.layer2.nl1) is type(ab.create_attn("bat", 64))
    assert type(model.layer1[0].attn) is type(ab.create_attn("se", 64))
    assert model.settings["attn"]["bat"]["layer2"]["size"] == 2


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize(("inputs", "stride"), [(8, 2), (8 * 4, 1)])
def test_the_block_acts_after_the_last_norm_and_before_the_addition(block, inputs, stride):
    class Zero(nn.Layer):
        def forward(self, x):
            return x * 0

    outputs = 8 * block.expansion
    layer = block(inputs, 8, stride, Zero())
    x = paddle.randn([2, inputs, 6, 6])
    y = layer(x)
    assert y.shape == [2, outputs, 6 // stride, 6 // stride]
    np.testing.assert_array_equal(y.numpy(), nn.functional.relu(layer.downsample(x)).numpy())


def test_a_block_makes_its_shortcut_of_the_convolutions_that_it_is_given():
    made = []

    def recorded(*arguments):
        made.append(arguments)
        return conv(*arguments)

    BasicBlock(8, 16, 2, nn.Identity(), recorded)
    assert made == [(8, 16, 3, 2), (16, 16, 3), (8, 16, 1, 2)]


def test_the_stride_sits_in_the_3x3_convolution():
    layer = Bottleneck(8, 8, 2, nn.Identity())
    assert (layer.conv1._stride, layer.conv2._stride) == ([1, 1], [2, 2])


@pytest.mark.parametrize("stem", ["imagenet", "small", "cifar"])
@pytest.mark.parametrize("size", [30, 56, 64])
def test_map_sizes_are_those_of_the_network(stem, size):
    model = ab.create_model("resnet18", 3, width=1 / 8, stem=stem, image_size=size)
    x = nn.functional.relu(model.bn1(model.conv1(paddle.zeros([1, 3, size, size]))))
    x = model.maxpool(x)
    for stage in (1, 2, 3, 4):
        x = getattr(model, f"layer{stage}")(x)
        assert x.shape[2:] == [map_sizes(size, stem)[stage]] * 2


def test_initial_values_are_torchvisions():
    paddle.seed(0)
    model = ab.create_model("resnet18", 100)
    weight = model.layer3[0].conv1.weight.numpy()  # [256, 128, 3, 3]
    assert weight.std() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    bound = 512**-0.5
    assert 0.99 * bound < np.abs(model.fc.weight.numpy()).max() <= bound
    assert np.abs(model.fc.bias.numpy()).max() <= bound
    assert (model.layer3[0].bn2.weight.numpy() == 1).all()


def test_narrow_blocks_keep_the_channels_of_a_group():
    with paddle.LazyGuard():
        settings = ab.create_model("sge_resnet50", 10, width=1 / 4).settings["attn"]["sge"]
    assert [settings[f"layer{s}"]["groups"] for s in (1, 2, 3, 4)] == [16] * 4
    assert [settings[f"layer{s}"]["channels"] for s in (1, 2, 3, 4)] == [64, 128, 256, 512]


@pytest.mark.parametrize(("image_size", "size"), [(56, 7), (64, 4), (96, 6), (40, 5), (224, 7)])
def test_bat_takes_the_largest_size_that_divides_its_maps(image_size, size):
    with paddle.LazyGuard():
        model = ab.create_model("bat_resnet50", 10, 1 / 4, "small", image_size)
    placed = model.settings["attn"]["bat"]
    assert placed["placement"] == "between"
    assert placed["layer2"]["size"] == placed["layer3"]["size"] == size


def test_ge_gathers_over_the_whole_map_of_each_stage():
    with paddle.LazyGuard():
        settings = ab.create_model("ge_resnet50", 10).settings["attn"]["ge"]
        local = ab.create_model("ge_resnet50", 10, extent=2).settings["attn"]["ge"]
    assert [settings[f"layer{s}"]["feat_size"] for s in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert settings["layer1"]["conv_bias"] is True
    assert (local["layer1"]["feat_size"], local["layer1"]["conv_bias"]) == (None, False)
