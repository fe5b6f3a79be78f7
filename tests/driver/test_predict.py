"""Predicting: an image file gets what the network gave the same image in training's evaluation."""

import numpy as np
import paddle
import pytest
from PIL import Image

from attn_blocks.errors import CheckpointError, DataError, SettingError
from attn_blocks.files import read_json, write_json
from attn_book.driver import cli
from attn_book.driver.predict import predict
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training.build import build_loaders, build_model
from attn_book.training.checkpoint import save_checkpoint

RECIPE = PROFILES["smoke"].recipes["animals10"]


@pytest.fixture
def images(data_dir):
    return load_images("shapes", RECIPE, data_dir)


@pytest.fixture
def trained(images, tmp_path, write_run):
    """A run's folder with weights nobody trained, and the network that has them."""
    experiment = Experiment("shapes", images.fingerprint, "se_resnet50", RECIPE, 0)
    folder = tmp_path / "results" / "smoke" / "runs" / experiment.name
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
    with pytest.raises(CheckpointError, match="last.safetensors does not exist"):
        predict(files, folder)
