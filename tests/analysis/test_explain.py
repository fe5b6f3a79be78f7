"""What is shown of a network is what it computed: gates, maps and matrices against its outputs."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from attn_blocks.errors import SettingError
from attn_book.analysis import explain
from attn_book.analysis.explain import View, cam, probes
from attn_book.analysis.explain import view as viewing
from attn_book.study.plan import plan
from attn_book.training import build

GATES, MODULES = ("SE", "GE", "SRM", "SGE", "SA"), ("NL", "GC", "BAT")


@pytest.fixture(scope="module")
def page(data_dir, tmp_path_factory):
    return plan("09_comparison", "smoke", [0], data_dir, tmp_path_factory.mktemp("r"), "cpu")


NETWORKS = {}  # of the runs that change nothing in them, by the name of their experiment


class FakeRun:
    """A run whose network is not trained, but whose blocks are no longer as they began."""

    def __init__(self, page, task, title, change=None, weights=True, fold=0):
        comparison = page.comparison(task)
        planned = next(x for entry, x in comparison.experiments if entry.title == title)
        self.experiment = replace(planned, fold=fold)
        self.classes = comparison.images.classes
        self.change = change
        self.folder = page.results_dir / "runs" / f"{planned.name}-{weights}"
        self.folder.mkdir(parents=True, exist_ok=True)
        if weights:
            (self.folder / "last.safetensors").touch()

    def load_model(self):
        if self.change:
            return self.build(self.change)
        name = self.experiment.name
        if name not in NETWORKS:
            NETWORKS[name] = self.build()
        return NETWORKS[name]

    def build(self, change=None):
        paddle.seed(0)
        model = build.build_model(self.experiment, len(self.classes))
        rng = np.random.default_rng(0)
        for layer in explain.attention_blocks(model).values():
            for parameter in layer.parameters():
                noise = rng.normal(scale=0.3, size=parameter.shape).astype("float32")
                parameter.set_value(parameter.numpy() + noise)
        if change:
            change(model)
        model.eval()
        return model


@pytest.fixture(autouse=True)
def _networks_of_fake_runs(monkeypatch):
    for module in (cam, viewing):
        monkeypatch.setattr(module, "load_model", FakeRun.load_model)


def view_of(page, title, task="animals10", index=3, change=None):
    return View(page, task, FakeRun(page, task, title, change), index)


def through(view, name):
    """What entered and what left a block, [C, H, W] each."""
    x, y = view._features[name]
    return x[0].numpy(), y[0].numpy()


@pytest.mark.parametrize("title", ["SE-ResNet-50", "GE-ResNet-50", "SRM-ResNet-50"])
def test_channel_gates_are_what_the_block_multiplied_with(page, title):
    view = view_of(page, title)
    gates = view.channel_gates()
    assert list(gates) == list(view.blocks) and len(gates) == 16
    for name, gate in gates.items():
        x, y = through(view, name)
        np.testing.assert_allclose(x * gate[:, None, None], y, rtol=1e-4, atol=1e-6)
        assert gate.std() > 1e-3


def test_group_gates_are_what_the_block_multiplied_with(page):
    view = view_of(page, "SGE-ResNet-50")
    maps = view.group_gates("layer2.0.attn", count=99)
    x, y = through(view, "layer2.0.attn")
    per_group = len(x) // len(maps)
    for title, gate in maps.items():
        group = int(title.split()[1])
        part = slice(group * per_group, (group + 1) * per_group)
        np.testing.assert_allclose(x[part] * gate, y[part], rtol=1e-4, atol=1e-6)


def test_the_maps_that_vary_most_come_first(page):
    maps = list(view_of(page, "SGE-ResNet-50").group_gates(1, count=3).values())
    every = view_of(page, "SGE-ResNet-50").group_gates(1, count=99).values()
    assert len(maps) == 3
    assert [m.std() for m in maps] == sorted((m.std() for m in every), reverse=True)[:3]


@pytest.mark.parametrize(
    ("task", "title", "stage", "name"),
    [
        ("animals10", "SA-ResNet-50", 3, "layer3.0.attn"),
        ("caltech16", "SA-Residual-Inception", 4, "b4.2"),
    ],
)
def test_shuffle_gates_are_what_the_block_multiplied_with(page, task, title, stage, name):
    view = view_of(page, title, task)
    channel, spatial = view.shuffle_gates(stage, count=999)
    x, y = through(view, name)
    groups = view.blocks[name].groups
    halves = x.reshape(groups, 2, -1, *x.shape[1:]).copy()
    by_number = np.stack([spatial[f"channel {i}"] for i in range(len(spatial))])
    halves[:, 0] *= channel.reshape(groups, -1, 1, 1)
    halves[:, 1] *= by_number.reshape(halves[:, 1].shape)
    shuffled = halves.reshape(2, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
    np.testing.assert_allclose(shuffled, y, rtol=1e-4, atol=1e-6)


def test_pixel_gates_of_the_published_senet(page):
    view = view_of(page, "SENet as published", "cifar10")
    maps = view.pixel_gates(0, count=99)
    x, y = through(view, "blocks.0.attn")
    assert len(maps) == len(x)
    layer = view.blocks["blocks.0.attn"]
    shift = layer.excite(paddle.to_tensor(x[None]))[1][0].numpy()
    gate = np.stack([maps[f"channel {i}"] for i in range(len(x))])
    np.testing.assert_allclose(x * gate + shift, y, rtol=1e-4, atol=1e-5)


def test_attention_of_a_query_is_its_row_and_sums_to_one(page):
    view = view_of(page, "NL-ResNet-50")
    found = view.query_attention(2, [(0.0, 0.99), (0.5, 0.5)])
    x = view._features["layer2.nl1"][0]
    side = x.shape[2]
    assert next(iter(found)) == (0.5 / side, (side - 0.5) / side)
    attention = view.blocks["layer2.nl1"].attention(x)[0].numpy()
    for row, weights in zip((side - 1, side // 2 * side + side // 2), found.values(), strict=True):
        np.testing.assert_allclose(weights.ravel(), attention[row])
        assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_a_network_is_looked_into_with_the_channels_that_it_was_trained_with(page):
    planned = page.comparison("animals10")
    turned = replace(planned.recipe, reversed_statistics=True)
    # The drawn images are as bright in every channel; as if they were photographs.
    images = replace(planned.loaded, name="caltech16")
    for recipe in (planned.recipe, turned):
        _, trained_on = build.build_loaders(images, recipe, seed=0)
        inputs = explain.network_input(images, [0, 1], recipe)
        np.testing.assert_array_equal(inputs, next(iter(trained_on.epoch(0)))[0][:2])
    once, again = (
        explain.pictures(images.name, explain.network_input(images, [0], recipe), recipe)
        for recipe in (planned.recipe, turned)
    )
    np.testing.assert_allclose(once, again, atol=1e-6)  # one picture, however it went in
    assert explain.network_input(images, [0], turned) != pytest.approx(
        explain.network_input(images, [0], planned.recipe)
    )


def test_pixels_that_ask_the_same_look_at_the_same_place(page):
    def deaf(model):  # every query becomes the bias of theta
        for block in explain.attention_blocks(model).values():
            block.theta.weight.set_value(paddle.zeros_like(block.theta.weight))

    def scattered(model):  # every pixel looks where chance would have it
        for block in explain.attention_blocks(model).values():
            block.attention = lambda x: paddle.rand([1, *[x.shape[2] * x.shape[3]] * 2])

    assert view_of(page, "NL-ResNet-50", change=deaf).query_correlation(2) == pytest.approx(1)
    assert view_of(page, "NL-ResNet-50", change=scattered).query_correlation(2) < 0.1


def test_a_fresh_network_is_asked_as_a_trained_one_is(page):
    view = view_of(page, "NL-ResNet-50")
    planned = page.comparison("animals10")
    inputs = explain.network_input(planned.images, [3, 4], planned.recipe)
    found = explain.query_correlations(view.model, inputs)
    assert list(found) == list(view.blocks)
    for name, of_images in found.items():
        expected = [view_of(page, "NL-ResNet-50", index=i).query_correlation(name) for i in (3, 4)]
        np.testing.assert_allclose(of_images, expected, atol=1e-4)
    fresh = build.build_model(FakeRun(page, "animals10", "NL-ResNet-50").experiment, 10)
    assert all(r.shape == (2,) for r in explain.query_correlations(fresh, inputs).values())
    with pytest.raises(SettingError, match="GlobalContext is one map for all pixels"):
        explain.query_correlations(view_of(page, "GC-ResNet-50").model, inputs)


def test_the_mean_correlation_is_of_pairs_and_without_maps_that_do_not_vary():
    maps = np.array([[[0, 1], [2, 3]], [[0, 2], [4, 6]], [[3, 2], [1, 0]], [[1, 1], [1, 1]]])
    assert probes.mean_correlation(maps) == pytest.approx((1 - 1 - 1) / 3)
    assert np.isnan(probes.mean_correlation(maps[2:]))


def test_context_map_weighs_the_context(page):
    view = view_of(page, "GC-ResNet-50")
    weights = view.context_map(3)
    x = view._features["layer3.nl1"][0]
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    context = view.blocks["layer3.nl1"].context(x)[0, :, 0, 0].numpy()
    np.testing.assert_allclose((x[0].numpy() * weights).sum(axis=(1, 2)), context, rtol=1e-3)


def test_transforms_turn_before_into_after(page):
    seen = view_of(page, "BAT-ResNet-50").transforms(2)
    np.testing.assert_allclose(seen.rows.sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(seen.columns.sum(axis=1), 1, rtol=1e-5)
    size = seen.before.shape[1] // seen.rows.shape[1]
    for p, q, before, after in zip(*seen, strict=True):
        whole = np.kron(p, np.eye(size)) @ before @ np.kron(q, np.eye(size))
        np.testing.assert_allclose(whole, after, rtol=1e-3, atol=1e-5)


def test_block_parameters(page):
    view = view_of(page, "SGE-ResNet-50")
    found = view.block_parameters()
    assert list(found) == ["weight", "bias"]
    assert list(found["weight"]) == list(view.blocks)
    block = view.blocks["layer4.2.attn"]
    np.testing.assert_array_equal(found["bias"]["layer4.2.attn"], block.bias.numpy().ravel())
    assert list(view.block_parameters("bias")) == ["bias"]
    with pytest.raises(SettingError, match="gamma"):
        view.block_parameters("gamma")


@pytest.mark.parametrize(
    ("title", "task", "stage", "first"),
    [
        *((f"{name}-ResNet-50", "animals10", 2, "layer2.0.attn") for name in GATES),
        *((f"{name}-ResNet-50", "animals10", 3, "layer3.nl1") for name in MODULES),
        ("SENet as published", "cifar10", 8, "blocks.8.attn"),
        ("SA-Residual-Inception", "caltech16", 5, "b5.2"),
    ],
)
def test_walk_goes_from_the_image_to_the_output(page, title, task, stage, first):
    view = view_of(page, title, task)
    steps = view.walk(stage)
    titles = list(steps)
    assert titles[0] == f"image: {view.label}" and titles[1] == "input" and titles[-1] == "output"
    assert len(steps) > 3
    assert all(1 <= values.ndim <= 2 for values in list(steps.values())[1:])
    x, y = through(view, first)
    np.testing.assert_allclose(steps["input"], np.abs(x).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(steps["output"], np.abs(y).mean(axis=0), rtol=1e-4, atol=1e-6)


class Halving(nn.Layer):
    """A block that the book does not know, with a gate."""

    def gate(self, x):
        return paddle.full([*x.shape[:2], 1, 1], 0.5)

    def forward(self, x):
        return x * self.gate(x)


class Negation(nn.Layer):
    """One that nothing can be asked."""

    def forward(self, x):
        return -x


def test_a_block_that_the_book_does_not_know_is_asked_what_it_can_say(page):
    def put(block):
        def change(model):
            for layer in model.sublayers():
                if hasattr(layer, "attn"):
                    layer.attn = block()

        return change

    view = view_of(page, "SE-ResNet-50", change=put(Halving))
    assert len(view.blocks) == 16
    assert list(view.walk(2)) == [f"image: {view.label}", "input", "gate", "output"]
    assert all((gate == 0.5).all() for gate in view.channel_gates().values())
    view = view_of(page, "SE-ResNet-50", change=put(Negation))
    assert list(view.walk("layer2.0.attn")) == [f"image: {view.label}", "input", "output"]
    with pytest.raises(SettingError, match=r"layer1\.0\.attn is a Negation, which has no gate"):
        view.channel_gates()
    assert explain.attention_blocks(FakeRun(page, "animals10", "ResNet-50").load_model()) == {}


def test_the_view_knows_its_image(page):
    images = page.comparison("animals10").images
    view = view_of(page, "SE-ResNet-50", index=4)
    assert view.label == images.classes[images.val.labels[4]]
    assert view.image.shape == (1, 3, 56, 56)
    # Shapes are 64 pixels and their middle 56 are what the network sees.
    middle = images.val[4][4:60, 4:60] / 255
    np.testing.assert_allclose(view.picture, middle, atol=1e-5)


def test_the_first_image_that_is_classified_correctly_is_taken(page):
    def always_class_3(model):
        model.fc.bias.set_value(paddle.eye(10)[3] * 1e3)

    view = view_of(page, "SE-ResNet-50", index=None, change=always_class_3)
    labels = page.comparison("animals10").images.val.labels
    assert view.index == np.flatnonzero(labels == 3)[0]
    assert view.predicted == view.label


def test_errors_say_what_works(page):
    view = view_of(page, "SE-ResNet-50")
    with pytest.raises(SettingError, match=r"layer1\.0\.attn"):
        view.walk(7)
    with pytest.raises(SettingError, match=r"SqueezeExcite, which has no attention\(x\)"):
        view.group_gates(1)
    with pytest.raises(SettingError, match="NonLocal is a map for each pixel.*map for each group"):
        view_of(page, "NL-ResNet-50").group_gates(2)
    with pytest.raises(SettingError, match="SpatialGroupEnhance is a map for each group"):
        view_of(page, "SGE-ResNet-50").context_map(1)
    sge = FakeRun(page, "animals10", "SGE-ResNet-50")
    with pytest.raises(SettingError, match=r"SpatialGroupEnhance, which has no gate\(x\)"):
        explain.channel_gates_by_class(page, "animals10", sge)
    with pytest.raises(SettingError, match="index=100"):
        view_of(page, "SE-ResNet-50", index=100)
    with pytest.raises(SettingError, match="train first"):
        explain.grad_cams(page, "animals10", {"ResNet-50": []})


def test_gates_by_class_are_means_over_the_class(page):
    run = FakeRun(page, "animals10", "SRM-ResNet-50")
    found = explain.channel_gates_by_class(page, "animals10", run)
    data = page.comparison("animals10").images
    assert list(found["layer1.0.attn"]) == list(data.classes)
    mine = np.flatnonzero(data.val.labels == 2)
    gates = [View(page, "animals10", run, i).channel_gates()["layer3.1.attn"] for i in mine]
    np.testing.assert_allclose(
        found["layer3.1.attn"][data.classes[2]], np.mean(gates, axis=0), rtol=1e-4
    )


class Linear(nn.Layer):
    """Mean pooling and a linear layer, of which Grad-CAM is known: relu(sum of w_k A_k) / HW."""

    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(2.0))
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(self.avgpool(x * self.scale).flatten(1))


def test_grad_cam_of_a_linear_network():
    model = Linear()
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    found = explain.grad_cam(model, x, [1, 3])
    weight = model.fc.weight.numpy()
    for i, label in enumerate((1, 3)):
        expected = np.einsum("k,khw->hw", weight[:, label], 2 * x[i]) / 30
        np.testing.assert_allclose(found[i], np.maximum(0, expected), atol=1e-6)
    assert (found > 0).any() and (found == 0).any()


@pytest.mark.parametrize(("side", "shown"), [(32, 8), (16, 4), (8, 4)])
def test_grad_cam_is_of_the_last_map_that_shows_places(side, shown):
    model = nn.Sequential(
        nn.Conv2D(3, 5, 1),
        nn.MaxPool2D(2),
        nn.Conv2D(5, 5, 1),
        nn.MaxPool2D(2),
        nn.Conv2D(5, 4, 1),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
    )
    x = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype("float32")
    assert explain.grad_cam(model, x, [0, 3]).shape == (2, shown, shown)


def test_grad_cam_of_a_network_whose_maps_are_all_small():
    assert explain.grad_cam(Linear(), np.ones((1, 3, 2, 3), "float32"), [0]).shape == (1, 2, 3)


@pytest.mark.parametrize("task", ["animals10", "cifar10", "caltech16"])
def test_grad_cams_of_all_networks_of_a_comparison(page, task):
    titles = page.comparison(task).titles[:4]
    runs = {title: [FakeRun(page, task, title)] for title in titles}
    evidence = explain.grad_cams(page, task, runs, images=2)
    assert len({seen.label for seen in evidence}) == len(evidence) == 2
    for seen in evidence:
        assert list(seen.maps) == list(seen.probabilities) == titles
        assert all(values.ndim == 2 and values.min() >= 0 for values in seen.maps.values())
        assert all(0 <= p <= 1 for p in seen.probabilities.values())
        sure = {title for title, p in seen.probabilities.items() if p > 0.5}
        assert sure <= seen.right <= set(titles)


def test_grad_cams_leave_out_networks_without_weights_and_of_other_folds(page, monkeypatch):
    task = "animals10"
    runs = {
        "ResNet-50": [FakeRun(page, task, "ResNet-50", fold=1)],
        "SE-ResNet-50": [FakeRun(page, task, "SE-ResNet-50", weights=False, fold=1)],
        "GE-ResNet-50": [FakeRun(page, task, "GE-ResNet-50", fold=f) for f in (0, 1)],
        "SRM-ResNet-50": [FakeRun(page, task, "SRM-ResNet-50")],
    }
    asked = []

    def of_fold(name, recipe, data_dir, fold):
        asked.append(fold)
        return page.comparison(task).images

    monkeypatch.setattr(probes, "load_images", of_fold)
    (seen,) = explain.grad_cams(page, task, runs, images=1)
    assert list(seen.maps) == ["ResNet-50", "GE-ResNet-50"]
    assert seen.right <= set(seen.maps)
    assert asked == [1]
    with pytest.raises(SettingError, match="has its weights here"):
        explain.grad_cams(page, task, {"SE-ResNet-50": runs["SE-ResNet-50"]})


def test_a_network_is_shown_images_of_its_own_fold(page, monkeypatch):
    images, asked = page.comparison("animals10").images, []

    def of_fold(name, recipe, data_dir, fold):
        asked.append((name, fold))
        return images

    monkeypatch.setattr(probes, "load_images", of_fold)
    run = FakeRun(page, "animals10", "SE-ResNet-50", fold=3)
    View(page, "animals10", run, 3)
    explain.channel_gates_by_class(page, "animals10", run)
    assert asked == [("shapes", 3)] * 2


def test_recording_leaves_no_trace():
    model = Linear()
    with pytest.raises(RuntimeError), explain.recording({"fc": model.fc}) as seen:
        model(paddle.ones([1, 3, 2, 2]))
        raise RuntimeError
    assert seen["fc"][0].shape == [1, 3]
    seen.clear()
    model(paddle.ones([1, 3, 2, 2]))
    assert not seen
