"""The transforms against what they stand for, computed image by image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from attn_blocks.datasets import Images, create_transform
from attn_blocks.datasets.augment import CROPS, DRAWS, crop_boxes
from attn_blocks.errors import SettingError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IDENTITY = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def images(*arrays: np.ndarray) -> Images:
    sizes = np.array([array.shape[:2] for array in arrays], dtype=np.int32)
    lengths = [array.size for array in arrays]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    pixels = np.concatenate([array.reshape(-1) for array in arrays])
    return Images(pixels, offsets, sizes, np.arange(len(arrays)))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def back(batch: np.ndarray) -> np.ndarray:
    """Undo the scaling of a batch made with IDENTITY: uint8 [B, S, S, 3]."""
    return np.round(batch.transpose(0, 2, 3, 1) * 255).astype(np.uint8)


def apply(augmentation, some, size, train, seed=0, **options):
    transform = create_transform(augmentation, size, **{**IDENTITY, **options}, train=train)
    return transform(some, np.arange(len(some)), np.random.default_rng(seed))


@pytest.mark.parametrize("augmentation", CROPS)
@pytest.mark.parametrize("train", [True, False])
def test_batches_are_normalised_float32_nchw(augmentation, train):
    grey = [np.full((20, 30, 3), (51, 102, 204), np.uint8) for _ in range(3)]
    batch = apply(augmentation, images(*grey), 16, train, mean=MEAN, std=STD)
    assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == (
        (3, 3, 16, 16),
        np.float32,
        True,
    )
    expected = (np.array([0.2, 0.4, 0.8]) - MEAN) / STD
    np.testing.assert_allclose(batch[:, :, 8, 8], np.tile(expected, (3, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("augmentation", CROPS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 2000), (64, 64), (5, 9)])
def test_every_shape_of_image_works(augmentation, train, shape):
    batch = apply(augmentation, images(noise(*shape)), 24, train)
    assert batch.shape == (1, 3, 24, 24) and np.isfinite(batch).all()


@pytest.mark.parametrize("augmentation", sorted(CROPS.keys() - {"center_crop"}))
def test_training_depends_on_the_generator_and_evaluation_does_not(augmentation):
    some = images(*[noise(40, 40, seed) for seed in range(4)])
    one, other = (apply(augmentation, some, 32, True, seed) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, apply(augmentation, some, 32, True, 1))
    one, other = (apply(augmentation, some, 32, False, seed) for seed in (1, 2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("augmentation", CROPS)
def test_an_image_keeps_its_numbers_in_any_batch(augmentation):
    some = images(*[noise(36, 36, seed) for seed in range(5)])
    transform = create_transform(augmentation, 32, **IDENTITY, train=True)
    whole = transform(some, np.arange(5), np.random.Generator(np.random.PCG64(3)))
    bits = np.random.PCG64(3)
    bits.advance(2 * DRAWS)
    part = transform(some, np.arange(2, 5), np.random.Generator(bits))
    assert np.array_equal(whole[2:], part)


def test_pad_crop_against_slicing():
    some = images(*[noise(8, 8, seed) for seed in range(64)])
    seen_flips = set()
    batch = back(apply("pad_crop", some, 8, True))
    for number, result in enumerate(batch):
        padded = np.pad(some[number], ((4, 4), (4, 4), (0, 0)))
        found = [
            (top, left, flip)
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
            if np.array_equal(
                padded[top : top + 8, left : left + 8][:, :: -1 if flip else 1], result
            )
        ]
        assert found, f"image {number} is no crop of itself"
        seen_flips.add(found[0][2])
    assert seen_flips == {True, False}


def test_pad_crop_places_evenly_and_flips_half():
    gradient = np.zeros((32, 32, 3), np.uint8)
    gradient[..., 0], gradient[..., 1] = np.arange(100, 132)[:, None], np.arange(100, 132)
    some = images(*[gradient] * 2000)
    batch = back(apply("pad_crop", some, 32, True))
    middle = batch[:, 16, 15:17, :].astype(int)
    assert abs((middle[:, 0, 1] > middle[:, 1, 1]).mean() - 0.5) < 0.04
    rows = np.bincount(middle[:, 0, 0] - 112, minlength=9)
    assert len(rows) == 9 and rows.min() > 150


def test_pad_crop_evaluates_images_as_they_are():
    some = images(noise(32, 32), noise(32, 32, 1))
    assert np.array_equal(back(apply("pad_crop", some, 32, False))[1], some[1])


def test_resized_crop_flips_half_and_keeps_upright():
    # Brighter to the right and downwards, whatever the crop.
    gradient = np.zeros((40, 40, 3), np.uint8)
    gradient[..., 0], gradient[..., 1] = np.arange(0, 240, 6), np.arange(0, 240, 6)[:, None]
    batch = apply("resized_crop", images(*[gradient] * 500), 16, True)
    flipped = batch[:, 0, 8, 15] < batch[:, 0, 8, 0]
    assert abs(flipped.mean() - 0.5) < 0.07
    assert (batch[:, 1, 15, 8] > batch[:, 1, 0, 8]).all()


def test_crop_boxes_follow_scale_and_ratio():
    shapes = np.tile([[120.0, 160.0]], (4000, 1))
    draws = np.random.default_rng(0).random((4000, DRAWS))
    left, top, right, bottom = crop_boxes(shapes, draws, (0.08, 1.0)).T
    width, height = right - left, bottom - top
    assert (left >= 0).all() and (top >= 0).all() and (right <= 160).all() and (bottom <= 120).all()
    share = width * height / (120 * 160)
    # The rejected tries are the large ones, so the mean lies below that of all areas, 0.54.
    assert 0.075 < share.min() < 0.1 and 0.95 < share.max() <= 1 and 0.4 < share.mean() < 0.54
    assert (width / height).min() > 0.7 and (width / height).max() < 1.38
    assert abs(np.log(width / height).mean()) < 0.06
    # Both ends of the free room are reached.
    assert (left[width < 100] == 0).any() and (right[width < 100] == 160).any()


def test_crop_boxes_fall_back_to_the_middle():
    # No crop of an allowed ratio has 90% of such a strip's area.
    boxes = crop_boxes(
        np.array([[10.0, 1000.0], [1000.0, 10.0], [1.0, 1.0]]),
        np.random.default_rng(0).random((3, DRAWS)),
        (0.9, 1.0),
    )
    assert boxes.tolist() == [[494, 0, 507, 10], [0, 494, 10, 507], [0, 0, 1, 1]]


def test_resized_crop_of_the_whole_image_is_a_resize():
    some = images(*[noise(40, 40, seed) for seed in range(10)])
    batch = back(apply("resized_crop", some, 20, True, scale=(1.0, 1.0)))
    for number, result in enumerate(batch):
        image = Image.fromarray(some[number])
        plain = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))
        assert np.array_equal(plain, result) or np.array_equal(plain[:, ::-1], result)


@pytest.mark.parametrize("height, width", [(64, 64), (64, 96), (100, 64)])
def test_centre_crop_against_resize_then_crop(height, width):
    # Smooth content, since the two ways round to whole pixels differently.
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, 0 * x + 80], -1)
    batch = back(apply("resized_crop", images(smooth.astype(np.uint8)), 56, False))[0]
    scale = 64 / min(height, width)
    resized = Image.fromarray(smooth.astype(np.uint8)).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - 56) / 2, (resized.height - 56) / 2
    expected = np.asarray(resized.crop((left, top, left + 56, top + 56)))
    assert np.abs(batch.astype(int) - expected).max() <= 4


def test_rotation_is_at_most_ten_degrees_and_black_outside():
    line = np.full((64, 64, 3), 10, np.uint8)
    line[:, 31:33] = 255
    batch = apply("rotate", images(*[line] * 300), 64, True)
    top = batch[:, 0, 12, :].argmax(axis=1)
    angles = np.degrees(np.arctan2(top - 31.5, 31.5 - 12))
    assert np.abs(angles).max() < 11.5 and angles.max() > 7 and angles.min() < -7
    corners = batch[:, 0, 0, 0]
    assert (corners == 0).any() and np.isclose(batch[:, 0, 32, 10], 10 / 255).all()


def test_center_crop_trains_as_it_evaluates():
    picture = images(noise(40, 60), noise(64, 64))
    trained, evaluated = (apply("center_crop", picture, 32, train) for train in (True, False))
    assert np.array_equal(trained, evaluated)
    assert np.array_equal(evaluated, apply("resized_crop", picture, 32, False))


def test_rotate_nearest_makes_no_new_colours():
    picture = images(*[noise(32, 32)] * 20)
    turned = {name: back(apply(name, picture, 32, True)) for name in ("rotate", "rotate_nearest")}
    colours = {tuple(pixel) for pixel in noise(32, 32).reshape(-1, 3)} | {(0, 0, 0)}
    found = {tuple(pixel) for pixel in turned["rotate_nearest"].reshape(-1, 3)}
    assert found <= colours
    assert not {tuple(pixel) for pixel in turned["rotate"].reshape(-1, 3)} <= colours


def test_rotate_evaluates_by_a_plain_resize():
    image = noise(40, 60)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(back(apply("rotate", images(image), 32, False))[0], expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"augmentation": "cutmix"}, "unknown augmentation 'cutmix'; choose one of: resized_crop"),
        ({"image_size": 0}, "image_size is 0"),
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": (0.5, 1.5)}, "scale is"),
        ({"scale": 0.5}, "scale is 0.5; it must be two shares"),
        ({"scale": (0.1, 0.5, 1.0)}, "scale is"),
        ({"mean": (0.5,)}, r"mean is \[0.5\] and std .* must be three numbers"),
        ({"std": (0.2, 0.0, 0.2)}, r"std \[0.2, 0.0, 0.2\]; .* those of std above 0"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean is .* must be three numbers"),
    ],
)
def test_settings_that_cannot_work(arguments, message):
    usual = {"augmentation": "rotate", "image_size": 8, **IDENTITY, "train": True}
    with pytest.raises(SettingError, match=message):
        create_transform(**{**usual, **arguments})
