"""The embedded data set: ten shapes, drawn from a seed when they are first asked for.

The class is the shape and nothing else. Colours, textures, size, place, angle, stretch,
background, clutter and noise are drawn independently of it, so guessing gives 10%.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from attn_blocks.datasets import cache as caches
from attn_blocks.datasets.cache import Stored, Writer
from attn_blocks.datasets.folder import TRAIN, VAL
from attn_blocks.datasets.progress import bar
from attn_blocks.datasets.source import Source
from attn_blocks.files import sha256_of

SIZE = 64
TRAIN_IMAGES, VAL_IMAGES = 2000, 500
SEED = 2021
SUPERSAMPLING = 4
# How hard it is. With these a ResNet-50 of a quarter of the width reaches about 70% after ten
# epochs at 56 pixels: between guessing and perfect, where networks can differ.
RADIUS = (0.33, 0.45)  # of the image's side
STRETCH = (0.9, 1.1)
ROTATION = 0.4  # radians, either way
CONTRAST = 0.32  # at least, of the mean brightness of shape and ground; the shape is the brighter
TEXTURE = 0.3  # how far the second colour of a texture is from the first, at most
NOISE = 0.025  # standard deviation at most, of pixels in [0, 1]
CLUTTER = (0, 2)  # scraps behind the shape
SPECKS = (0, 2)  # scraps before it


def _around(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    """Points at these angles and distances from the middle, [n, 2]."""
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _regular(corners: int) -> np.ndarray:
    return _around(np.arange(corners) * 2 * np.pi / corners, 1.0)


def _star() -> np.ndarray:
    return _around(np.arange(10) * np.pi / 5, np.where(np.arange(10) % 2, 0.45, 1.1))


def _cross() -> np.ndarray:
    long, short = 1.0, 0.33
    corner = [(short, long), (short, short), (long, short)]
    quarter = np.array(corner)
    quarter_turn = np.array([[0, 1], [-1, 0]])
    rotations = [np.linalg.matrix_power(quarter_turn, number) for number in (1, 2, 3)]
    return np.concatenate([quarter, *(quarter @ rotation.T for rotation in rotations)])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    across = 16 * np.sin(t) ** 3
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([across, -up - 2.5], axis=1) / 15.5


def _crescent() -> np.ndarray:
    outer = _around(np.linspace(0.7, 2 * np.pi - 0.7, 50), 1.05)
    # The inner arc runs back between the horns, around a middle that lies further up.
    (x, y), middle = outer[-1], -0.75
    radius = np.hypot(x, y - middle)
    half = np.arctan2(outer[0][0], -(outer[0][1] - middle))
    inner = _around(np.linspace(2 * np.pi - half, half, 50), radius) + np.array([0, middle])
    return np.concatenate([outer, inner[1:-1]]) - [0, 0.1]


def _arrow() -> np.ndarray:
    half = [(0.0, -1.1), (0.8, -0.1), (0.3, -0.1), (0.3, 1.0)]
    return np.array(half + [(-x, y) for x, y in reversed(half[1:])])


OUTLINES: dict[str, Callable[[], np.ndarray]] = {
    "arrow": _arrow,
    "circle": lambda: _regular(60),
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "hexagon": lambda: _regular(6),
    "pentagon": lambda: _regular(5),
    "square": lambda: _regular(4),
    "star": _star,
    "triangle": lambda: _regular(3),
}

SOURCE = Source(
    name="shapes",
    title="Shapes",
    class_names=tuple(OUTLINES),
    mean=(0.43, 0.43, 0.43),
    std=(0.25, 0.25, 0.25),
    advice="nothing is to be done: it is drawn when it is first used",
)


def collect(short_side: int, cache: Path) -> Stored:
    """The drawn images, from the cache or drawn into it; no larger than ``short_side``."""
    key = f"{sha256_of(__file__)} {SEED} {TRAIN_IMAGES} {VAL_IMAGES}"
    side = min(short_side, SIZE)
    folder = caches.folder_for(cache, SOURCE.name, key, side)
    stored = caches.read(folder)
    if stored is None:
        with caches.building(cache, SOURCE.name):
            # Another process may have drawn them while this one waited.
            stored = caches.read(folder)
            if stored is None:
                _build(folder, side)
                stored = caches.read_back(folder)
    return stored


def _build(folder: Path, side: int) -> None:
    total = TRAIN_IMAGES + VAL_IMAGES
    with Writer(folder.parent, SOURCE.name, total) as writer:
        for name, label, part, pixels in bar(_all(), "Drawing Shapes", total):
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            if side < SIZE:
                small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
                pixels = np.asarray(small)
            writer.add(pixels, label, name, digest, part)
        writer.finish(folder)


def _all() -> Iterator[tuple[str, int, int, np.ndarray]]:
    """(name, label, part, pixels) of every image; classes alternate."""
    for part, word, count in ((TRAIN, "train", TRAIN_IMAGES), (VAL, "val", VAL_IMAGES)):
        for number in range(count):
            label = number % len(OUTLINES)
            name = f"{word}/{SOURCE.class_names[label]}/{number:04d}"
            yield name, label, part, draw(SOURCE.class_names[label], (SEED, part, number))


def draw(shape: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """One image of a shape: uint8 RGB [64, 64, 3], the same for the same seed.

    Edges are smooth: outlines are filled at four times the size and averaged down.
    """
    rng = np.random.default_rng(seed)
    ground, figure = rng.random((2, 3))
    while figure.mean() - ground.mean() < CONTRAST:
        ground, figure = rng.random((2, 3))
    ground_too, figure_too = rng.random((2, 3))
    ground_too = ground + TEXTURE * (ground_too - ground)
    figure_too = figure + TEXTURE * (figure_too - figure)
    image = _texture(rng, ground, ground_too)
    for _ in range(int(rng.integers(*CLUTTER, endpoint=True))):
        _fill(image, _scrap(rng), rng.random(3))
    outline = _place(rng, OUTLINES[shape]())
    _fill(image, outline, _texture(rng, figure, figure_too))
    for _ in range(int(rng.integers(*SPECKS, endpoint=True))):
        _fill(image, _scrap(rng), rng.random(3))
    image += rng.normal(0, NOISE * rng.random(), image.shape)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _place(rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """Rotate, stretch, scale and move an outline so that it lies within the image."""
    angle, stretch_angle = ROTATION * (2 * rng.random() - 1), 2 * np.pi * rng.random()
    stretch = np.diag([rng.uniform(*STRETCH), 1.0])
    rotation, tilt = _rotation(angle), _rotation(stretch_angle)
    radius = rng.uniform(*RADIUS) * SIZE
    middle = rng.uniform(radius, SIZE - radius, size=2)
    return outline @ (tilt.T @ stretch @ tilt @ rotation).T * radius + middle


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _scrap(rng: np.random.Generator) -> np.ndarray:
    """A small shapeless quadrilateral: clutter."""
    angles = np.sort(2 * np.pi * rng.random(4))
    points = _around(angles, rng.uniform(0.3, 1.0, size=4)) * rng.uniform(0.04, 0.12) * SIZE
    return points * [rng.uniform(0.3, 1.0), 1.0] @ _rotation(2 * np.pi * rng.random()) + (
        rng.random(2) * SIZE
    )


def _fill(image: np.ndarray, outline: np.ndarray, paint: np.ndarray) -> None:
    """Fill an outline with a colour or a texture, in place."""
    side = SIZE * SUPERSAMPLING
    mask = Image.new("L", (side, side))
    points = np.round(outline * SUPERSAMPLING).astype(int)
    ImageDraw.Draw(mask).polygon([(int(x), int(y)) for x, y in points], fill=255)
    opacity = np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float64)[..., None] / 255
    image += opacity * (paint - image)


def _texture(rng: np.random.Generator, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two colours mixed as plain, gradient, stripes, checks or blots; float [64, 64, 3]."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = 2 * np.pi * rng.random()
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves, phase = rng.uniform(3, 9), 2 * np.pi * rng.random()
    kind = int(rng.integers(5))
    if kind == 0:
        mix = np.full_like(x, rng.random())
    elif kind == 1:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 2:
        mix = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * waves * along + phase))
    elif kind == 3:
        checks = np.sin(2 * np.pi * waves * along + phase) * np.sin(2 * np.pi * waves * across)
        mix = 0.5 + 0.5 * np.tanh(5 * checks)
    else:
        blots = Image.fromarray((rng.random((9, 9)) * 255).astype(np.uint8))
        mix = np.asarray(blots.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) / 255
    return one + mix[..., None] * (other - one)
