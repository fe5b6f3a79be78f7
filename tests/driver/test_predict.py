"""Predicting: an image file gets what the network gave the same image in training's evaluation."""

import shutil
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import paddle
import pytest
from PIL import Image, ImageDraw

from attn_blocks.errors import CheckpointError, DataError, SettingError
from attn_blocks.files import read_json, write_json
from attn_blocks.tensors import save_tensors
from attn_book.analysis import explain, plots
from attn_book.driver import cli
from attn_book.driver import predict as predicting
from attn_book.driver.predict import draw_cams, predict, published_run
from attn_book.driver.publish import half_precision
from attn_book.records import published as records_published
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import checkpoint
from attn_book.training.build import build_loaders, build_model
from attn_book.training.checkpoint import save_checkpoint

RECIPE = PROFILES["smoke"].recipes["animals10"]


@pytest.fixture
def images(data_dir):
    return load_images("shapes", RECIPE, data_dir)


def train(images, results, write_run, name="se_resnet50", recipe=RECIPE):
    """A run's folder with weights nobody trained, and the network that has them."""
    experiment = Experiment(images.name, images.fingerprint, name, recipe, 0)
    folder = results / "smoke" / "runs" / experiment.name
    write_run(folder, experiment)
    record = read_json(folder / "experiment.json")
    record["data"]["classes"] = list(images.classes)
    write_json(folder / "experiment.json", record)
    model = build_model(experiment, len(images.classes))
    model.eval()
    save_checkpoint(folder / "last.safetensors", model, 2)
    save_checkpoint(folder / "best.safetensors", model, 1)
    return folder, model


@pytest.fixture
def trained(images, tmp_path, write_run):
    return train(images, tmp_path / "results", write_run)


@pytest.fixture
def published(images, tmp_path, write_run, monkeypatch):
    """A folder with published runs of two networks and the weights of one, SRM-ResNet-50."""
    target = tmp_path / "published"
    for name in ("resnet50", "srm_resnet50"):
        folder, _ = train(images, target, write_run, name)
        if name == "srm_resnet50":
            weights = target / "smoke" / "weights" / f"{folder.name}.safetensors"
            save_tensors(weights, half_precision(Run(folder)), {"run": folder.name})
        for path in (folder / "last.safetensors", folder / "best.safetensors"):
            path.unlink()
    monkeypatch.setattr(published_run, "__defaults__", (predicting.MODEL, target))
    weights_of = records_published.weights_of
    monkeypatch.setattr(checkpoint, "weights_of", lambda run, _: weights_of(run, target))
    return target


@pytest.fixture
def drawing(tmp_path):
    """A picture drawn here: a red disc on green."""
    picture = Image.new("RGB", (90, 70), "green")
    ImageDraw.Draw(picture).ellipse((25, 15, 65, 55), fill="red")
    picture.save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


@pytest.fixture
def files(images, tmp_path):
    """Two validation images as files."""
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.fromarray(images.val[number]).save(path)
    return paths


def test_a_file_gets_what_its_image_got(trained, files, images):
    folder, model = trained
    _, loader = build_loaders(images, RECIPE, seed=0)
    pixels, _ = next(iter(loader.epoch(0)))
    expected = paddle.nn.functional.softmax(model(paddle.to_tensor(pixels[:2]))).numpy()
    for weights in (folder, folder / "best.safetensors"):
        found = predict(files, weights, top=10)
        assert list(found) == [str(path) for path in files]
        for row, classes in zip(expected, found.values(), strict=True):
            by_name = dict(classes)
            np.testing.assert_allclose([by_name[name] for name in images.classes], row, rtol=1e-5)
            assert classes == sorted(classes, key=lambda pair: -pair[1])


def test_the_command_prints_image_class_and_probability(trained, files, capsys, images):
    assert cli.main(["predict", *map(str, files), "--weights", str(trained[0])]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in files]
    for _, name, probability in lines:
        assert name in images.classes
        assert 1 / len(images.classes) <= float(probability) + 5e-4 and float(probability) <= 1


def test_what_cannot_be_predicted(trained, files, tmp_path):
    folder, _ = trained
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    with pytest.raises(DataError, match="damaged.png: not an image"):
        predict([*files, damaged], folder)
    with pytest.raises(DataError, match="missing.png: cannot be read"):
        predict([tmp_path / "missing.png"], folder)
    with pytest.raises(SettingError, match="top is 0"):
        predict(files, folder, top=0)
    for nothing in (tmp_path, tmp_path / "other.safetensors", tmp_path / "last.safetensors"):
        with pytest.raises(CheckpointError, match="experiment.json, which says what network"):
            predict(files, nothing)
    (folder / "last.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match="was not trained here, and its last weights are not published"
    ):
        predict(files, folder)


def test_published_weights_say_whose_they_are(published, drawing, images, capsys):
    command = ["predict", str(drawing), "--model", "srm_resnet50", "--top", "10"]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("Published weights: SRM-ResNet-50 · profile smoke · Shapes (2 classes; ")
    assert "56 px, width 0.0625 · fold 0, seed 0 · cpu" in line
    assert line.endswith(", ".join(images.classes))
    shares = [float(row.split("\t")[2]) for row in out.splitlines()]
    assert len(shares) == 10 and sum(shares) == pytest.approx(1, abs=0.01)


def test_the_profile_that_says_most_comes_first(published):
    run = published_run("srm_resnet50")
    assert run.folder.parent == published / "smoke" / "runs"
    for part in ("runs", "weights"):
        shutil.copytree(published / "smoke" / part, published / "quick" / part)
    # Its recipe is not that of the profile quick: no page shows it.
    assert published_run("srm_resnet50").folder == run.folder
    [copy] = (published / "quick" / "runs").glob("*srm*")
    recipe = PROFILES["quick"].recipes["animals10"]
    experiment = Experiment("shapes", run.experiment.fingerprint, "srm_resnet50", recipe, 0)
    record = read_json(copy / "experiment.json")
    write_json(copy / "experiment.json", {**record, **experiment.to_dict()})
    assert published_run("srm_resnet50").folder == copy


def test_what_is_not_published_is_said_with_what_is(published, drawing, capsys, monkeypatch):
    assert cli.main(["predict", str(drawing)]) == 2
    error = capsys.readouterr().err
    assert "no weights of resnet50 are published; published are those of: srm_resnet50." in error
    assert "make reproduce-all PROFILE=quick" in error and "--weights results/quick/runs/" in error
    shutil.rmtree(published / "smoke" / "weights")
    with pytest.raises(CheckpointError, match="published are those of: no network"):
        published_run("srm_resnet50")
    with pytest.raises(SettingError, match="unknown model 'srm_resnet5'.*did you mean"):
        published_run("srm_resnet5")
    with pytest.raises(SystemExit):
        cli.main(["predict", str(drawing), "--model", "resnet50", "--weights", "x"])


def test_grad_cam_is_drawn_of_the_likeliest_class(trained, drawing, tmp_path, capsys, monkeypatch):
    folder, model = trained
    drawn = []
    figure_of = plots.grad_cam
    monkeypatch.setattr(plots, "grad_cam", lambda seen: drawn.extend(seen) or figure_of(seen))
    target = tmp_path / "cams" / "disc-cam.png"
    command = ["predict", str(drawing), "--weights", str(folder), "--cam", str(target.parent)]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert err == f"Grad-CAM of {drawing}: {target}\n"
    _, name, share = out.split("\t")
    [seen] = drawn
    assert seen.label == name and seen.probabilities["SE-ResNet-50"] == pytest.approx(
        float(share), abs=5e-4
    )
    # The network's own input, its normalisation undone: green around red.
    np.testing.assert_allclose(seen.picture[0, 0], np.array([0, 128, 0]) / 255, atol=0.01)
    np.testing.assert_allclose(seen.picture[28, 28], [1, 0, 0], atol=0.01)
    inputs = predicting._pixels([str(drawing)], Run(folder))
    label = Run(folder).classes.index(name)
    [expected] = explain.grad_cam(model, inputs, [label])
    np.testing.assert_allclose(seen.maps["SE-ResNet-50"], expected, rtol=1e-4, atol=1e-6)
    image = plt.imread(target)
    assert min(image.shape[:2]) > 100 and image[..., :3].std() > 0.02


def test_no_picture_takes_the_place_of_another(trained, drawing, tmp_path):
    folder, _ = trained
    (tmp_path / "disc-cam.png").write_bytes(b"mine")
    with pytest.raises(SettingError, match="disc-cam.png is there already; remove it or name"):
        draw_cams([drawing], folder, tmp_path)
    assert (tmp_path / "disc-cam.png").read_bytes() == b"mine"
    (tmp_path / "other").mkdir()
    other = shutil.copy(drawing, tmp_path / "other")
    with pytest.raises(SettingError, match="2 images would be drawn to"):
        draw_cams([drawing, other], folder, tmp_path / "cams")
    assert not (tmp_path / "cams").exists()


def test_statistics_in_reverse_order_are_those_of_training(images, files, tmp_path, write_run):
    recipe = replace(RECIPE, reversed_statistics=True)
    images = replace(images, name="animals10")  # whose channels differ
    folder, _ = train(images, tmp_path / "results", write_run, recipe=recipe)
    _, loader = build_loaders(images, recipe, seed=0)
    pixels, _ = next(iter(loader.epoch(0)))
    found = predicting._pixels([str(path) for path in files], Run(folder))
    np.testing.assert_allclose(found, pixels[:2], rtol=1e-6)
