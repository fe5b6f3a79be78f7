"""Faults of evaluation: what a trained network gets right when its images are seen wrongly.

``records.faults`` has their names, and ``make publish`` keeps what is measured here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
from paddle import nn

from attn_blocks import datasets
from attn_blocks.errors import choose
from attn_book.records.faults import (
    AS_TRAINED,
    BATCH_OF_ONE,
    FAULTS,
    NOT_NORMALISED,
    REVERSED,
    SQUEEZED,
)
from attn_book.study.experiment import Recipe
from attn_book.training.build import Training, prepare
from attn_book.training.compute import Compute
from attn_book.training.loop import evaluate

NORMS = (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D)


class ReversedChannels(datasets.Images):
    """Images whose channels are read in reverse order: blue where the network expects red."""

    def __getitem__(self, index: int) -> np.ndarray:
        return super().__getitem__(index)[:, :, ::-1]


class BatchStatistics(nn.Layer):
    """A network whose batch norms stay in training mode when it is put into evaluation mode."""

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The network's output."""
        return self.model(x)

    def eval(self) -> None:
        """All layers but the batch norms into evaluation mode."""
        self.model.eval()
        for layer in self.model.sublayers(include_self=True):
            if isinstance(layer, NORMS):
                layer.train()


def logits_under(
    fault: str,
    model: nn.Layer,
    images: datasets.ImageDataset,
    recipe: Recipe,
    compute: Compute | None = None,
) -> np.ndarray:
    """What a network says of the validation images under a fault, [N, classes].

    Args:
        fault: one of ``records.faults.FAULTS``, or ``AS_TRAINED`` for none.
        model: as ``checkpoint.load_model`` gives it; its weights and statistics stay as they are.
        images, recipe: those that it was trained with.
        compute: see ``training.build.prepare``.

    Raises:
        SettingError: there is no such fault.
    """
    choose("fault", fault, (AS_TRAINED, *FAULTS))
    network = model
    if fault == REVERSED:
        images = replace(images, val=ReversedChannels(**vars(images.val)))
    elif fault == SQUEEZED:
        recipe = replace(recipe, augmentation="rotate")  # whose evaluation squeezes, and no more
    elif fault == BATCH_OF_ONE:
        recipe, network = replace(recipe, batch_size=1), BatchStatistics(model)
    training = prepare(network, images, recipe, compute=compute)
    if fault == NOT_NORMALISED:
        training = replace(training, validation_loader=_raw(training, recipe))
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    try:
        return evaluate(training)[1]
    finally:
        model.set_state_dict(before)  # batch norms in training mode go on collecting statistics
        model.eval()


def _raw(training: Training, recipe: Recipe) -> datasets.Loader:
    """The validation images with pixels from 0 to 1, as they are before they are normalised."""
    transform = datasets.create_transform(
        recipe.augmentation, recipe.image_size, mean=(0, 0, 0), std=(1, 1, 1), train=False
    )
    return datasets.Loader(training.validation_loader.images, recipe.batch_size, transform)


def measure(
    model: nn.Layer,
    images: datasets.ImageDataset,
    recipe: Recipe,
    compute: Compute | None = None,
) -> dict[str, int]:
    """How many validation images a network gets right as it was trained, and under each fault.

    Arguments are those of ``logits_under``.
    """
    logits = {
        fault: logits_under(fault, model, images, recipe, compute)
        for fault in (AS_TRAINED, *FAULTS)
    }
    return {
        fault: int((found.argmax(axis=1) == images.val.labels).sum())
        for fault, found in logits.items()
    }
