"""The embedded data set: the shapes are what their names say, and the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from attn_blocks.datasets import load, shapes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(shapes, "TRAIN_IMAGES", 30)
    monkeypatch.setattr(shapes, "VAL_IMAGES", 20)


def test_classes_are_equally_many_and_images_64_pixels(few, tmp_path):
    loaded = load("shapes", tmp_path)
    assert loaded.label == "Shapes (10 classes; 30 / 20 images)"
    assert loaded.classes == tuple(sorted(loaded.classes))
    assert np.bincount(loaded.train.labels).tolist() == [3] * 10
    assert np.bincount(loaded.val.labels).tolist() == [2] * 10
    assert all(loaded.train[index].shape == (64, 64, 3) for index in range(30))


def test_it_is_drawn_once(few, tmp_path, monkeypatch):
    first = load("shapes", tmp_path)
    monkeypatch.setattr(shapes, "draw", lambda *_: pytest.fail("drawn again"))
    assert load("shapes", tmp_path).fingerprint == first.fingerprint


def test_smaller_images_have_the_same_fingerprint(few, tmp_path):
    small = load("shapes", tmp_path, short_side=20)
    assert small.train[0].shape == (20, 20, 3)
    assert small.fingerprint == load("shapes", tmp_path).fingerprint


def test_no_image_is_like_another(few, tmp_path):
    loaded = load("shapes", tmp_path)
    parts = [
        part[index].tobytes() for part in (loaded.train, loaded.val) for index in range(len(part))
    ]
    assert len(set(parts)) == 50 and loaded.duplicates == ()


def test_the_same_seed_draws_the_same_image():
    assert np.array_equal(shapes.draw("star", 5), shapes.draw("star", 5))
    assert not np.array_equal(shapes.draw("star", 5), shapes.draw("star", 6))


def test_the_image_is_the_same_on_every_machine():
    # Averaged over 16 x 16 pixels: versions of Pillow may differ at the edge of a polygon.
    expected = [[61, 72, 72, 60], [89, 128, 94, 65], [92, 158, 121, 73], [86, 79, 93, 69]]
    small = np.asarray(Image.fromarray(shapes.draw("star", 5)).reduce(16)).mean(axis=-1)
    assert np.abs(small - expected).max() < 3


def test_everything_but_the_outline_is_independent_of_the_class():
    # With one seed the classes differ only where one of the shapes is.
    images = np.stack([shapes.draw(name, 11) for name in shapes.OUTLINES]).astype(int)
    same = (images == images[0]).all(axis=(0, 3))
    assert 0.3 < same.mean() < 0.98


@pytest.mark.parametrize("name", shapes.OUTLINES)
def test_outlines_stay_within_the_image(name):
    for seed in range(50):
        points = shapes._place(np.random.default_rng(seed), shapes.OUTLINES[name]())
        assert points.min() > -6 and points.max() < shapes.SIZE + 6
        # A sixteenth of the image at the least is there to be seen of it.
        assert np.ptp(points, axis=0).min() > shapes.SIZE / 6


def test_the_ten_outlines_differ():
    masks = []
    for outline in shapes.OUTLINES.values():
        mask = Image.new("1", (100, 100))
        points = outline() * 35 + 50
        ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points], fill=1)
        masks.append(np.asarray(mask))
    for first in range(10):
        assert 800 < masks[first].sum() < 5000
        for second in range(first):
            overlap = (masks[first] & masks[second]).sum() / (masks[first] | masks[second]).sum()
            assert overlap < 0.96
