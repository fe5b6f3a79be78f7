"""Attention held still: only attention is, and what is measured is kept and checked."""

import numpy as np
import paddle
import pytest

from attn_blocks.files import read_json, write_json
from attn_blocks.layers import create_attn
from attn_blocks.tensors import save_tensors
from attn_book.analysis import attention as holding
from attn_book.analysis import findings
from attn_book.analysis.findings import blocks
from attn_book.driver import measured
from attn_book.records import attention
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import recorded_plans
from attn_book.records.run import Run
from attn_book.study.pages import NL
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training.compute import compute

RECIPE = PROFILES["smoke"].recipes["animals10"]
BLOCKS = {"nl": {}, "gc": {}, "bat": {"size": 7, "groups": 2}}


class Small(paddle.nn.Layer):
    """A block and a classifier; the block's parameters are drawn, so that it does something."""

    def __init__(self, name, classes=10):
        super().__init__()
        self.stem = paddle.nn.Conv2D(3, 32, 4, stride=4)
        self.attn = create_attn(name, 32, **BLOCKS[name])
        self.head = paddle.nn.Linear(32, classes)
        rng = np.random.default_rng(0)
        for key, value in self.state_dict().items():
            drawn = rng.normal(size=value.shape) * 0.3
            value.set_value((drawn**2 + 0.5 if "variance" in key else drawn).astype("float32"))

    def forward(self, x):
        return self.head(self.attn(self.stem(x)).mean(axis=[2, 3]))


@pytest.mark.parametrize("name", BLOCKS)
def test_attention_is_the_mean_over_all_images_and_all_else_is_the_images(name):
    model = Small(name)
    model.eval()
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(6, 3, 56, 56)).astype("float32"))
    trained = model(x).numpy()
    seen = {source: holding._Mean() for source in holding._sources(model)}
    assert len(seen) == 1
    with holding._instead(model, {source: mean.watching for source, mean in seen.items()}):
        np.testing.assert_array_equal(model(x[:4]).numpy(), trained[:4])
        model(x[4:])
    (mean,) = seen.values()
    ((layer, method),) = holding._sources(model).values()
    inner = model.stem(x) if name != "bat" else model.attn.conv1(model.stem(x))
    found = getattr(layer, method)(*([inner, inner] if name == "nl" else [inner]))
    for part, total in zip(found if isinstance(found, tuple) else [found], mean.sums, strict=True):
        np.testing.assert_allclose(
            total.numpy() / 6, part.numpy().mean(axis=0, keepdims=True), rtol=1e-4, atol=1e-6
        )
    with holding._instead(model, {source: one.held for source, one in seen.items()}):
        held = model(x).numpy()
    assert len(np.unique(held[:, 0])) == 6  # the features are still each image's own
    assert not np.allclose(held, trained, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(model(x).numpy(), trained)  # and nothing is left behind


def test_an_attention_that_is_the_same_for_all_images_changes_nothing(data_dir):
    images = load_images("shapes", RECIPE, data_dir)
    model = Small("gc")
    model.attn.conv_mask.weight.set_value(paddle.zeros_like(model.attn.conv_mask.weight))
    found = holding.measure(model, images, RECIPE, compute("cpu"))
    assert found["changed"] == 0 and found["right"] == found["as_trained"]


@pytest.fixture
def published(tmp_path, study_of, monkeypatch):
    """A published study whose NL network of fold 0 has weights, and what was measured of it."""
    folder = tmp_path / "study"
    study_of(folder, lambda task, title, seed: 0.8, ["animals10"])
    run = next(Run(p) for p in sorted((folder / "runs").iterdir()) if "-nl_resnet50-f0-" in p.name)
    save_tensors(
        folder / "weights" / f"{run.folder.name}.safetensors", {}, {"run": run.folder.name}
    )
    counts = {"as_trained": 160, "right": 150, "changed": 30}
    record = attention.record_of(run, counts) | {"images": 200}
    monkeypatch.setitem(run.record["data"], "validation_images", 200)
    experiment = read_json(run.folder / "experiment.json")
    experiment["data"]["validation_images"] = 200
    write_json(run.folder / "experiment.json", experiment)
    write_json(folder / attention.FILE, {NL.title: record})
    return folder


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"run": "another"}, "is not about animals10-nl_resnet50-f0-s0"),
        ({"metrics": "0"}, "is not about animals10-nl_resnet50-f0-s0"),
        ({"changed": 201}, "holds something other than counts of 200 images"),
        ({"right": 1.5}, "holds something other than counts of 200 images"),
        ({"as_trained": 150}, "as trained, NL-ResNet-50 has another accuracy than on record"),
        ({"changed": None}, "holds something other than counts"),
    ],
)
def test_a_record_that_does_not_fit_is_a_problem(published, change, problem):
    assert attention.problems(published) == []
    record = attention.read(published)
    record[NL.title] |= change
    write_json(published / attention.FILE, record)
    (found,) = attention.problems(published)
    assert problem in found


def test_of_other_networks_it_is_a_problem(published):
    record = attention.read(published)
    write_json(published / attention.FILE, {"SE-ResNet-50": record[NL.title]})
    (found,) = attention.problems(published)
    assert "is of other networks than those whose weights" in found
    (published / attention.FILE).unlink()
    assert attention.problems(published) == [] and holding.table(published).empty


def test_tables_and_pages_say_what_was_measured(published, monkeypatch):
    metrics = attention.subjects(published)[NL.title].folder / "metrics.json"
    frozen = {"accuracy": 0.7, "changed": 0.25}
    write_json(metrics, {**read_json(metrics), "frozen": frozen})
    row = holding.table(published).loc[NL.title]
    assert row["Attention held still"] == "0.7500" and row["Predictions changed"] == "15.0%"
    assert row["Predictions changed, all frozen"] == "25.0%"
    assert "no longer follows the image: NL 15.0%. The fewer" in holding.in_words(published)
    monkeypatch.setattr(blocks, "PUBLISHED", published.parent)
    lines = dict(findings.frozen(recorded_plans(published)["06_nl"], "animals10").lines)
    assert lines[NL.title].endswith(
        "15.0% of the predictions change, and the accuracy from 0.8000 to 0.7500 (one run)."
    )


def test_what_is_published_fits():
    assert attention.read(PUBLISHED / "study").keys() == {
        "NL-ResNet-50",
        "GC-ResNet-50",
        "BAT-ResNet-50",
    }
    assert attention.problems(PUBLISHED / "study") == []


def test_measuring_again_compares_the_counts(published, monkeypatch):
    record = attention.read(published)
    monkeypatch.setattr(measured, "attention_in", lambda *_: record)
    (sentence,) = measured.check_again(published.parent)
    assert sentence.endswith("attention held still again, at most 0 images off")
    other = {NL.title: record[NL.title] | {"changed": 40}}
    monkeypatch.setattr(measured, "attention_in", lambda *_: other)
    with pytest.raises(measured.CheckpointError, match="changed: 40 images, its record says 30"):
        measured.check_again(published.parent)
