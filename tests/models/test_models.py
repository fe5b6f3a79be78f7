"""The registry: networks train at every stem, say what they became, and refuse nonsense."""

import json

import numpy as np
import paddle
import pytest

import attn_blocks as ab
from attn_blocks.errors import SettingError
from attn_blocks.layers.base import ATTNS
from attn_blocks.models import find

SMALLEST = {"imagenet": 64, "small": 32, "cifar": 16}
STEM_NAMES = [name for name in ab.list_models() if "50" in name or "resnet" not in name]
# Depths 34 and 101 hold more of the blocks of 18 and 50: one network of each is trained.
TRAINED = {
    name
    for name in ab.list_models()
    if not name.endswith(("34", "101")) or name in ("resnet101", "nl_resnet34")
}


def build(name, stem, size):
    return ab.create_model(name, num_classes=3, width=1 / 8, stem=stem, image_size=size)


def train_step(name, stem, size):
    model = build(name, stem, size)
    logits = model(paddle.randn([2, 3, size, size]))
    assert logits.shape == [2, 3]
    (logits**2).mean().backward()
    for path, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, f"{path} takes no part"
            assert bool(paddle.isfinite(parameter.grad).all()), path
    return model


def test_every_network_of_the_book_is_there():
    blocks = ["", "se_", "ge_", "srm_", "sge_", "sa_", "nl_", "gc_", "bat_"]
    expected = {f"{block}resnet{depth}" for block in blocks for depth in (18, 34, 50, 101)}
    others = {"bat_se_resnet50", "senet_cifar", "sa_inception", "vgg19", "mobilenet_v2"}
    assert expected | others <= set(ab.list_models())


@pytest.mark.parametrize("name", ab.list_models())
def test_every_network_is_built_at_reduced_width_and_trains(name):
    made = train_step if name in TRAINED else build
    model = made(name, "small", 64 if name == "sa_inception" else 32)
    settings = model.settings
    assert settings == json.loads(json.dumps(settings))
    assert settings["name"] == name
    assert (settings["num_classes"], settings["width"], settings["stem"]) == (3, 1 / 8, "small")
    blocks = [part for part in name.split("_") if part in ab.list_attns() and "resnet" in name]
    assert list(settings.get("attn", {})) == blocks or name in ("senet_cifar", "sa_inception")


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("name", STEM_NAMES)
def test_every_stem_works(name, stem):
    least = {"imagenet": 127, "cifar": 32}[stem] if name == "sa_inception" else SMALLEST[stem]
    train_step(name, stem, least)


@pytest.mark.parametrize("name", ["ge_resnet18", "gc_resnet18", "nl_resnet18", "sa_resnet18"])
@pytest.mark.parametrize("stem", ["imagenet", "small", "cifar"])
def test_odd_image_sizes_work(name, stem):
    train_step(name, stem, 45)


@pytest.mark.parametrize("name", ["se_resnet18", "sge_resnet18", "bat_resnet18", "senet_cifar"])
def test_static_graph_gives_the_same_result(name):
    model = ab.create_model(name, num_classes=3, width=1 / 8, stem="small", image_size=32)
    model.eval()
    x = paddle.randn([2, 3, 32, 32])
    expected = model(x).numpy()
    spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32")]
    static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
    np.testing.assert_allclose(static(x).numpy(), expected, atol=1e-5)


def test_the_seed_decides_the_weights():
    def weights(seed):
        paddle.seed(seed)
        return ab.create_model("gc_resnet18", 3, width=1 / 8).fc.weight.numpy()

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_numpys_whole_numbers_are_recorded_as_numbers():
    model = ab.create_model("resnet18", np.int64(3), width=1 / 8, image_size=np.int32(32))
    assert (model.settings["num_classes"], model.settings["image_size"]) == (3, 32)


def test_options_reach_the_block_and_the_record():
    model = ab.create_model("sge_resnet18", 3, width=1 / 4, groups=4)
    assert model.layer1[0].attn.groups == 4
    assert model.settings["attn"]["sge"]["layer4"] == {"channels": 128, "map": 7, "groups": 4}
    full = ab.create_model("gc_resnet18", 3, fusion=("mul", "add"), width=1 / 8)
    assert full.settings["attn"]["gc"]["layer2"]["fusion"] == ["mul", "add"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("se_resnet5", {}, "unknown model 'se_resnet5'.*did you mean 'se_resnet"),
        ("se_resnet18", {"stem": "tiny"}, "unknown stem 'tiny'; choose one of: imagenet, small"),
        ("se_resnet18", {"num_classes": 0}, "se_resnet18: num_classes=0 must be a whole number"),
        ("se_resnet18", {"image_size": 32.5}, "image_size=32.5 must be a whole number"),
        ("se_resnet18", {"width": 0}, "width=0 must be a number above 0"),
        ("se_resnet18", {"width": "half"}, "width='half' must be a number above 0"),
        ("se_resnet18", {"num_classes": True}, "num_classes=True must be a whole number"),
        ("se_resnet18", {"ratio": 4}, "unknown option of se_resnet18 'ratio'; choose one of:.*red"),
        (
            "resnet18",
            {"reduction": 4},
            "unknown option of resnet18 'reduction'; choose one of: attn",
        ),
        ("vgg19", {"groups": 4}, "vgg19 takes no option 'groups'"),
        ("bat_se_resnet50", {"placement": "inside"}, "unknown option of bat_se_resnet50 'placeme"),
        ("se_resnet18", {"placement": "after"}, "unknown placement 'after'; choose one of: inside"),
        ("sge_resnet18", {"groups": 48}, "sge_resnet18: 64 channels do not divide into 48 groups"),
        ("se_resnet18", {"reduction": 100}, "se_resnet18: reduction=100 leaves none of 64 channe"),
        ("nl_resnet18", {"mode": "cosine"}, "nl_resnet18: .*'cosine'; choose one of: embedded_ga"),
        ("bat_resnet18", {"size": 5}, "size=5 does not divide the 28x28 and 14x14 maps.*size=7"),
        ("bat_resnet18", {"image_size": 200}, "no block size from 2 to 7 divides the 25x25 and 13"),
        ("sge_resnet18", {"image_size": 32}, "sge_resnet18: .* maps of 1x1.*more than 32 pixels"),
        ("senet_cifar", {"squeeze": "max"}, "senet_cifar: .*'max'; choose one of: avg, none"),
        ("sa_inception", {"image_size": 64}, "64x64 images are too small for stem='imagenet'.*12"),
        ("sa_inception", {"groups": 60}, "sa_inception: 256 channels"),
        ("resnet18", {"attn": "sse"}, "unknown attention block 'sse'; choose one of.*mean 'se'"),
        ("resnet18", {"attn": lambda channels: None}, "resnet18: attn=.* such as attn='se'"),
        ("resnet18", {"attn": 16}, "attn=16 must be a class or a function .*, or a float"),
        ("resnet18", {"attn": float("nan")}, "resnet18: attn=nan must be a finite number"),
        ("resnet18", {"attn": ab.SqueezeExcite(64)}, "SqueezeExcite already made.*pass the class"),
        ("senet_cifar", {"attn": ab.SqueezeExcite}, "attn=.* must be True or False.*plain ResNet"),
        ("senet_cifar", {"attn": "nl"}, "senet_cifar: attn='nl' must be True or False"),
        ("sa_inception", {"attn": 0.5}, "sa_inception: attn=0.5 must be True or False"),
        ("sa_inception", {"attn": None}, "sa_inception: attn=None must be True or False"),
        ("resnet18", {"placement": "between"}, "resnet18: placement='between' needs a block"),
        ("se_resnet18", {"attn": "ge"}, "unknown option of se_resnet18 'attn'"),
        ("vgg19", {"image_size": 16}, "16x16 images are too small.*at least 32x32"),
    ],
)
def test_what_cannot_work_is_refused(name, arguments, words):
    with paddle.LazyGuard(), pytest.raises(SettingError, match=words):
        ab.create_model(name, **arguments)


class Scale(paddle.nn.Layer):
    """A block of the reader's own: one factor a channel."""

    def __init__(self, channels, start=1.0, act=paddle.nn.Identity):
        super().__init__()
        one = paddle.nn.initializer.Constant(start)
        self.factor = self.create_parameter([1, channels, 1, 1], default_initializer=one)

    def forward(self, x):
        return x * self.factor


SMALL = {"num_classes": 3, "width": 1 / 8, "stem": "small", "image_size": 32}


@pytest.mark.parametrize(
    ("placement", "places"),
    [
        (None, [f"layer{s}.{i}.attn" for s in (1, 2, 3, 4) for i in (0, 1)]),
        ("inside_c3_c5", [f"layer{s}.{i}.attn" for s in (2, 3, 4) for i in (0, 1)]),
        ("between", ["layer2.nl1", "layer3.nl1"]),
    ],
)
@pytest.mark.parametrize("attn", [Scale, lambda channels: Scale(channels, 0.5)])
def test_a_block_of_the_readers_own_is_placed(attn, placement, places):
    model = ab.create_model("resnet18", attn=attn, placement=placement, **SMALL)
    found = {name: layer for name, layer in model.named_sublayers() if type(layer) is Scale}
    assert list(found) == places
    plain = ab.count_params(ab.create_model("resnet18", **SMALL))
    channels = [layer.factor.shape[1] for layer in found.values()]
    assert ab.count_params(model) == plain + sum(channels)
    recorded = model.settings["attn"][attn.__name__]
    assert recorded["placement"] == (placement or "inside")
    assert recorded["layer2"] == {"channels": 16, "map": 8}
    (model(paddle.randn([2, 3, 32, 32])) ** 2).mean().backward()
    assert all(layer.factor.grad is not None for layer in found.values())


def test_a_registered_name_is_the_network_of_that_name():
    weights = []
    for name, options in (("se_resnet18", {}), ("resnet18", {"attn": "se"})):
        paddle.seed(0)
        model = ab.create_model(name, reduction=4, placement="inside_c3_c5", **options, **SMALL)
        assert model.settings["name"] == "se_resnet18"
        weights.append({key: value.numpy() for key, value in model.state_dict().items()})
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][key], value)


def test_a_block_has_its_networks_once_it_is_registered():
    assert "scale_resnet50" not in ab.list_models()
    with pytest.raises(SettingError, match="unknown model 'scale_resnet18'"):
        find("scale_resnet18")
    ab.register_attn("scale")(Scale)
    try:
        assert {f"scale_resnet{depth}" for depth in (18, 34, 50, 101)} <= set(ab.list_models())
        assert find("scale_resnet18").attns == ("scale",)
        assert find("scale_resnet18").options == ("placement", "start", "act")
        model = ab.create_model("scale_resnet18", start=0.5, **SMALL)
        record = model.settings["attn"]["scale"]["layer1"]
        assert record == {"channels": 8, "map": 16, "start": 0.5, "act": repr(paddle.nn.Identity)}
        assert float(model.layer1[0].attn.factor.mean()) == 0.5
    finally:
        del ATTNS["scale"]
    assert "scale_resnet50" not in ab.list_models()
