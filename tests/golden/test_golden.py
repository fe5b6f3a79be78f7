"""The golden curves: numbers change only together with a version of semantics."""

import functools
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from attn_blocks.layers.ge import GatherExcite
from attn_book.records import semantics
from attn_book.study import experiment as study_experiment

spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)

# Far above the rounding of another processor: between MKL's code paths, and between one and two
# threads, no loss differed in the digits of float32.
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def plain_operators(monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_NATIVE", "0")
    paddle.set_device("cpu")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return golden.draw_data(tmp_path_factory.mktemp("golden"))


def differences(found, kept):
    """The largest relative difference of each number of a curve."""
    return {
        name: max(
            abs(a - b) / abs(b)
            for a, b in zip(np.atleast_1d(found[name]), np.atleast_1d(kept[name]), strict=True)
        )
        for name in ("start", "train_loss", "val_loss")
    }


def is_same(name, data_dir):
    off = differences(golden.curve(name, data_dir), golden.recorded()[name])
    return off["start"] < 1e-5 and max(off.values()) < TOLERANCE


def test_every_network_has_a_curve():
    assert golden.recorded().keys() == golden.entries().keys()


@pytest.mark.parametrize("name", golden.entries())
def test_the_numbers_are_those_of_their_version(name, data_dir):
    kept, found = golden.recorded()[name], golden.curve(name, data_dir)
    assert kept["semantics"] == found["semantics"], (
        "a version changed; record the curves anew: python tests/golden/golden.py"
    )
    off = differences(found, kept)
    assert off["start"] < 1e-5 and max(off.values()) < TOLERANCE, (
        f"{off}: what {name} computes has changed. If it was meant to, raise the version of the "
        "part in attn_book/records/semantics.py and record the curves anew"
    )


# What a change of numbers would be, each to one network that it reaches ------------------------


def decay_of_norms(monkeypatch):
    recipe = replace(golden.RECIPES["animals10"], decay="all")
    monkeypatch.setitem(golden.RECIPES, "animals10", recipe)
    return "animals10-resnet50"


def cosine_by_half(monkeypatch):
    rate = study_experiment.Recipe.rate

    def changed(recipe, epoch, step, steps):
        if recipe.schedule != "cosine":
            return rate(recipe, epoch, step, steps)
        return recipe.learning_rate * math.cos(math.pi / 2 * epoch / recipe.epochs)

    monkeypatch.setattr(study_experiment.Recipe, "rate", changed)
    return "caltech16-resnet50"


def rise_of_one_cycle(monkeypatch):
    rate = study_experiment.Recipe.rate

    def changed(recipe, epoch, step, steps):
        progress = (epoch * steps + step + 1) / (recipe.epochs * steps)
        if progress < 0.3:
            return recipe.learning_rate * progress / 0.3
        return rate(recipe, epoch, step, steps)

    monkeypatch.setattr(study_experiment.Recipe, "rate", changed)
    return "animals10-resnet50"


def seed_of_the_weights(monkeypatch):
    seed = paddle.seed
    monkeypatch.setattr(paddle, "seed", lambda value: seed(value + 1))
    return "animals10-resnet50"


def stored_size(monkeypatch):
    larger = property(lambda recipe: recipe.image_size * 9 // 7)
    monkeypatch.setattr(study_experiment.Recipe, "stored_side", larger)
    return "animals10-resnet50"


def initial_value_of_a_block(monkeypatch):
    build = GatherExcite.__init__

    @functools.wraps(build)
    def changed(layer, *given, **how):
        build(layer, *given, **how)
        for parameter in layer.parameters()[:1]:
            paddle.nn.initializer.Constant(0.01)(parameter)

    monkeypatch.setattr(GatherExcite, "__init__", changed)
    return "animals10-ge_resnet50"


@pytest.mark.parametrize(
    "change",
    [
        decay_of_norms,
        cosine_by_half,
        rise_of_one_cycle,
        seed_of_the_weights,
        stored_size,
        initial_value_of_a_block,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_of_numbers_is_found(change, data_dir, monkeypatch):
    assert not is_same(change(monkeypatch), data_dir)


def test_a_new_version_needs_new_curves(monkeypatch):
    recipe = golden.RECIPES["animals10"]
    experiment = study_experiment.Experiment("animals10", "f", "sge_resnet50", recipe, 0)
    kept = golden.recorded()["animals10-sge_resnet50"]["semantics"]
    assert semantics.versions_of(experiment) == kept
    monkeypatch.setitem(semantics.BLOCKS, "sge", 2)
    assert semantics.versions_of(experiment) != kept
