"""Figures: what they draw, and that nothing in them covers anything else."""

import itertools
from types import SimpleNamespace

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

import attn_blocks as ab
from attn_blocks.errors import SettingError
from attn_book.analysis import plots, verdicts
from attn_book.analysis.explain import SeenImage, Transforms
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.plots import style
from attn_book.records.logits import read_logits, save_logits
from attn_book.study.claims import CLAIMS, PRIMARY
from attn_book.study.pages import PAGES
from attn_book.study.recipes import PROFILES

RNG = np.random.default_rng(0)
PICTURE = RNG.random((24, 24, 3))


def texts_of(figure):
    """(text, bounding box in pixels) of everything written, laid out as it will be saved."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = []  # tick labels beyond the limits, and those of axes that are switched off
    for axis in figure.axes:
        for i, (labels, limits) in enumerate(
            [(axis.get_xticklabels(), axis.get_xlim()), (axis.get_yticklabels(), axis.get_ylim())]
        ):
            low, high = sorted(limits)
            for label in labels:
                if not (axis.axison and low <= label.get_position()[i] <= high):
                    hidden.append(label)
    written = [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in hidden
    ]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in written]


# Runs --------------------------------------------------------------------------------------------


def fake_run(seed=0, accuracy=0.5, epochs=3, classes=("cat", "dog", "cow")):
    steps = np.arange(1, epochs + 1)
    losses = dict.fromkeys(("train_loss", "val_loss"), 1 / steps)
    accuracies = dict.fromkeys(("train_acc", "val_acc"), accuracy * steps / epochs)
    return SimpleNamespace(
        experiment=SimpleNamespace(seed=seed, model="resnet50", options={}),
        history={"epoch": steps, **losses, **accuracies},
        metrics={
            "final_val_acc": accuracy,
            "final_train_acc": accuracy + 0.1,
            "params": 1e6,
            "macs": 2e6,
        },
        confusion=np.eye(len(classes), dtype=int) * 8 + 1,
        classes=list(classes),
    )


ALL = {entry.title: entry for entry in PAGES["09_comparison"][0].entries}


def runs_of(titles, seeds):
    """Accuracy grows by a point a model, and wavers by 2 points over seeds, models out of step."""
    return {
        title: [fake_run(seed, 0.5 + 0.01 * i + 0.02 * ((seed + i) % 3)) for seed in range(seeds)]
        for i, title in enumerate(titles)
    }


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_of_runs(seeds):
    runs = runs_of(list(ALL)[:3], seeds)
    figure = plots.training_curves(runs)
    assert [len(axis.lines) for axis in figure.axes] == [6, 6]
    assert [len(axis.collections) for axis in figure.axes] == ([0, 0] if seeds == 1 else [6, 6])
    reported = {"epoch": [1, 2], "test_loss": [1, 0.5], "test_acc": [0.3, 0.4]}
    assert len(plots.training_curves(runs, reported).axes[0].lines) == 7
    lines = plots.validation_curves(runs).axes[0].lines
    assert [line.get_color() for line in lines] == [plots.colour(title) for title in runs]
    np.testing.assert_allclose(
        lines[0].get_ydata()[-1], np.mean([r.metrics["final_val_acc"] for r in runs["ResNet-50"]])
    )


def test_without_a_finished_run_there_is_no_confusion_matrix():
    with pytest.raises(SettingError, match="no run is finished"):
        plots.confusion_matrices({"ResNet-50": []})


def test_confusion_is_coloured_by_its_share_and_numbered_by_its_count():
    figure = plots.confusion_matrices(runs_of(list(ALL)[:4], 2) | {"GE-ResNet-50": []})
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(image.sum(axis=1), 1)
    np.testing.assert_allclose(image[0], [9 / 11, 1 / 11, 1 / 11])
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == ["18", "2", "2", "2", "18", "2", "2", "2", "18"]  # of both runs


def test_names_are_drawn_as_they_are_and_not_as_formulas(tmp_path):
    classes = ("$\\foo$", "<img src=x onerror=alert(1)>", "a_b^c")
    run = fake_run(classes=classes)
    run.classes = list(classes)
    plan = SimpleNamespace(results_dir=tmp_path, page="x", provenance="$\\foo$ · seed 0")
    train = type("Images", (list,), {"labels": np.arange(3)})([np.zeros((4, 4, 3))] * 3)
    grid = plots.sample_grid(SimpleNamespace(classes=classes, train=train), columns=3, rows=1)
    for figure in (plots.confusion_matrices({"ResNet-50": [run]}), grid):
        plots.show(plan, figure, "x")  # fails on a formula that is none
        texts = {text.get_text() for text in figure.findobj(Text) if not text.get_parse_math()}
        assert {*classes, plan.provenance} <= texts


def test_a_model_has_one_colour_everywhere_also_one_that_the_book_does_not_know():
    assert plots.colour("ResNet-50") == "#7a7a7a"
    mine = plots.colour("Mine-ResNet-50")
    assert mine == plots.colour("Mine-ResNet-50") != plots.colour("Yours-ResNet-50")
    assert mine not in {plots.colour(title) for title in ALL}
    runs = runs_of(["ResNet-50", "Mine-ResNet-50"], 2)
    cost = plots.accuracy_against_cost(runs)
    lines = [
        plots.validation_curves(runs).axes[0].lines[-1],
        plots.training_curves(runs).axes[0].lines[-1],
        plots.training_curves(runs).axes[0].lines[-2],
        cost.axes[0].containers[-1].lines[0],
        cost.legends[0].get_lines()[-1],
    ]
    assert {(line.get_color(), line.get_marker()) for line in lines} == {
        (mine, plots.marker("Mine-ResNet-50"))
    }


# How a colour of linear light looks without one kind of cone (Machado, Oliveira and Fernandes 2009,
# severity 1), and how light turns into CIE XYZ relative to white (sRGB, D65).
SEEN = {
    "by most": np.eye(3),
    "without green cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "without red cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def light(colour):
    values = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour, seen):
    """CIE Lab of a colour as somebody sees it."""
    share = XYZ @ np.clip(SEEN[seen] @ light(colour), 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / 3 * (29 / 6) ** 2 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(first, second, seen):
    """Delta E of 1976: about 2 is the least that an eye notices."""
    return np.linalg.norm(lab(first, seen) - lab(second, seen))


def contrast(colour):
    """With white paper, as the web's guidelines have it; they ask for 3."""
    return 1.05 / (XYZ[1] @ light(colour) + 0.05)


def test_the_measure_finds_what_was_wrong_with_the_colours_before():
    assert difference("white", "black", "by most") == pytest.approx(100)
    assert difference("#0072b2", "#7b3294", "by most") > 30
    assert difference("#0072b2", "#7b3294", "without green cones") < 12
    assert contrast("#e69f00") < 3 < contrast("#767676")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("seen", "least"), zip(SEEN, (40, 25, 24), strict=True))
def test_models_of_a_figure_keep_apart_for_everyone(page, seen, least):
    for comparison in PAGES[page]:
        for first, second in itertools.combinations([e.title for e in comparison.entries], 2):
            apart = difference(plots.colour(first), plots.colour(second), seen)
            assert apart >= least, (first, second, seen)
            assert plots.marker(first) != plots.marker(second)


def test_colours_stand_out_from_white():
    for look, _ in (*style.LOOKS.values(), *style.CYCLE):
        assert contrast(look) >= 3, look


def test_lines_of_classes_differ_in_more_than_colour():
    gates = {"layer1.0": {f"class {i}": RNG.random(60) for i in range(16)}}
    lines = plots.channel_gates(gates).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 16
    assert len({line.get_linestyle() for line in lines}) > 1
    assert {line.get_color() for line in lines} == set(style.INKS)


def test_no_two_models_look_the_same():
    assert len(set(style.LOOKS.values())) == len(style.LOOKS)


def test_accuracy_against_cost_has_a_point_for_each_model_that_was_trained():
    runs = runs_of(ALL, 3) | {"GE-ResNet-50": []}
    figure = plots.accuracy_against_cost(runs)
    assert [len(axis.containers) for axis in figure.axes] == [len(ALL) - 1] * 2
    measured = pd.DataFrame({"Training step": {t: 1 + i / 10 for i, t in enumerate(ALL)}})
    timed = plots.accuracy_against_cost(runs, measured)
    places = [bar.lines[0].get_xdata()[0] for bar in timed.axes[2].containers]
    assert places == [1 + i / 10 for i, t in enumerate(ALL) if t != "GE-ResNet-50"]
    # Bars of a standard deviation, 0.02 over 0.50, 0.52 and 0.54; none of a single run.
    bars = figure.axes[0].containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bars[:, 1], [0.50, 0.54])
    alone = plots.accuracy_against_cost(runs_of(ALL, 1))
    assert not any(container.has_yerr for container in alone.axes[0].containers)


@pytest.fixture
def page(tmp_path):
    """A page that a figure is shown on."""
    return SimpleNamespace(results_dir=tmp_path, page="04_sge", provenance="profile smoke · seed 0")


def test_a_saved_figure_has_its_provenance_and_a_shown_one_leaves_it_to_the_page(page, tmp_path):
    figure = plots.show(page, plots.block_diagram("sge"), "block")
    assert [text.get_visible() for text in figure.texts] == [False]
    assert figure.texts[0].get_text() == "profile smoke · seed 0"
    with Image.open(tmp_path / "figures" / "04_sge_block.png") as image:
        assert image.width > 700
        stamped = image.height
    figure.savefig(tmp_path / "shown.png", bbox_inches="tight", dpi=150)
    with Image.open(tmp_path / "shown.png") as image:
        assert image.height < stamped
    assert not plt.get_fignums()
    other = plots.show(page, plots.block_diagram("se"), "other", shows="profile paper · seed 0")
    assert [(t.get_text(), t.get_visible()) for t in other.texts] == [
        ("profile paper · seed 0", True)
    ]


def test_a_long_provenance_is_broken_at_its_dots_and_no_wider_than_the_figure(tmp_path):
    parts = [f"part {number} of a provenance" for number in range(12)]
    with style.book_style():
        figure, _ = plt.subplots(figsize=(4, 2))
    stamp = plots.save(figure, " · ".join(parts) + "\nan end", tmp_path / "x.png")
    *lines, last = stamp.get_text().splitlines()
    assert len(lines) > 1 and last == "an end"
    assert [part for line in lines for part in line.split(" · ")] == parts
    with Image.open(tmp_path / "x.png") as image:
        assert image.width <= 4.2 * style.STYLE["savefig.dpi"]


def test_a_notebook_gets_a_figures_words_beside_its_picture(page):
    from IPython.core.formatters import DisplayFormatter

    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type_by_name(
        "matplotlib.figure", "Figure", lambda figure: "a picture"
    )
    for figure, words in (
        (plots.training_curves(runs_of(["ResNet-50"], 1)), "ResNet-50 0.500 (on training images"),
        (plots.block_diagram("sge"), "Spatial Group-wise Enhance"),
    ):
        data, metadata = formatter.format(plots.show(page, figure, "x"))
        assert data["image/png"] == "a picture"
        assert words in metadata["image/png"]["alt"]
    figure, _ = plt.subplots()
    _, metadata = formatter.format(plots.show(page, figure, "x"))
    assert metadata == {}


def test_every_figure_has_words_with_numbers():
    runs = runs_of(list(ALL)[:3], 2)
    made = [
        plots.training_curves(runs),
        plots.validation_curves(runs),
        plots.confusion_matrices(runs),
        plots.accuracy_against_cost(runs),
        *(figure for _, figure in inside_figures()),
    ]
    for figure in made:
        assert any(letter.isdigit() for letter in figure.get_label()), figure.get_label()


def test_sample_grid_shows_the_classes_in_turn():
    labels = np.array([0, 0, 1, 1])
    train = type("Images", (list,), {"labels": labels})([np.full((4, 4, 3), i) for i in range(4)])
    figure = plots.sample_grid(SimpleNamespace(classes=("a", "b"), train=train), columns=3, rows=1)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "a"]
    for axis, label in zip(figure.axes, (0, 1, 0), strict=True):
        assert labels[axis.images[0].get_array()[0, 0, 0]] == label


def verdict_on(claim, **values):
    shared = {"is_own": True, "unit": "points", "folds": "5 of 5 folds"}
    return Verdict(claim, **{**shared, "outcome": "open", "reported": claim.reported, **values})


@pytest.mark.parametrize("is_complete", [False, True])
def test_gain_forest(is_complete, monkeypatch, covered):
    """Each block a point above the one before; none of GC."""
    claims = {c.better: c for c in CLAIMS if c.family == PRIMARY}
    found = []
    for i, (title, claim) in enumerate(claims.items()):
        values = {"value": float(i)}
        if is_complete:
            values |= {"interval": (i - 1.0, i + 1.0), "corrected": (i - 1.5, i + 1.5)}
        found.append(verdict_on(claim, **(values if title != "GC-ResNet-50" else {})))
    # Claims of a size and on other tasks have no place in it.
    others = [verdict_on(c, value=50.0) for c in CLAIMS if c.family != PRIMARY]
    monkeypatch.setattr(verdicts, "verdicts", lambda plan: found + others)
    figure = plots.gain_forest(None, "animals10")
    axis = figure.axes[0]
    titles = [label.get_text() for label in axis.get_yticklabels()]
    assert titles == list(claims) and set(titles) == set(ALL) - {"ResNet-50"}
    drawn = {marker: {} for marker in ("o", "D", "X", "None")}
    for line in axis.lines[:-1]:  # the last is the line at 0
        title = titles[int(line.get_ydata()[0])]
        drawn[line.get_marker()].setdefault(title, []).append(line)
    at = {m: {t: x[0].get_xdata() for t, x in of.items()} for m, of in drawn.items()}
    published = {t: c.paper for t, c in claims.items() if c.paper is not None}
    assert at["D"] == {t: [gain.points] for t, gain in published.items()}
    sources = {titles[round(t.xy[1] - 0.25)]: t.get_text() for t in axis.texts if t.xy[1] % 1}
    assert sources == {t: gain.source for t, gain in published.items()}
    assert at["X"] == {t: [c.reported] for t, c in claims.items() if c.reported is not None}
    assert at["o"] == {t: [i] for i, t in enumerate(titles) if t != "GC-ResNet-50"}
    assert set(at["None"]) == (set(at["o"]) if is_complete else set())
    for title, lines in drawn["None"].items():
        thin, thick = lines
        place = titles.index(title)
        assert list(thick.get_xdata()) == [place - 1, place + 1]
        assert list(thin.get_xdata()) == [place - 1.5, place + 1.5]
        assert thin.get_linewidth() < thick.get_linewidth()
    untrained = [t.xy[1] for t in axis.texts if t.get_text() == "no finished run"]
    assert untrained == [titles.index("GC-ResNet-50")]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("simultaneous 95% interval" in legend) == is_complete
    names = [(text, box) for text, box in texts_of(figure) if text in ALL or text in legend]
    assert covered(names) == []


def test_gains_on_other_images_stand_beside_nothing_that_others_found(monkeypatch):
    claim = next(c for c in CLAIMS if c.family == PRIMARY)
    found = [verdict_on(claim, value=1.0, is_own=False)]
    monkeypatch.setattr(verdicts, "verdicts", lambda plan: found)
    figure = plots.gain_forest(None)
    assert [line.get_marker() for line in figure.axes[0].lines[:-1]] == ["o"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours"]


# Looking inside ----------------------------------------------------------------------------------


def inside_figures():
    maps = {f"group {i}": RNG.random((7, 7)) for i in range(7)}
    gates = {
        f"layer{s}.{b}.attn": {name: RNG.random(32) for name in ("cat", "dog")}
        for s in (1, 2, 3, 4)
        for b in range(3)
    }
    queries = {(0.1, 0.2): RNG.random((7, 7)), (0.9, 0.5): RNG.random((7, 7))}
    matrices = RNG.random((4, 7, 7))
    parameters = {name: {block: RNG.random(9) for block in gates} for name in ("weight", "bias")}
    nine = {title: RNG.random((7, 7)) for title in ALL}
    steps = {
        "image: cat": PICTURE,
        "input": RNG.random((7, 7)),
        "gate": RNG.random(32),
        "output": RNG.random((7, 7)),
    }
    yield "maps", plots.maps_over_image(PICTURE, maps)
    yield "one map", plots.maps_over_image(PICTURE, {"constant": np.full((7, 7), 0.731)})
    yield "maps alone", plots.maps_over_image(None, maps, label="weight")
    yield "channel gates", plots.channel_gates(gates)
    yield "shuffle gates", plots.shuffle_gates(PICTURE, RNG.random(32), maps)
    yield "queries", plots.query_attention(PICTURE, queries, RNG.random((7, 7)), 0.91)
    yield "transforms", plots.transforms(PICTURE, Transforms(*[matrices] * 4))
    yield "parameters", plots.parameter_spread(parameters, {"weight": 0})
    seen = SeenImage(PICTURE, "cat", nine, dict.fromkeys(nine, 0.5))
    yield "grad-cam", plots.grad_cam([seen] * 3)
    yield "walk", plots.walk(steps)


def test_nothing_written_in_a_figure_covers_anything_written(covered):
    for name, figure in inside_figures():
        boxes = [(t, b) for t, b in texts_of(figure) if b.width > 0]
        assert covered(boxes) == [], name


def test_maps_share_one_scale_and_lie_on_the_picture():
    maps = {"a": np.array([[0.1, 0.2], [0.3, 0.4]]), "b": np.array([[0.9]])}
    figure = plots.maps_over_image(PICTURE, maps)
    overlays = [axis.images[1] for axis in figure.axes[1:3]]
    assert [o.get_clim() for o in overlays] == [(0.1, 0.9)] * 2
    assert [o.get_extent() for o in overlays] == [[-0.5, 23.5, 23.5, -0.5]] * 2
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "a", "b"]


def test_channel_gates_show_the_last_block_of_each_stage():
    gates = {f"layer{s}.{b}.attn": {"cat": RNG.random(64)} for s in (1, 2) for b in (0, 1)}
    figure = plots.channel_gates(gates)
    assert [axis.get_title().split(":")[0] for axis in figure.axes] == [
        "stage 1, block 2",
        "stage 2, block 2",
    ]
    line = figure.axes[1].lines[0]
    assert len(line.get_xdata()) == 50
    np.testing.assert_array_equal(line.get_ydata(), gates["layer2.1.attn"]["cat"][line.get_xdata()])
    chosen = plots.channel_gates(gates, ["layer1.0.attn"])
    assert chosen.axes[0].get_title().startswith("stage 1, block 1:")


def test_a_query_is_marked_where_it_is():
    figure = plots.query_attention(PICTURE, {(0.25, 0.75): np.eye(4)}, correlation=0.5)
    for axis in figure.axes:
        assert axis.lines[0].get_xydata().tolist() == [[17.5, 5.5]]
    assert "0.50" in figure.get_suptitle()


def test_a_grad_cam_of_zeros_stays_dark():
    seen = SeenImage(PICTURE, "cat", {"ResNet-50": np.zeros((3, 3))}, {"ResNet-50": 0.25})
    axis = plots.grad_cam([seen]).axes[1]
    assert axis.images[1].get_array().max() == 0
    assert axis.get_title() == "ResNet-50\np = 0.25"


def test_source_is_dedented_python():
    class Block:
        def gate(self, x):
            return 2 * x

        def forward(self, x):
            return x * self.gate(x)

    text = plots.source(Block.gate, Block.forward).data
    assert text == (
        "```python\ndef gate(self, x):\n    return 2 * x\n\n"
        "def forward(self, x):\n    return x * self.gate(x)\n```"
    )


# Predictions -------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path):
    """Eight images of two classes, and the recorded logits of a network that errs on three."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    save_logits(
        tmp_path / "logits.safetensors",
        np.log(np.array([[0.8, 0.2], [0.4, 0.6]]))[[0, 0, 0, 1, 0, 0, 1, 1]],
        labels,
    )
    experiment = SimpleNamespace(recipe=PROFILES["quick"].recipes["cifar10"], fold=0)
    logits = read_logits(tmp_path / "logits.safetensors")
    run = SimpleNamespace(folder=tmp_path, experiment=experiment, logits=logits)
    pixels = [np.full((32, 32, 3), 30 * i, np.uint8) for i in range(8)]
    kept = type("Images", (list,), {"labels": labels})(pixels)
    images = SimpleNamespace(name="shapes", title="Shapes", classes=("cat", "$x$"), val=kept)
    return images, run


def test_predictions_are_right_and_wrong_in_more_than_colour(photographs, covered):
    images, run = photographs
    figure = plots.prediction_grid(images, run, columns=3, rows=2)
    words = [axis.get_xlabel() for axis in figure.axes]
    assert words == [
        "✓ cat 80%",
        "✓ cat 80%",
        "✓ $x$ 60%",
        "✗ $x$ 60%\nis cat",
        "✗ cat 80%\nis $x$",
        "✗ cat 80%\nis $x$",
    ]
    shown = [axis.images[0].get_array().mean() for axis in figure.axes]
    np.testing.assert_allclose(shown, np.array([0, 60, 210, 90, 120, 150]) / 255, atol=1e-6)
    frames = [axis.spines["left"].get_linestyle() for axis in figure.axes]
    assert frames == ["-"] * 3 + ["--"] * 3
    assert figure.get_label().startswith("6 validation images with the predicted class, 3 of them")
    assert "Of all 8 images 3 are taken for another class" in figure.get_label()
    assert covered(texts_of(figure)) == []


def test_predictions_fill_the_grid_with_what_there_is(photographs):
    images, run = photographs
    figure = plots.prediction_grid(images, run, columns=5, rows=2)
    marks = [axis.get_xlabel()[:1] for axis in figure.axes]
    assert marks == ["✓"] * 5 + ["✗"] * 3 + ["", ""]


def test_predictions_of_other_images_are_refused(photographs):
    images, run = photographs
    images.val.labels = images.val.labels[::-1]
    with pytest.raises(SettingError, match="give those of fold 0"):
        plots.prediction_grid(images, run)


def test_reliability_has_a_point_for_each_bin_with_images(photographs):
    _, run = photographs  # 0.8 on five images, of which three are right; 0.6 on three, of two
    figure = plots.reliability({"ResNet-50": [run, run], "SE-ResNet-50": []})
    axis = figure.axes[0]
    np.testing.assert_allclose(
        axis.collections[0].get_offsets(), [(0.6, 2 / 3), (0.8, 3 / 5)], atol=1e-3
    )
    small, large = axis.collections[0].get_sizes()
    assert small < large
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["ResNet-50"]
    assert "too sure in 1 of 2 bins" in figure.get_label()


# Code --------------------------------------------------------------------------------------------


def test_a_class_is_shown_whole_but_for_its_own_docstring():
    shown = plots.source(ab.SqueezeExcite).data
    assert shown.startswith(
        '```python\n@register("se")\nclass SqueezeExcite(nn.Layer):\n    def __init'
    )
    assert "Args:" not in shown and '"""z, [N, C, 1, 1]' in shown
    assert shown.endswith("return x * gate if shift is None else x * gate + shift\n```")


def test_functions_and_methods_are_shown_with_their_docstrings():
    shown = plots.source(plots.source, ab.SqueezeExcite.gate).data
    assert '"""The source of functions' in shown and "\n\ndef gate(self" in shown
