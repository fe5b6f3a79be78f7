import copy
import subprocess
import sys

import numpy as np
import pytest

from attn_blocks import native
from attn_blocks.native import conv, library

import paddle  # isort: skip
from paddle import nn  # isort: skip

needs_native = pytest.mark.skipif(
    not native.available(), reason=f"no native operators here: {native.describe()['reason']}"
)
needs_cpu_build = pytest.mark.skipif(
    paddle.is_compiled_with_cuda(), reason="the GPU build of Paddle never builds it"
)

# input shape, then the arguments of nn.Conv2D
CASES = {
    "3x3": ((2, 16, 9, 9), (16, 32, 3), {"padding": 1}),
    "odd sizes and channels": ((3, 5, 13, 7), (5, 11, 3), {"padding": 1}),
    "stem 7x7": ((2, 3, 31, 33), (3, 16, 7), {"stride": 2, "padding": 3}),
    "1x1 on a large map": ((2, 32, 10, 9), (32, 16, 1), {}),
    "1x1 on a tiny map": ((4, 32, 2, 2), (32, 48, 1), {}),
    "1x1 on one pixel": ((4, 24, 1, 1), (24, 6, 1), {}),
    "1x1 stride 2": ((2, 16, 11, 12), (16, 32, 1), {"stride": 2}),
    "1x1 with padding": ((2, 16, 6, 5), (16, 8, 1), {"padding": 1}),
    "3x3 stride 2": ((2, 16, 15, 14), (16, 32, 3), {"stride": 2, "padding": 1}),
    "groups": ((2, 32, 8, 7), (32, 48, 3), {"groups": 4, "padding": 1}),
    "groups of odd size": ((2, 9, 8, 7), (9, 6, 3), {"groups": 3, "padding": 1}),
    "1x1 groups": ((2, 32, 8, 7), (32, 16, 1), {"groups": 4}),
    "depth-wise": ((2, 24, 9, 9), (24, 24, 3), {"groups": 24, "padding": 1}),
    "depth-wise stride 2": ((2, 16, 9, 8), (16, 16, 3), {"groups": 16, "stride": 2, "padding": 1}),
    "depth-wise multiplied": ((2, 8, 9, 8), (8, 16, 4), {"groups": 8, "stride": 4}),
    "dilation": ((2, 16, 14, 13), (16, 16, 3), {"padding": 2, "dilation": 2}),
    "unequal everything": (
        (2, 6, 17, 15),
        (6, 10, (3, 5)),
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    ),
    "four paddings": ((2, 8, 10, 10), (8, 8, 3), {"padding": [0, 1, 2, 1], "stride": 2}),
    "nested paddings": ((1, 8, 9, 9), (8, 8, 3), {"padding": [[0, 0], [0, 0], [1, 0], [2, 2]]}),
    "padding valid": ((1, 4, 6, 6), (4, 4, 3), {"padding": "VALID"}),
    "kernel as large as the map": ((3, 16, 4, 4), (16, 8, 4), {}),
    "one channel": ((1, 1, 8, 8), (1, 1, 3), {"padding": 1}),
}


def outputs_and_gradients(layer, image):
    x = paddle.to_tensor(image, stop_gradient=False)
    y = layer(x)
    weights = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    (y * paddle.to_tensor(weights)).sum().backward()
    arrays = [y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]
    layer.clear_gradients()
    return arrays


def make(shape, arguments, options, bias=True):
    paddle.seed(1)
    own = nn.Conv2D(*arguments, bias_attr=None if bias else False, **options)
    fast = copy.deepcopy(own)
    # Whatever its channels: the operator must be right also where accelerate() finds it slow.
    fast.__class__ = conv.NativeConv2D
    image = np.random.default_rng(1).standard_normal(shape).astype("float32")
    return own, fast, image


@needs_native
@pytest.mark.parametrize(
    ("arguments", "options", "fast"),
    [
        ((16, 32, 3), {}, True),
        ((3, 16, 7), {}, True),
        ((8, 32, 1), {}, True),
        ((24, 24, 3), {"groups": 24}, True),
        ((8, 8, 3), {}, False),  # a hundred times slower than Paddle's own
        ((16, 1, 1), {}, False),
        ((1, 32, 1), {}, False),
        ((16, 32, 3), {"groups": 4}, False),
        ((16, 32, 3), {"padding": "SAME"}, False),
        ((16, 32, 3), {"padding_mode": "reflect", "padding": 1}, False),
    ],
)
def test_only_layers_with_a_fast_kernel_are_changed(arguments, options, fast):
    layer = native.accelerate(nn.Conv2D(*arguments, **options))
    assert (type(layer) is conv.NativeConv2D) == fast


@needs_native
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", CASES)
def test_equals_paddle_with_all_gradients(case, bias):
    own, fast, image = make(*CASES[case], bias)
    for a, b in zip(
        outputs_and_gradients(fast, image), outputs_and_gradients(own, image), strict=True
    ):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@needs_native
def test_same_bits_every_time():
    _, fast, image = make((4, 16, 12, 12), (16, 32, 3), {"padding": 1})
    first = outputs_and_gradients(fast, image)
    for _ in range(3):
        for a, b in zip(first, outputs_and_gradients(fast, image), strict=True):
            np.testing.assert_array_equal(a, b)


@needs_native
def test_views_are_read_in_their_own_order():
    own, fast, image = make((2, 8, 6, 5), (8, 8, 3), {})
    view = paddle.to_tensor(image).transpose([0, 1, 3, 2])[:, :, 1:]
    np.testing.assert_allclose(fast(view).numpy(), own(view).numpy(), atol=1e-5)
    gradient = paddle.randn([2, 3, 4, 8]).transpose([0, 3, 2, 1])
    grads = [paddle.grad(layer(view), layer.weight, gradient)[0] for layer in (fast, own)]
    np.testing.assert_allclose(grads[0].numpy(), grads[1].numpy(), atol=1e-4)


@needs_native
def test_a_layer_used_twice_adds_its_gradients():
    own, fast, image = make((2, 8, 6, 6), (8, 8, 3), {"padding": 1})
    twice = [outputs_and_gradients(nn.Sequential(layer, layer), image) for layer in (fast, own)]
    for a, b in zip(*twice, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@needs_native
def test_input_without_gradient_and_no_grad():
    own, fast, image = make((2, 8, 6, 6), (8, 8, 3), {})
    x = paddle.to_tensor(image)
    fast(x).sum().backward()
    own(x).sum().backward()
    assert x.grad is None
    np.testing.assert_allclose(fast.weight.grad.numpy(), own.weight.grad.numpy(), rtol=1e-4)
    with paddle.no_grad():
        assert fast(x).stop_gradient


@needs_native
def test_a_model_trains_to_the_same_weights():
    paddle.seed(3)
    own = nn.Sequential(
        nn.Conv2D(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2D(16),
        nn.ReLU(),
        nn.Conv2D(16, 16, 1, bias_attr=False),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    fast = native.accelerate(copy.deepcopy(own))
    assert list(fast.state_dict()) == list(own.state_dict())
    images = paddle.to_tensor(np.random.default_rng(0).random((8, 3, 16, 16), dtype="float32"))
    labels = paddle.arange(8) % 4
    for model in (own, fast):
        optimiser = paddle.optimizer.Momentum(0.1, 0.9, parameters=model.parameters())
        for _ in range(4):
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
            optimiser.clear_grad()
        model.eval()
    for name, value in fast.state_dict().items():
        np.testing.assert_allclose(value.numpy(), own.state_dict()[name].numpy(), atol=1e-3)
    np.testing.assert_allclose(fast(images).numpy(), own(images).numpy(), atol=1e-3)


@needs_native
def test_a_copy_has_weights_of_its_own():
    _, fast, image = make((1, 4, 5, 5), (4, 4, 3), {})
    twin = copy.deepcopy(fast)
    twin.weight.set_value(paddle.zeros_like(twin.weight))
    twin.bias.set_value(paddle.zeros_like(twin.bias))
    assert float(twin(paddle.to_tensor(image)).abs().max()) == 0
    assert float(fast(paddle.to_tensor(image)).abs().max()) > 0


@needs_native
def test_a_model_is_saved_with_paddles_own_operator(tmp_path):
    _, fast, image = make((1, 4, 5, 5), (4, 4, 3), {})
    spec = [paddle.static.InputSpec([None, 4, 5, 5], "float32")]
    paddle.jit.save(fast, str(tmp_path / "model"), input_spec=spec)
    code = "import sys, numpy, paddle; m = paddle.jit.load(sys.argv[1]);"
    code += "numpy.save(sys.argv[2], m(paddle.to_tensor(numpy.load(sys.argv[2]))).numpy())"
    np.save(tmp_path / "x.npy", image)
    command = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "x.npy")]
    subprocess.run(command, check=True, capture_output=True)  # a process without the operator
    expected = fast(paddle.to_tensor(image)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, atol=1e-5)


@needs_native
def test_other_convolutions_are_left_alone():
    class Special(nn.Conv2D):
        pass

    model = nn.Sequential(
        nn.Conv2D(3, 3, 3, padding="SAME"),
        nn.Conv2D(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2D(3, 3, 3, data_format="NHWC"),
        nn.Conv2DTranspose(3, 3, 3),
        Special(3, 3, 3),
    )
    before = [type(layer) for layer in model]
    native.accelerate(model)
    assert [type(layer) for layer in model] == before


@needs_native
def test_inputs_that_do_not_fit():
    own, fast, _ = make((1, 4, 5, 5), (4, 4, 3), {})
    for layer in (own, fast):
        with pytest.raises(ValueError, match="5"):
            layer(paddle.zeros([1, 5, 8, 8]))
    with pytest.raises(OSError, match="larger than the padded input"):
        fast(paddle.zeros([1, 4, 2, 2]))
    assert fast(paddle.zeros([0, 4, 8, 8])).shape == [0, 4, 6, 6]


@needs_native
def test_bfloat16_is_off_unless_asked_for(monkeypatch):
    own, fast, image = make((2, 64, 8, 8), (64, 64, 3), {"padding": 1})
    x = paddle.to_tensor(image)
    exact = own(x).numpy()
    assert native.describe()["maths"] == "float32"
    np.testing.assert_allclose(fast(x).numpy(), exact, atol=1e-4)
    monkeypatch.setenv("ATTN_BLOCKS_NATIVE_BF16", "1")
    assert native.describe()["maths"] == "bfloat16"
    np.testing.assert_allclose(fast(x).numpy(), exact, atol=0.1 * np.abs(exact).max())


def test_switch(monkeypatch, recwarn):
    monkeypatch.setenv("ATTN_BLOCKS_NATIVE", "0")
    layer = nn.Conv2D(3, 4, 3)
    assert native.accelerate(layer) is layer
    assert type(layer) is nn.Conv2D
    assert not native.available()
    assert native.describe()["enabled"] is False
    assert "ATTN_BLOCKS_NATIVE=0" in native.build()
    assert not [w for w in recwarn if "slower operators" in str(w.message)]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The module as in a new process with an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ATTN_BLOCKS_NATIVE", raising=False)
    library.why_not.cache_clear()
    yield tmp_path
    library.why_not.cache_clear()


def falls_back_because(reason):
    layer = nn.Conv2D(3, 4, 3)
    with pytest.warns(UserWarning, match=reason):
        native.accelerate(layer)
    assert type(layer) is nn.Conv2D
    assert layer(paddle.zeros([1, 3, 5, 5])).shape == [1, 4, 3, 3]
    assert reason in native.build()
    assert reason in native.describe()["reason"]


@needs_cpu_build
def test_without_a_compiler(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    falls_back_because("compiler")


@needs_cpu_build
def test_with_a_compiler_that_fails(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    falls_back_because("compiling failed")
    assert not list(fresh.rglob("*.so"))


@needs_cpu_build
@pytest.mark.parametrize("command", ["no-such-compiler -O2", "'/no/such compiler'"])
def test_with_a_compiler_that_is_not_there(fresh, monkeypatch, command):
    monkeypatch.setenv("CXX", command)
    falls_back_because("names no program that is here; set CXX to a compiler")


@needs_cpu_build
def test_with_a_compiler_that_is_no_command(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "g++ '")
    falls_back_because("No closing quotation")


@needs_cpu_build
def test_with_a_compiler_that_cannot_be_run(fresh, monkeypatch):
    (fresh / "compiler").write_bytes(b"\0")
    (fresh / "compiler").chmod(0o755)
    monkeypatch.setenv("CXX", str(fresh / "compiler"))
    falls_back_because("compiling failed: ")


@needs_cpu_build
def test_with_a_onednn_that_cannot_be_loaded(fresh, monkeypatch):
    (fresh / "libdnnl.so.3").write_text("")
    monkeypatch.setattr(library, "_paddle_libraries", lambda: fresh)
    falls_back_because("libdnnl.so.3 cannot be loaded")


@needs_native
def test_damaged_operators_are_named_with_what_to_do(fresh):
    target = library._target(library.onednn()[1])
    target.parent.mkdir(parents=True)
    target.write_text("")
    falls_back_because(f"{target}: loading it failed")
    assert "delete it, and it is compiled again" in native.build()


@needs_native
def test_only_convolutions_are_compared_as_bfloat16(monkeypatch):
    native.build()
    monkeypatch.setenv("ATTN_BLOCKS_NATIVE_BF16", "1")
    path = library._target(library.onednn()[1])
    monkeypatch.setattr(library.conv, "difference", lambda: 1e-2)
    library.load(path)
    monkeypatch.setattr(library.norm, "difference", lambda: 1e-3)
    with pytest.raises(library.Unavailable, match="differ from Paddle's own by 1.0e-03"):
        library.load(path)


@needs_cpu_build
def test_a_compiler_of_several_words(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "echo 'an error'")
    falls_back_because("the trial run failed")  # "compiled" without a word, and nothing is there


@needs_cpu_build
def test_without_headers(fresh, monkeypatch):
    def missing(name):
        raise library.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(library.metadata, "files", missing)
    falls_back_because("onednn-devel")


def test_on_the_gpu_build(fresh, monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    falls_back_because("GPU build")


@needs_native
def test_wrong_results_are_noticed(monkeypatch):
    native.build()  # so that the library is there
    call = conv._call
    monkeypatch.setattr(conv, "_call", lambda *arguments: call(*arguments) * 1.01)
    with pytest.raises(
        library.Unavailable, match="its results differ from Paddle's own by 1.0e-02"
    ):
        library.load(library._target(library.onednn()[1]))


@needs_cpu_build
def test_a_cache_folder_that_cannot_be_written(fresh, monkeypatch):
    blocked = fresh / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    falls_back_because("set XDG_CACHE_HOME to a folder that can be written")
