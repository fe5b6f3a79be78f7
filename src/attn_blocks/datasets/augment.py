"""Images to training and evaluation batches: cropped, flipped or rotated, scaled, normalised.

Every transform is called as ``transform(images, indices, rng)`` and returns float32
[B, 3, S, S], contiguous. It draws ``rng.random((B, DRAWS))`` once and nothing else, so a caller
that places the generator at an image's row gets that image's numbers whatever the batch around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from PIL import Image

from attn_blocks.datasets.images import Images
from attn_blocks.errors import SettingError, choose

Transform = Callable[[Images, np.ndarray, np.random.Generator], np.ndarray]

# Uniform numbers drawn for each image: a resized crop needs the most, two for each of its tries,
# two for the place and one for the flip.
TRIES = 10
DRAWS = 2 * TRIES + 3
RATIO = (3 / 4, 4 / 3)
PADDING = 4
DEGREES = 10
# ImageNet's evaluation: 256 to 224.
RESIZE_TO_CROP = 8 / 7
BILINEAR = Image.Resampling.BILINEAR


def create_transform(
    augmentation: str,
    image_size: int,
    mean: Iterable[float],
    std: Iterable[float],
    train: bool,
    scale: tuple[float, float] = (0.08, 1.0),
) -> Transform:
    """The transform of one part of a data set.

    ==================  =================================  ==================================
    augmentation        training                           evaluation
    ==================  =================================  ==================================
    ``resized_crop``    a crop of ``scale`` of the area,   shorter side to S*8/7, the middle
                        ratio 3/4 to 4/3, resized; flip    S x S
    ``center_crop``     as in evaluation                   the same
    ``pad_crop``        4 black pixels around, a crop of   as it is
                        S x S; flip
    ``rotate``          resized to S x S, rotated up to    resized to S x S
                        10 degrees, black outside
    ``rotate_nearest``  the same, each pixel from the      resized to S x S
                        nearest one
    ==================  =================================  ==================================

    Flips are horizontal, half of the images. ``pad_crop`` resizes images that are not S x S.
    Resizing is bilinear with antialiasing. ``resized_crop`` is Inception's (Szegedy et al. 2015,
    section 6); ten tries, then the largest crop from the middle whose ratio is allowed.

    Args:
        augmentation: a name of the table.
        image_size: S, in pixels.
        mean, std: of the channels, pixels in [0, 1].
        train: training or evaluation.
        scale: the smallest and largest share of the area that ``resized_crop`` keeps.

    Raises:
        SettingError: an unknown augmentation, a size below 1, a scale outside 0 < a <= b <= 1, or
            a mean or std that is not three numbers, those of std above 0.
    """
    train_crop, eval_crop = CROPS[choose("augmentation", augmentation, CROPS)]
    if image_size < 1:
        raise SettingError(f"image_size is {image_size}; it must be at least 1 pixel")
    if np.shape(scale) != (2,) or not 0 < scale[0] <= scale[1] <= 1:
        raise SettingError(f"scale is {scale}; it must be two shares of the area, 0 < a <= b <= 1")
    normalise = _Normalise(mean, std)

    def transform(images: Images, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        draws = rng.random((len(indices), DRAWS))
        crop = train_crop if train else eval_crop
        return normalise(crop([images[index] for index in indices], image_size, draws, scale))

    return transform


class _Normalise:
    """uint8 [B, S, S, 3] to float32 [B, 3, S, S]: pixels to [0, 1], less the mean, over the std."""

    def __init__(self, mean: Iterable[float], std: Iterable[float]):
        mean, std = np.asarray(list(mean)), np.asarray(list(std))
        known = mean.shape == std.shape == (3,) and np.isfinite([mean, std]).all()
        if not (known and (std > 0).all()):
            raise SettingError(
                f"mean is {mean.tolist()} and std {std.tolist()}; each must be three numbers, red, "
                "green and blue, and those of std above 0"
            )
        self.factor = (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1)
        self.shift = (-mean / std).astype(np.float32).reshape(3, 1, 1)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), dtype=np.float32)
        planes *= self.factor
        planes += self.shift
        return planes


def _resize(image: np.ndarray, size: int, box: tuple[float, ...] | None = None) -> np.ndarray:
    if box is None and image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), BILINEAR, box))


def _empty(count: int, size: int) -> np.ndarray:
    return np.empty((count, size, size, 3), dtype=np.uint8)


def _resized_crop(
    images: list[np.ndarray], size: int, draws: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    shapes = np.array([image.shape[:2] for image in images], dtype=np.float64).reshape(-1, 2)
    boxes = crop_boxes(shapes, draws, scale)
    batch = _empty(len(images), size)
    for number, (image, box) in enumerate(zip(images, boxes, strict=True)):
        batch[number] = _resize(image, size, tuple(box))
    return _flip(batch, draws[:, -1])


def crop_boxes(shapes: np.ndarray, draws: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Random crops of images: left, top, right, bottom in whole pixels, [B, 4].

    Args:
        shapes: [B, 2], heights and widths.
        draws: [B, DRAWS], uniform in [0, 1).
        scale: the smallest and largest share of the area.
    """
    height, width = shapes[:, :1], shapes[:, 1:]
    areas = (scale[0] + (scale[1] - scale[0]) * draws[:, :TRIES]) * height * width
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratios = np.exp(low + (high - low) * draws[:, TRIES : 2 * TRIES])
    widths, heights = np.round(np.sqrt(areas * ratios)), np.round(np.sqrt(areas / ratios))
    fits = (widths >= 1) & (heights >= 1) & (widths <= width) & (heights <= height)
    # The first try that fits; where none does, the largest crop of an allowed ratio.
    first = fits.argmax(axis=1)[:, None]
    middle_width = np.round(np.clip(width, 1, np.maximum(1, height * RATIO[1])))
    middle_height = np.round(np.clip(height, 1, np.maximum(1, width / RATIO[0])))
    fitting = fits.any(axis=1)[:, None]
    crop_width = np.where(fitting, np.take_along_axis(widths, first, 1), middle_width)
    crop_height = np.where(fitting, np.take_along_axis(heights, first, 1), middle_height)
    place = np.where(fitting, draws[:, 2 * TRIES : 2 * TRIES + 2], 0.5)
    left = np.floor(place[:, :1] * (width - crop_width + 1))
    top = np.floor(place[:, 1:] * (height - crop_height + 1))
    return np.concatenate([left, top, left + crop_width, top + crop_height], axis=1)


def _center_crop(images: list[np.ndarray], size: int, *_: object) -> np.ndarray:
    batch = _empty(len(images), size)
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        # One resize of the middle square equals scaling the whole image and cropping it.
        side = min(height, width) * min(1.0, size / round(size * RESIZE_TO_CROP))
        left, top = (width - side) / 2, (height - side) / 2
        batch[number] = _resize(image, size, (left, top, left + side, top + side))
    return batch


def _pad_crop(images: list[np.ndarray], size: int, draws: np.ndarray, *_: object) -> np.ndarray:
    whole = _resize_all(images, size)
    padded = np.pad(whole, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top, left = np.floor(draws[:, :2] * (2 * PADDING + 1)).astype(np.int64).T
    steps = np.arange(size)
    rows, columns = top[:, None] + steps, left[:, None] + steps
    # Reading the columns backwards is the flip.
    columns = np.where(draws[:, -1:] < 0.5, columns[:, ::-1], columns)
    return padded[np.arange(len(whole))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _resize_all(images: list[np.ndarray], size: int, *_: object) -> np.ndarray:
    batch = _empty(len(images), size)
    for number, image in enumerate(images):
        batch[number] = _resize(image, size)
    return batch


def _rotate(
    images: list[np.ndarray],
    size: int,
    draws: np.ndarray,
    *_: object,
    by: Image.Resampling = BILINEAR,
) -> np.ndarray:
    batch = _resize_all(images, size)
    angles = DEGREES * (2 * draws[:, 0] - 1)
    for number, angle in enumerate(angles):
        batch[number] = np.asarray(Image.fromarray(batch[number]).rotate(angle, by))
    return batch


def _flip(batch: np.ndarray, draws: np.ndarray) -> np.ndarray:
    flipped = draws < 0.5
    batch[flipped] = batch[flipped, :, ::-1]
    return batch


CROPS: dict[str, tuple[Callable, Callable]] = {
    "resized_crop": (_resized_crop, _center_crop),
    "center_crop": (_center_crop, _center_crop),
    "pad_crop": (_pad_crop, _resize_all),
    "rotate": (_rotate, _resize_all),
    "rotate_nearest": (partial(_rotate, by=Image.Resampling.NEAREST), _resize_all),
}
