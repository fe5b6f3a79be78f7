"""What goes into a trained network, and what is recorded within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from attn_blocks import datasets
from attn_blocks.datasets import ImageDataset
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.plan import Plan, load_images
from attn_book.training.build import channel_statistics

Features = dict[str, tuple[paddle.Tensor, paddle.Tensor]]
CANDIDATES = 64  # validation images among which examples are looked for
BATCH = 16


@contextmanager
def recording(layers: Mapping[str, nn.Layer]) -> Iterator[Features]:
    """Within it, every forward of the layers fills the dict: name -> (first input, output)."""
    seen: Features = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor) -> None:
            seen[name] = inputs[0], output

        return hook

    handles = [layer.register_forward_post_hook(note(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def images_of(plan: Plan, task: str, run: Run) -> ImageDataset:
    """A page's images with the validation images of the run's own fold, which it has never seen.

    A page has those of fold 0, and the first finished run may be of another.
    """
    planned, fold = plan.comparison(task), run.experiment.fold
    if fold == 0:
        return planned.loaded
    return load_images(planned.images.name, planned.recipe, plan.data_dir, fold)


def network_input(
    images: ImageDataset, indices: Sequence[int] | np.ndarray, recipe: Recipe
) -> np.ndarray:
    """Validation images as the network gets them, float32 [B, 3, S, S]."""
    mean, std = channel_statistics(images.name, recipe)
    transform = datasets.create_transform(
        recipe.augmentation, recipe.image_size, mean, std, train=False
    )
    return transform(images.val, np.asarray(indices), np.random.default_rng(0))


def batches(
    images: ImageDataset, indices: np.ndarray, recipe: Recipe
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(indices, network inputs) of at most ``BATCH`` validation images at a time."""
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        yield part, network_input(images, part, recipe)


def pictures(dataset: str, inputs: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Network inputs with the normalisation undone, for people: float [B, S, S, 3] in 0 to 1."""
    mean, std = channel_statistics(dataset, recipe)
    return np.clip(inputs.transpose(0, 2, 3, 1) * std + mean, 0, 1)


def examples(images: ImageDataset, count: int = CANDIDATES) -> np.ndarray:
    """Indices of ``count`` validation images, evenly spread, so that classes are mixed."""
    total = len(images.val)
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


@paddle.no_grad()
def predict(model: nn.Layer, inputs: np.ndarray) -> np.ndarray:
    """Probabilities [B, classes]."""
    return paddle.nn.functional.softmax(model(paddle.to_tensor(inputs))).numpy()


def mean_correlation(maps: np.ndarray) -> float:
    """The mean correlation of all pairs of maps, [n, ...]; NaN if fewer than two maps vary."""
    pairs = pair_correlations(maps)
    return float(pairs.mean()) if pairs.size else float("nan")


def pair_correlations(maps: np.ndarray) -> np.ndarray:
    """The correlation of each pair of maps, [n, ...], that vary; [pairs]."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    flat = flat[np.ptp(flat, axis=1) > 0]
    if len(flat) < 2:
        return np.zeros(0)
    return np.corrcoef(flat)[np.triu_indices(len(flat), 1)]
