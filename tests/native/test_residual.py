"""Networks with their passes joined: the plain ones' numbers, gradients and weights."""

import copy

import numpy as np
import pytest

import attn_blocks as ab
from attn_blocks import native
from attn_blocks.models.resnet import BasicBlock, Bottleneck, ResNet
from attn_blocks.models.sa_inception import ResidualInception
from attn_blocks.models.senet_cifar import SENetCifar
from attn_blocks.models.torch_weights import load_torch_state_dict
from attn_blocks.native import residual
from attn_book.study.pages import NINE

import paddle  # isort: skip

needs_native = pytest.mark.skipif(
    not native.available(), reason=f"no native operators here: {native.describe()['reason']}"
)
JOINED = (BasicBlock, Bottleneck, ResNet, SENetCifar, ResidualInception)
NAMES = ["resnet18", "se_resnet50", "senet_cifar", "sa_inception"]


def step(network, size):
    """Logits, the images' gradient and every parameter's after a step of training."""
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=[4, 3, size, size]), "float32")
    x.stop_gradient = False
    logits = network(x)
    paddle.nn.functional.cross_entropy(logits, paddle.arange(4) % 3).backward()
    gradients = {n: p.grad.numpy() for n, p in network.named_parameters() if not p.stop_gradient}
    return {"logits": logits.numpy(), "images": x.grad.numpy(), **gradients}


def pair(name, size, seed):
    paddle.seed(seed)
    plain = ab.create_model(name, 3, width=1 / 8, stem="small", image_size=size)
    return plain, native.accelerate(copy.deepcopy(plain))


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_joined_and_keeps_its_names(name):
    plain, fast = pair(name, 64, seed=0)
    assert list(fast.state_dict()) == list(plain.state_dict())
    for own, other in zip(
        plain.sublayers(include_self=True), fast.sublayers(include_self=True), strict=True
    ):
        if isinstance(own, JOINED):
            assert type(other).__module__ == residual.__name__
            assert isinstance(other, type(own))


def far_off(expected, found):
    """Names whose values differ by more than rounding, on average over the tensor."""
    assert found.keys() == expected.keys()
    return [
        key
        for key, value in expected.items()  # biases before a norm: gradients of rounding alone
        if np.abs(found[key] - value).mean() > 1e-3 * np.abs(value).mean() + 1e-5
    ]


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_the_same(name):
    size = 64 if name == "sa_inception" else 32
    # Rounding that passes a ReLU's edge moves gradients visibly, in one draw of six and on other
    # draws for other processors; a wrong operator does so in every draw.
    wrong = []
    for seed in range(5):
        expected, found = (step(network, size) for network in pair(name, size, seed))
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-4)
        wrong = far_off(expected, found)
        if not wrong:
            return
    pytest.fail(f"gradients differ in every draw, in the last one of {wrong}")


@needs_native
@pytest.mark.parametrize("entry", NINE.entries, ids=lambda entry: entry.title)
def test_the_networks_of_the_study_compute_the_same_at_its_sizes(entry):
    """At the study's width and images, as it trains them, dropout included.

    So deep a network has a rounding at some ReLU's edge in most draws; that moves a gradient by
    some percent of its size, where a wrong operator moves it by all of it.
    """
    off = []
    for seed in range(3):
        paddle.seed(seed)
        plain = ab.create_model(entry.model, 4, width=0.25, stem="small", image_size=56)
        steps = []
        for network in (plain, native.accelerate(copy.deepcopy(plain))):
            paddle.seed(seed)  # of the dropout
            steps.append(step(network, 56))
        expected, found = steps
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=2e-4)
        least = 0.01 * np.abs(expected["fc.weight"]).mean()  # below it, gradients of rounding alone
        off.append(
            max(
                np.abs(found[key] - value).mean() / (np.abs(value).mean() + least)
                for key, value in expected.items()
            )
        )
    assert min(off) < 0.05 and max(off) < 0.5


@needs_native
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_a_residual_block_gives_the_same(kind):
    paddle.seed(0)
    plain = kind(16, 8, 2, ab.create_attn("se", 8 * kind.expansion, reduction=2))
    fast = native.accelerate(copy.deepcopy(plain))
    x = paddle.randn([4, 16, 6, 6])
    np.testing.assert_allclose(fast(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)
    assert (fast(x).numpy() >= 0).all()


@needs_native
def test_weights_of_the_papers_code_load_into_an_accelerated_block():
    plain = ab.create_attn("se", 32)
    state = {  # moskomule's names; a linear weight is [out, in]
        f"fc.{2 * i}.{leaf}": paddle.randn(shape).numpy()
        for i, shapes in enumerate([([2, 32], [2]), ([32, 2], [32])])
        for leaf, shape in zip(("weight", "bias"), shapes, strict=True)
    }
    fast = native.accelerate(copy.deepcopy(plain))
    for layer in (plain, fast):
        load_torch_state_dict(layer, state)
    for name, value in plain.state_dict().items():
        np.testing.assert_array_equal(fast.state_dict()[name].numpy(), value.numpy())
