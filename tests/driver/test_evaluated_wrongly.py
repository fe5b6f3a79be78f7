"""Publishing evaluates the plain network wrongly, once; it can be done again."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attn_blocks import datasets
from attn_blocks.datasets import shapes
from attn_blocks.errors import CheckpointError, DataError
from attn_blocks.files import read_json, write_json
from attn_book.driver import measured as driving
from attn_book.driver import publish as publishing
from attn_book.driver.verify import check
from attn_book.records import faults
from attn_book.records import published as records_published
from attn_book.records.published import PublishError
from attn_book.records.seal import seal
from attn_book.study.experiment import Experiment
from attn_book.study.pages import RESNET
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training.run import train_experiment

RECIPE = PROFILES["smoke"].recipes["animals10"]


@pytest.fixture
def drawn(tmp_path):
    """A data folder with an Animals-10 of drawn images, wide ones."""
    for label, name in enumerate(datasets.DATASETS["animals10"].class_names):
        folder = tmp_path / "data" / "animals10" / name
        folder.mkdir(parents=True)
        outline = shapes.SOURCE.class_names[label]
        for number in range(8):
            pixels = shapes.draw(outline, (label, number, 0))
            Image.fromarray(np.tile(pixels, (1, 2, 1))).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_it_is_measured_once_and_again_on_demand(tmp_path, monkeypatch, drawn):
    shared = replace(PROFILES["smoke"], shared=True)
    for module in (publishing, records_published):
        monkeypatch.setattr(module, "PROFILES", {**PROFILES, "smoke": shared})
    results, target = tmp_path / "results", tmp_path / "published"
    images = load_images("animals10", RECIPE, drawn)
    experiment = Experiment("animals10", images.fingerprint, RESNET.model, RECIPE, 0)
    train_experiment(experiment, results / "smoke", drawn, "cpu", progress=False)
    with pytest.raises(PublishError, match="no faults.json is published yet"):
        driving.check_again(target, drawn)
    # Without the images the runs are published all the same.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (note,) = [
        note
        for note in publishing.publish("smoke", results, target, elsewhere)
        if faults.FILE in note
    ]
    assert note.startswith("left out faults.json: Animals-10 is not in")
    publishing.publish("smoke", results, target, drawn)
    path = target / "smoke" / faults.FILE
    assert check(target) == [] and read_json(path)["run"] == experiment.name
    (sentence,) = driving.check_again(target, drawn)
    assert sentence.endswith("at most 0 images off")
    # Published again, it is kept, and takes no images.
    publishing.publish("smoke", results, target, elsewhere)
    assert check(target) == [] and path.exists()
    with pytest.raises(DataError, match="is not in"):
        driving.check_again(target, elsewhere)
    record = read_json(path)
    wrong = {**record["right"], faults.REVERSED: (record["right"][faults.REVERSED] + 5) % 20}
    write_json(path, {**record, "right": wrong})
    seal(target / "smoke")
    with pytest.raises(CheckpointError, match="channels in reverse order"):
        driving.check_again(target, drawn)
