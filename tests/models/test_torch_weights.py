"""Weights under the names of the papers' PyTorch code."""

import io
import pickle
import re
import zipfile

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from safetensors.numpy import save_file

import attn_blocks as ab
from attn_blocks.errors import CheckpointError
from attn_blocks.layers.bat import BATransform
from attn_blocks.models.torch_weights import (
    load_torch_checkpoint,
    load_torch_state_dict,
    read_checkpoint,
)

# The names of each original class, and the shapes for the block beside it. Norms are listed by
# their weight; the rest of their state is added by `state_of`.
SE_LINEAR = {"fc.0.weight": [4, 16], "fc.0.bias": [4], "fc.2.weight": [16, 4], "fc.2.bias": [16]}
SE_CONV = {"fc1.weight": [4, 16, 1, 1], "fc1.bias": [4], "fc2.weight": [16, 4, 1, 1]}
TRANSFORM = {
    "conv1.0.weight": [2, 8, 1, 1],
    "conv1.0.bias": [2],
    "conv1.1": 2,
    "conv_p.weight": [18, 2, 3, 1],
    "conv_p.bias": [18],
    "conv_q.weight": [18, 2, 1, 3],
    "conv_q.bias": [18],
    "conv2.0.weight": [8, 8, 1, 1],
    "conv2.0.bias": [8],
    "conv2.1": 8,
}
TRANSFORM_TIMM = {
    name.replace(".0.", ".conv.").replace(".1", ".bn"): shape
    for name, shape in TRANSFORM.items()
    if not name.endswith(".0.bias")
}


def convs(names, inputs, outputs, bias=True):
    shapes = {}
    for name in names:
        shapes[f"{name}.weight"] = [outputs, inputs, 1, 1]
        if bias:
            shapes[f"{name}.bias"] = [outputs]
    return shapes


def attn(name, channels=16, **keywords):
    return lambda: ab.create_attn(name, channels, **keywords)


DIALECTS = {
    "se, SRM repository": (attn("se", reduction=4), SE_LINEAR),
    "se, BAT repository": (
        attn("se", reduction=4),
        {name.replace("fc", "excitation"): shape for name, shape in SE_LINEAR.items()},
    ),
    "se, moskomule": (
        attn("se", reduction=4, bias=False),
        {"fc.0.weight": [4, 16], "fc.2.weight": [16, 4]},
    ),
    "se, timm": (attn("se", hidden=4), {**SE_CONV, "fc2.bias": [16]}),
    "se, JYPark09": (
        attn("se", reduction=4, bias=False, shift=True),
        {"fc.0.weight": [4, 16, 1, 1], "fc.2.weight": [32, 4, 1, 1]},
    ),
    "ge, SRM repository": (
        attn("ge", variant="theta", feat_size=7, conv_bias=True),
        {"conv.0.weight": [16, 1, 7, 7], "conv.0.bias": [16], "conv.1": 16},
    ),
    "ge, prototxt": (
        attn("ge", variant="theta_plus", feat_size=7),
        {
            "gather.weight": [16, 1, 7, 7],
            "gather_bn": 16,
            **{"down.weight": [1, 16, 1, 1], "down.bias": [1]},
            **{"up.weight": [16, 1, 1, 1], "up.bias": [16]},
        },
    ),
    "ge, timm": (
        attn("ge", variant="theta_plus", extent=4, hidden=4),
        {
            **{"gather.conv1.weight": [16, 1, 3, 3], "gather.norm1": 16},
            **{"gather.conv2.weight": [16, 1, 3, 3], "gather.norm2": 16},
            **{f"mlp.{name}": shape for name, shape in SE_CONV.items()},
            "mlp.fc2.bias": [16],
        },
    ),
    "srm": (attn("srm"), {"cfc": [16, 2], "bn": 16}),
    "sge": (attn("sge", groups=4), {"weight": [1, 4, 1, 1], "bias": [1, 4, 1, 1]}),
    "sa": (
        attn("sa", groups=4),
        {
            **{name: [1, 2, 1, 1] for name in ("cweight", "cbias", "sweight", "sbias")},
            **{"gn.weight": [2], "gn.bias": [2]},
        },
    ),
    "nl, BAT repository": (
        attn("nl"),
        {**convs("tpg", 16, 8), **convs("z", 8, 16), "bn": 16},
    ),
    "nl, timm": (attn("nl"), {**convs("tpg", 16, 8), **convs("z", 8, 16), "norm": 16}),
    "nl, Caffe2": (
        attn("nl"),
        {**convs(["theta", "phi", "g"], 16, 8), **convs(["out"], 8, 16), "bn": 16},
    ),
    "nl, AlexHex7": (
        attn("nl", subsample="projections"),
        {**convs(["theta", "phi.0", "g.0"], 16, 8), **convs(["W.0"], 8, 16), "W.1": 16},
    ),
    "nl, AlexHex7 concatenation": (
        attn("nl", mode="concatenation", norm=False),
        {
            **convs(["theta", "phi", "g"], 16, 8),
            **convs(["W"], 8, 16),
            "concat_project.0.weight": [1, 16, 1, 1],
        },
    ),
    "nl, GCNet": (
        attn("nl", out_bias=False),
        {
            **convs(["theta.conv", "phi.conv", "g.conv"], 16, 8),
            **convs(["conv_out.conv"], 8, 16, bias=False),
            "conv_out.bn": 16,
        },
    ),
    "nl, mmcv sub_sample": (
        attn("nl", subsample="projections", out_bias=False),
        {
            **convs(["theta.conv", "phi.0.conv", "g.0.conv"], 16, 8),
            **convs(["conv_out.conv"], 8, 16, bias=False),
            "conv_out.bn": 16,
        },
    ),
    "nl, mmcv concatenation": (
        attn("nl", mode="concatenation", norm=False),
        {
            **convs(["theta.conv", "phi.conv", "g.conv"], 16, 8),
            **convs(["conv_out.conv"], 8, 16),
            "concat_project.conv.weight": [1, 16, 1, 1],
        },
    ),
    "gc": (
        attn("gc", fusion=("mul", "add"), hidden=4),
        {
            **convs(["conv_mask"], 16, 1),
            **convs(["channel_add_conv.0", "channel_mul_conv.0"], 16, 4),
            **convs(["channel_add_conv.3", "channel_mul_conv.3"], 4, 16),
            **{
                f"channel_{fusion}_conv.1.{leaf}": [4, 1, 1]
                for fusion in ("add", "mul")
                for leaf in ("weight", "bias")
            },
        },
    ),
    "gc, timm": (
        attn("gc", fusion=("mul", "add"), hidden=4),
        {
            **convs(["conv_attn"], 16, 1),
            **convs(["mlp_add.fc1", "mlp_scale.fc1"], 16, 4),
            **convs(["mlp_add.fc2", "mlp_scale.fc2"], 4, 16),
            **{
                f"mlp_{f}.norm.{leaf}": [4] for f in ("add", "scale") for leaf in ("weight", "bias")
            },
        },
    ),
    "batransform": (lambda: BATransform(8, size=3, groups=2), TRANSFORM),
    "batransform, timm": (
        lambda: BATransform(8, size=3, groups=2, conv_bias=False),
        TRANSFORM_TIMM,
    ),
    "bat": (
        attn("bat", size=3, groups=2),
        {
            **convs(["conv1.0"], 16, 8),
            "conv1.1": 8,
            **{f"batransform.{name}": shape for name, shape in TRANSFORM.items()},
            **convs(["conv2.0"], 8, 16),
            "conv2.1": 16,
        },
    ),
    "bat, timm": (
        attn("bat", size=3, groups=2, conv_bias=False),
        {
            **convs(["conv1.conv"], 16, 8, bias=False),
            "conv1.bn": 8,
            **{f"ba.{name}": shape for name, shape in TRANSFORM_TIMM.items()},
            **convs(["conv2.conv"], 8, 16, bias=False),
            "conv2.bn": 16,
        },
    ),
}
every_dialect = pytest.mark.parametrize(("make", "shapes"), DIALECTS.values(), ids=DIALECTS)


def state_of(shapes, seed=0):
    """A PyTorch state with random numbers; a whole number stands for a batch norm of that width."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes.items():
        if isinstance(shape, int):
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"{name}.{leaf}"] = rng.random(shape, dtype=np.float32)
            state[f"{name}.num_batches_tracked"] = np.array(5)
        else:
            state[name] = rng.random(shape, dtype=np.float32)
    return state


@every_dialect
def test_every_name_arrives(make, shapes):
    state, layer = state_of(shapes), make()
    load_torch_state_dict(layer, state)
    given = [v.ravel() for k, v in state.items() if not k.endswith("num_batches_tracked")]
    taken = [t.numpy().ravel() for t in layer.state_dict().values()]
    assert sorted(map(tuple, given)) == sorted(map(tuple, taken))


@pytest.mark.parametrize(
    ("dialect", "theirs", "ours"),
    [
        ("ge, timm", "gather.conv2.weight", "gather_layers.conv2.weight"),
        ("ge, timm", "gather.norm2.running_var", "gather_layers.norm2._variance"),
        ("srm", "bn.running_mean", "bn._mean"),
        ("sa", "sbias", "sbias"),
        ("nl, BAT repository", "t.weight", "theta.weight"),
        ("nl, BAT repository", "p.bias", "phi.bias"),
        ("nl, Caffe2", "out.bias", "z.bias"),
        ("nl, AlexHex7", "phi.0.bias", "phi.bias"),
        ("nl, AlexHex7", "W.1.weight", "norm.weight"),
        ("nl, GCNet", "theta.conv.bias", "theta.bias"),
        ("gc", "channel_mul_conv.3.bias", "f_mul.conv2.bias"),
        ("gc, timm", "mlp_scale.fc1.bias", "f_mul.conv1.bias"),
        ("bat", "batransform.conv_q.bias", "transform.conv_q.bias"),
        ("bat", "batransform.conv2.0.bias", "transform.conv2.conv.bias"),
        ("bat, timm", "ba.conv1.bn.weight", "transform.conv1.bn.weight"),
    ],
)
def test_alike_parameters_are_not_confused(dialect, theirs, ours):
    make, shapes = DIALECTS[dialect]
    state, layer = state_of(shapes), make()
    load_torch_state_dict(layer, state)
    np.testing.assert_array_equal(layer.state_dict()[ours].numpy(), state[theirs])


@every_dialect
def test_every_name_is_needed_and_no_other_is_allowed(make, shapes):
    state, layer = state_of(shapes), make()
    before = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    for name in state:
        if not name.endswith("num_batches_tracked"):
            with pytest.raises(CheckpointError, match="missing: "):
                load_torch_state_dict(layer, {k: v for k, v in state.items() if k != name})
    with pytest.raises(CheckpointError, match=r"unknown: extra\.weight"):
        load_torch_state_dict(layer, {**state, "extra.weight": np.zeros(3)})
    for name, tensor in layer.state_dict().items():  # nothing was loaded by halves
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_all_problems_are_listed_in_one_error():
    state = state_of(DIALECTS["srm"][1])
    state["cfc"] = state["cfc"].T
    state["bn.bias"] = np.array(["a"] * 16)
    state["fc.weight"] = np.zeros([2, 2])
    state["norm.num_batches_tracked"] = np.array(5)
    del state["bn.running_var"]
    with pytest.raises(CheckpointError) as error:
        load_torch_state_dict(ab.create_attn("srm", 16), state)
    for problem in (
        "does not fit StyleRecalibration, nothing was loaded",
        "misshaped: cfc is [2, 16], needed [16, 2]",
        "not numbers: bn.bias is of type <U1",
        "unknown: fc.weight",
        "unknown: norm.num_batches_tracked",
        "missing: bn.running_var",
    ):
        assert problem in str(error.value)


def test_the_same_parameter_under_two_names_is_refused():
    state = state_of(DIALECTS["nl, timm"][1])
    state["theta.weight"] = state["t.weight"]
    with pytest.raises(CheckpointError, match=r"given twice: t\.weight and theta\.weight"):
        load_torch_state_dict(ab.create_attn("nl", 16), state)


def test_objects_are_not_numbers():
    state = {**state_of(DIALECTS["sge"][1]), "bias": np.array([[object()]])}
    with pytest.raises(CheckpointError, match="not numbers: bias is of type object"):
        load_torch_state_dict(ab.create_attn("sge", 16, groups=4), state)


def test_linear_weight_is_transposed():
    layer = nn.Sequential(("fc", nn.Linear(3, 5)))
    weight, bias = np.arange(15.0).reshape(5, 3), np.zeros(5)
    load_torch_state_dict(layer, {"fc.weight": weight, "fc.bias": bias})
    np.testing.assert_array_equal(layer.fc.weight.numpy(), weight.T)
    with pytest.raises(CheckpointError, match=r"fc\.weight is \[3, 5\], needed \[5, 3\]"):
        load_torch_state_dict(layer, {"fc.weight": weight.T, "fc.bias": bias})


def test_numbers_take_the_type_of_the_parameter():
    layer = ab.create_attn("sge", 16, groups=4).to(dtype="float64")
    load_torch_state_dict(layer, state_of(DIALECTS["sge"][1]))
    assert layer.weight.dtype == paddle.float64


@pytest.mark.parametrize("kind", ["float16", "longdouble", "uint8", "uint16", "uint32", "int64"])
def test_numbers_of_any_type_are_loaded(kind):
    layer = nn.Linear(2, 3)
    weight = np.arange(6).reshape(3, 2).astype(kind)
    load_torch_state_dict(layer, {"weight": weight, "bias": np.zeros(3, kind)})
    np.testing.assert_array_equal(layer.weight.numpy(), weight.T.astype("float32"))


# --- whole networks -----------------------------------------------------------------------------

BAT_NAMES = [
    (r"nl(\d)\.transform\.", r"nl\1.batransform."),
    (r"(nl\d\..*conv[12])\.conv", r"\1.0"),
    (r"(nl\d\..*conv[12])\.bn", r"\1.1"),
]
NETWORKS = [  # model, how its names are made those of the repository
    ("se_resnet50", [(r"attn\.fc1", "rclb.fc.0"), (r"attn\.fc2", "rclb.fc.2")]),
    ("se_resnet50", [(r"attn\.fc1", "se.fc.0"), (r"attn\.fc2", "se.fc.2")]),
    (
        "ge_resnet50",
        [
            (r"attn\.gather_layers\.conv1", "rclb.conv.0"),
            (r"attn\.gather_layers\.norm1", "rclb.conv.1"),
        ],
    ),
    ("srm_resnet50", [(r"attn\.", "rclb.")]),
    ("sge_resnet50", [(r"attn\.", "sge.")]),
    ("sa_resnet50", [(r"attn\.", "sa.")]),
    (
        "nl_resnet50",
        [(r"(nl\d)\.theta", r"\1.t"), (r"(nl\d)\.phi", r"\1.p"), (r"(nl\d)\.norm", r"\1.bn")],
    ),
    ("bat_resnet50", BAT_NAMES),
    (
        "bat_se_resnet50",
        [
            *BAT_NAMES,
            (r"attn\.fc1", "se_block.excitation.0"),
            (r"attn\.fc2", "se_block.excitation.2"),
        ],
    ),
]


def small(name):
    return ab.create_model(name, 3, width=1 / 8, stem="small", image_size=32)


def torch_state(model, names):
    """The state of ``model`` as the repository's code would save it."""
    state = {}
    for name, tensor in model.state_dict().items():
        value = tensor.numpy()
        if name == "fc.weight":
            value = value.T
        elif ".attn.fc" in name and name.endswith("weight"):
            value = value[:, :, 0, 0]
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        state[name] = np.ascontiguousarray(value)
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = np.array(7)
    return state


@pytest.fixture(scope="module")
def sge_state():
    return torch_state(small("sge_resnet50"), [(r"attn\.", "sge.")])


@pytest.mark.parametrize(("name", "names"), NETWORKS)
def test_checkpoint_of_a_network(name, names, tmp_path):
    paddle.seed(0)
    original, other = small(name), small(name)
    state = torch_state(original, names)
    assert not {n for n in state if ".attn." in n or ".transform." in n}
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    load_torch_checkpoint(other, path)
    for key, value in original.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy(), err_msg=key)


@pytest.mark.parametrize("squeeze", ["none", "avg"])
def test_the_small_senet_under_the_names_of_its_own_code(squeeze):
    paddle.seed(0)
    original, other = (
        ab.create_model("senet_cifar", 10, width=1 / 8, squeeze=squeeze) for _ in range(2)
    )
    names = [
        (r"^conv1\.", "conv_block.0."),
        (r"^bn1\.", "conv_block.1."),
        (r"^conv2\.", "out_conv.0."),
        (r"^bn2\.", "out_conv.1."),
        (r"^blocks\.(\d)\.conv1", r"res_blocks.\1.conv_lower.0"),
        (r"^blocks\.(\d)\.bn1", r"res_blocks.\1.conv_lower.1"),
        (r"^blocks\.(\d)\.conv2", r"res_blocks.\1.conv_upper.0"),
        (r"^blocks\.(\d)\.bn2", r"res_blocks.\1.conv_upper.1"),
        (r"^blocks\.(\d)\.attn\.fc1", r"res_blocks.\1.se_block.fc.0"),
        (r"^blocks\.(\d)\.attn\.fc2", r"res_blocks.\1.se_block.fc.2"),
    ]
    state = torch_state(original, names)
    assert "conv_block.0.weight" in state and not {n for n in state if n.startswith("blocks.")}
    load_torch_state_dict(other, state)
    for key, value in original.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy(), err_msg=key)
    with pytest.raises(CheckpointError) as error:
        load_torch_state_dict(small("se_resnet50"), state)
    assert (
        "looks like the small SENet with se, a first layer of [16, 3, 3, 3] and 10 classes"
        in (str(error.value).splitlines()[0])
    )


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_npz_and_the_prefixes_of_data_parallel_and_compile(sge_state, tmp_path, prefix):
    model = small("sge_resnet50")
    np.savez(tmp_path / "weights.npz", **{f"{prefix}{k}": v for k, v in sge_state.items()})
    load_torch_checkpoint(model, tmp_path / "weights.npz")
    np.testing.assert_array_equal(model.fc.weight.numpy(), sge_state["fc.weight"].T)


def test_checkpoint_of_another_network_is_refused(sge_state):
    with pytest.raises(CheckpointError) as error:
        load_torch_state_dict(small("sa_resnet50"), sge_state)
    first, *lines = str(error.value).splitlines()
    assert first == (
        "the state does not fit ResNet, nothing was loaded: it looks like a ResNet-50 with sge, a "
        "first layer of [8, 3, 3, 3] and 3 classes, needed is a ResNet-50 with sa, a first layer "
        "of [8, 3, 3, 3] and 3 classes (32 unknown, 96 missing)"
    )
    assert lines[0] == "  unknown: layer1.0.sge.weight"
    assert lines[20:] == ["  and 108 more"]
    with pytest.raises(CheckpointError, match=r"unknown: layer1\.0\.sge\.weight"):
        load_torch_state_dict(small("resnet50"), sge_state)


# --- files --------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".tar", ".pdparams", ".PTH"])
def test_pickle_is_refused_with_a_way_out(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"runs whatever code .* refused.*numpy\.savez"):
        load_torch_checkpoint(nn.Linear(2, 2), path)


def test_pickle_under_another_name_is_refused(tmp_path):
    for name in ("weights.npz", "weights.safetensors"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match="is not an? "):
            load_torch_checkpoint(nn.Linear(2, 2), path)
    with (tmp_path / "weights.npz").open("wb") as stream:
        np.savez(stream, weight=np.array([Bomb()], dtype=object))
    with pytest.raises(CheckpointError, match="is not an .npz of plain arrays"):
        load_torch_checkpoint(nn.Linear(2, 2), tmp_path / "weights.npz")


def test_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_torch_checkpoint(nn.Linear(2, 2), tmp_path / "absent.npz")
    with pytest.raises(CheckpointError, match=r"expected a \.safetensors or \.npz file"):
        load_torch_checkpoint(nn.Linear(2, 2), tmp_path / "weights.onnx")
    np.savez(tmp_path / "weights.npz", weight=np.zeros(3))
    whole = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is not an .npz of plain arrays"):
        load_torch_checkpoint(nn.Linear(2, 2), tmp_path / "weights.npz")


def npy(header):
    """An ``.npz`` whose only array has that header."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + size + header + bytes(48))
    return content.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n",  # 8 TB
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        b"((((((((",
        b"{" * 9000,
    ],
    ids=range(5),
)
def test_arrays_that_cannot_be_are_refused(tmp_path, header):
    (tmp_path / "weights.npz").write_bytes(npy(header))
    with pytest.raises(CheckpointError, match="is not an .npz of plain arrays"):
        read_checkpoint(tmp_path / "weights.npz")


@settings(max_examples=100)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_any_damage_is_refused_in_our_own_words_or_harmless(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.int64)}
    if kind == "npz":
        np.savez_compressed(path, **arrays)
    else:
        save_file(arrays, path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        found = read_checkpoint(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(value, np.ndarray) for value in found.values())
