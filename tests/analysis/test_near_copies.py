"""Near-copies across training and validation images: found, kept, and what they change."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from attn_blocks.datasets import ImageDataset, Images
from attn_blocks.errors import CheckpointError, DataError
from attn_blocks.files import read_json, write_json
from attn_book.analysis import near_copies as looking
from attn_book.driver import measured
from attn_book.records import near_copies
from attn_book.records.published import PUBLISHED
from attn_book.study.pages import RESNET, SE

FOLDS = looking.FOLDS


def photograph(seed, side=64):
    """Something with large and small structure, as photographs have it."""
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((side, side + seed % 7), Image.Resampling.BICUBIC)


def stored(pictures):
    arrays = [np.asarray(picture) for picture in pictures]
    sizes = np.array([array.shape[:2] for array in arrays])
    offsets = np.cumsum([0, *(array.size for array in arrays[:-1])])
    pixels = np.concatenate([array.ravel() for array in arrays])
    return Images(pixels, offsets, sizes, np.zeros(len(arrays), int))


def data_set(train, val, fingerprint="f" * 64):
    parts = stored(train), stored(val)
    return ImageDataset("animals10", "Animals-10", ("dog",), 10, *parts, fingerprint)


def test_copies_are_found_stored_again_scaled_and_mirrored_and_nothing_else():
    train = [photograph(seed) for seed in range(20)]
    again = train[3].filter(ImageFilter.GaussianBlur(0.7))
    scaled = train[4].resize((50, 53))
    mirrored = train[5].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    upside_down = train[6].transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    brighter = train[7].point(lambda value: min(255, value + 40))
    val = [photograph(99), again, scaled, upside_down, mirrored, brighter, photograph(98)]
    assert looking.find(data_set(train, val)).tolist() == [1, 2, 4]


@pytest.fixture
def study(tmp_path, study_of):
    """ResNet-50 is right on 80%, SE on 82%, each image by chance; of every fold 20 are copies."""
    folder = tmp_path / "study"
    study_of(folder, lambda task, title, seed: 0.8 + 0.02 * (title == SE.title), ["animals10"])
    places = [np.arange(0, 200, 10)] * FOLDS
    found = {"animals10": ("f" * 64, [200] * FOLDS, places)}
    write_json(folder / near_copies.FILE, near_copies.record_of(found))
    return folder


def test_gains_are_those_of_the_images_that_are_left(study):
    gain = looking.gains(study)[SE.title]
    assert gain.every == pytest.approx((82, 2))
    found = looking.of_folder(study, looking.NINE)
    left = np.setdiff1d(np.arange(200), np.arange(0, 200, 10))
    ours, plain = (
        100 * np.mean([found.right(title, fold)[0][left].mean() for fold in range(FOLDS)])
        for title in (SE.title, RESNET.title)
    )
    assert gain.without == pytest.approx((ours, ours - plain))
    table = looking.table(study)
    assert table.loc[SE.title, "Points above ResNet-50, all images"] == "+2.00"
    assert table.loc[SE.title, "Accuracy, without near-copies"] == f"{ours:.2f}%"
    assert table.loc[RESNET.title, "Points above ResNet-50, all images"] == "–"
    assert set(table["Runs"]) == {"5 of 5 folds"}
    text = looking.in_words(study)
    assert "20, 20, 20, 20 and 20 have a near-copy among" in text and "10.0% of all" in text
    others = looking.gains(study)
    assert others["SRM-ResNet-50"].every[1] == 0 < others["SRM-ResNet-50"].without[1]
    assert "(SRM); another sign have SRM, SGE and BAT." in text


def test_a_task_without_the_nine_has_its_count_alone(study):
    record = read_json(study / near_copies.FILE)
    record["caltech16"] = {**record["animals10"], "copied": [[1], [], [], [], []]}
    write_json(study / near_copies.FILE, record)
    assert looking.in_words(study).endswith(
        "Of the validation images of the 5 folds of Caltech-16, 1, 0, 0, 0 and 0 have a near-copy "
        "among the training images of their fold, 0.1% of all."
    )


def test_nothing_is_said_before_anything_was_looked_for(study):
    (study / near_copies.FILE).unlink()
    assert looking.gains(study) == {} and looking.in_words(study) == ""
    assert near_copies.problems(study) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fingerprint": "0"}, "is not about the images of the runs"),
        ({"images": [199] * FOLDS}, "is not about the validation images of animals10-"),
        ({"copied": [[200]] * FOLDS}, "is not about the validation images of animals10-"),
        ({"copied": [[3, 1]] * FOLDS}, "is not about the validation images of animals10-"),
        ({"copied": [[1]]}, "cannot be read"),
        ({"images": 3}, "cannot be read"),
    ],
)
def test_a_record_that_does_not_fit_is_a_problem(study, change, problem):
    assert near_copies.problems(study) == []
    record = read_json(study / near_copies.FILE)
    record["animals10"] |= change
    write_json(study / near_copies.FILE, record)
    (found,) = near_copies.problems(study)
    assert problem in found


def test_looking_again_finds_the_same_or_says_so(study, monkeypatch):
    train = [photograph(seed) for seed in range(5)]
    images = data_set(train, [photograph(50), train[2], *map(photograph, range(60, 258))])
    monkeypatch.setattr(measured, "load_images", lambda *_: images)
    record = measured.copies_in(study)
    assert record["animals10"]["copied"] == [[1]] * FOLDS
    write_json(study / near_copies.FILE, record)
    assert measured.check_again(study.parent) == [
        "study: near-copies looked for again, 0 images off"
    ]
    record["animals10"]["copied"][2] = [0, 1]
    write_json(study / near_copies.FILE, record)
    with pytest.raises(CheckpointError, match="of 200 images of animals10 1 are found otherwise"):
        measured.check_again(study.parent)
    others = data_set(train, train, "0")
    monkeypatch.setattr(measured, "load_images", lambda *_: others)
    with pytest.raises(DataError, match="others than those of the published runs"):
        measured.copies_in(study)


def test_those_of_the_published_study_are_kept():
    folder = PUBLISHED / "study"
    assert near_copies.tasks(folder) and near_copies.read(folder, "animals10") is not None
    assert near_copies.problems(folder) == []
