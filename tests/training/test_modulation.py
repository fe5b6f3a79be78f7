"""What a run says of its blocks: how far they moved, what they do, and what it is worth."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from attn_blocks import create_attn, models
from attn_blocks.layers import list_attns
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import build, compute, loop, modulation

RECIPE = replace(PROFILES["smoke"].recipes["animals10"], width=1 / 8, validation_images=20)


@pytest.fixture(scope="module")
def images(data_dir):
    return load_images("shapes", RECIPE, data_dir)


def training_of(images, model, seed=0, **options):
    experiment = Experiment("shapes", images.fingerprint, model, RECIPE, seed, options)
    network = build.build_model(experiment, len(images.classes))
    return build.prepare(network, images, RECIPE, seed, compute.Compute())


def values(training):
    return {name: value.numpy() for name, value in training.weights().items()}


def disturbed(training, seed=0):
    """The network with blocks that do something: no weight at 0, as gates and gains start."""
    rng = np.random.default_rng(seed)
    for block in modulation.attention_blocks(training.model).values():
        for parameter in block.parameters():
            if not parameter.stop_gradient:
                noise = rng.normal(0, 0.1, parameter.shape).astype("float32")
                parameter.set_value(parameter.numpy() + noise)
    return training


@pytest.mark.parametrize("attn", [*list_attns(), "scale"])
def test_the_parts_give_the_output(attn):
    layer = models.resnet.Scale(16, 0.5) if attn == "scale" else None
    settings = {"sge": {"groups": 4}, "sa": {"groups": 4}, "bat": {"size": 4, "groups": 2}}
    if layer is None:
        layer = create_attn(attn, 16, **settings.get(attn, {}))
    layer.eval()
    x = paddle.randn([3, 16, 8, 8])
    y = layer(x)
    passed, factor, summand = modulation.modulation(layer, x, y)
    assert (factor is None) == (attn in ("nl", "gc", "bat"))
    again = passed if factor is None else passed * factor
    again = again if summand is None else again + summand
    np.testing.assert_allclose(again.numpy(), y.numpy(), rtol=1e-4, atol=1e-5)


def test_the_spread_is_that_of_the_gates(images):
    training = disturbed(training_of(images, "se_resnet18"))
    report = modulation.block_report(training, values(training))
    name, block = next(iter(modulation.attention_blocks(training.model).items()))
    seen = []
    handle = block.register_forward_post_hook(lambda _, x, y: seen.append(block.gate(x[0]).numpy()))
    loop.evaluate(training)
    handle.remove()
    gates = np.concatenate(seen)  # [N, C, 1, 1]
    labels = images.val.labels
    of_classes = np.stack([gates[labels == label].mean(axis=0) for label in range(10)])
    found = report["blocks"][name]["factor"]
    assert found["mean"] == pytest.approx(gates.mean(), rel=1e-4)
    assert found["images"] == pytest.approx(np.sqrt(gates.var(axis=0).mean()), rel=1e-3)
    assert found["classes"] == pytest.approx(np.sqrt(of_classes.var(axis=0).mean()), rel=1e-3)
    assert "summand" not in report["blocks"][name]


def test_the_movement_is_that_of_the_parameters(images):
    training = training_of(images, "srm_resnet18")
    start = values(training)
    disturbed(training)
    report = modulation.block_report(training, start)
    for name, block in report["blocks"].items():
        for parameter, moved in block["parameters"].items():
            end, begin = values(training)[f"{name}.{parameter}"], start[f"{name}.{parameter}"]
            assert moved["moved"] == pytest.approx(np.sqrt(np.mean((end - begin) ** 2)), rel=1e-4)
            assert moved["start"] == pytest.approx(np.sqrt(np.mean(begin**2)), rel=1e-4)
            assert moved["end"] == pytest.approx(np.sqrt(np.mean(end**2)), rel=1e-4)
    assert set(report["blocks"]["layer1.0.attn"]["parameters"]) == {"cfc", "bn.weight", "bn.bias"}


@pytest.mark.parametrize("model", ["resnet18", "sge_resnet18"])
def test_a_gate_that_has_learned_nothing_is_constant(images, model):
    # SGE starts at a gate of sigmoid(1) everywhere, and a plain network has no gate at all.
    training = training_of(images, model)
    report = modulation.block_report(training, values(training))
    if model == "resnet18":
        assert report == {}
        return
    assert report["frozen"]["changed"] == 0
    factor = report["blocks"]["layer1.0.attn"]["factor"]
    assert factor["mean"] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-4)
    assert factor["images"] < 1e-3 and factor["classes"] < 1e-3


@pytest.mark.parametrize("model", ["se_resnet18", "sa_resnet18", "nl_resnet18", "bat_resnet18"])
def test_a_block_that_decides_is_not_constant(images, model):
    training = disturbed(training_of(images, model))
    before, logits = loop.evaluate(training)
    report = modulation.block_report(training, values(training))
    after, again = loop.evaluate(training)
    np.testing.assert_array_equal(logits, again)  # it leaves the network as it was
    assert before == after
    assert 0 <= report["frozen"]["accuracy"] <= 1
    spread = report["blocks"][next(iter(report["blocks"]))]
    part = "summand" if model in ("nl_resnet18", "bat_resnet18") else "factor"
    assert spread[part]["images"] > 1e-3 * spread["input"]


def test_senets_block_has_a_factor_and_a_summand(images):
    training = disturbed(training_of(images, "senet_cifar", squeeze="avg"))
    report = modulation.block_report(training, values(training))
    assert {"factor", "summand", "input", "parameters"} == set(report["blocks"]["blocks.0.attn"])


def test_freezing_changes_what_the_decisions_decide(images):
    """One block, on an input of its own: the mean over the images takes the place of each gate."""
    layer = create_attn("se", 4, reduction=2)
    rng = np.random.default_rng(0)
    for parameter in layer.parameters():
        parameter.set_value(rng.normal(0, 2, parameter.shape).astype("float32"))
    x = paddle.to_tensor(rng.normal(size=(6, 4, 3, 3)).astype("float32"))
    seen = modulation.Seen(np.array([0, 1, 0, 1, 0, 1]), 2)
    seen.hook(layer, (x[:4],), layer(x[:4]))
    seen.hook(layer, (x[4:],), layer(x[4:]))
    frozen = modulation.Frozen(seen).hook(layer, (x,), layer(x)).numpy()
    expected = x.numpy() * layer.gate(x).numpy().mean(axis=0)
    np.testing.assert_allclose(frozen, expected, rtol=1e-5, atol=1e-6)
