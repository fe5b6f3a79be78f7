"""``attn-book predict``: what a run's weights see in images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle

from attn_blocks import datasets
from attn_blocks.datasets.decode import decode_files
from attn_blocks.device import select_device
from attn_blocks.errors import CheckpointError, DataError, SettingError
from attn_book.records.run import WEIGHTS, Run
from attn_book.training.checkpoint import load_model

BATCH = 32


def predict(
    images: Sequence[str | Path], weights: str | Path, top: int = 1
) -> dict[str, list[tuple[str, float]]]:
    """Classify images as the run's validation images were: decoded, cropped and scaled alike.

    Args:
        images: files in any format that ``datasets`` reads.
        weights: a run's folder, of which the last weights are taken, or a weights file in it; the
            folder's ``experiment.json`` says what network they belong to, and its classes.
        top: how many classes are given for an image, the likeliest first.

    Returns:
        Image -> classes with their probability, the network's softmax, in [0, 1].

    Raises:
        CheckpointError: no weights, or weights that do not fit the network.
        DataError: an image that cannot be read.
        SettingError: ``top`` is below 1.
    """
    if top < 1:
        raise SettingError(f"top is {top}; at least one class is shown")
    run, which = _run_of(Path(weights))
    select_device()
    model = load_model(run, which)
    pixels = _pixels([str(image) for image in images], run)
    parts = []
    with paddle.no_grad():
        for start in range(0, len(pixels), BATCH):
            logits = model(paddle.to_tensor(pixels[start : start + BATCH]))
            parts.append(paddle.nn.functional.softmax(logits).numpy())
    found = {}
    for image, probabilities in zip(images, np.concatenate(parts), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:top]
        found[str(image)] = [(run.classes[label], float(probabilities[label])) for label in best]
    return found


def _run_of(weights: Path) -> tuple[Run, str]:
    """The run that weights belong to, and which of its weights they are."""
    folder, name = (weights, WEIGHTS[1]) if weights.is_dir() else (weights.parent, weights.name)
    if name not in WEIGHTS or not (folder / "experiment.json").exists():
        raise CheckpointError(
            f"{weights} is no run's folder, and no {' or '.join(WEIGHTS)} in one; beside the "
            "weights must lie the run's experiment.json, which says what network they belong to"
        )
    return Run(folder), Path(name).stem


def _pixels(images: Sequence[str], run: Run) -> np.ndarray:
    """The images as the network takes them, float32 [N, 3, S, S]."""
    recipe, source = run.experiment.recipe, datasets.DATASETS[run.experiment.dataset]
    decoded = list(decode_files(images, recipe.stored_side))
    unread = [
        f"{image}: {outcome.reason}"
        for image, outcome in zip(images, decoded, strict=True)
        if outcome.pixels is None
    ]
    if unread:
        raise DataError("; ".join(unread))
    transform = datasets.create_transform(
        recipe.augmentation, recipe.image_size, source.mean, source.std, train=False
    )
    whole = [outcome.pixels for outcome in decoded if outcome.pixels is not None]
    ends = np.cumsum([image.size for image in whole])
    stored = datasets.Images(
        pixels=np.concatenate([image.ravel() for image in whole]),
        offsets=ends - [image.size for image in whole],
        sizes=np.array([image.shape[:2] for image in whole]),
        labels=np.zeros(len(whole), dtype=np.int64),  # not known, and not used
    )
    return transform(stored, np.arange(len(whole)), np.random.default_rng(0))
