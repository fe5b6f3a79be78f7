"""Did the blocks learn, and what do their decisions do? Measured on a network that was trained.

A block's *modulation* is what it does to its input beyond passing it on: a factor y / x where it
multiplies (SE, GE, SRM, SGE, SA), a summand y - x where it adds (NL, GC, BAT, and any block that
is not known here). SENet's block on CIFAR-10 has both. SA shuffles the channels of its input, so
that its factor is y / shuffle(x).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from attn_blocks.layers import ATTNS
from attn_blocks.layers.ge import GatherExcite
from attn_blocks.layers.sa import ShuffleAttention
from attn_blocks.layers.se import SqueezeExcite
from attn_blocks.layers.sge import SpatialGroupEnhance
from attn_blocks.layers.srm import StyleRecalibration
from attn_blocks.models.resnet import Scale
from attn_book.training.build import Training
from attn_book.training.loop import evaluate

PLACE = re.compile(r"(^|\.)(attn|nl\d+)$")  # in a residual block, and between two
MULTIPLY = (GatherExcite, StyleRecalibration, SpatialGroupEnhance, ShuffleAttention, Scale)
DIGITS = 6


def attention_blocks(model: nn.Layer) -> dict[str, nn.Layer]:
    """The attention blocks of a network by their names, in the order of the network.

    Those of a registered class, and those of any class where the book's networks have them.
    """
    kinds = tuple(ATTNS.values())
    return {
        name: layer
        for name, layer in model.named_sublayers()
        if isinstance(layer, kinds) or (PLACE.search(name) and not isinstance(layer, nn.Identity))
    }


def block_report(training: Training, start: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a run's metrics say of its blocks; empty for a network without any.

    Args:
        training: with its trained network.
        start: the network's initial values, by name.

    Returns:
        ``blocks``: for each its ``parameters`` (root mean squares of each at the ``start`` and the
        ``end`` of training, and of what it ``moved``), and its ``factor`` and ``summand``, where it
        has one: their ``mean``, and the standard deviation over ``images`` and over the means of
        ``classes``, each a root mean square over channels and pixels; ``input``, the root mean
        square of what a summand is added to.
        ``frozen``: the validation ``accuracy`` with every modulation replaced by its mean over the
        validation images, and the share of the predictions that this ``changed``.
    """
    blocks = attention_blocks(training.model)
    if not blocks:
        return {}
    labels = np.asarray(training.validation_loader.images.labels)
    with _hooked(blocks, {name: Seen(labels, training.classes) for name in blocks}) as seen:
        _, logits = evaluate(training)
    with _hooked(blocks, {name: Frozen(each) for name, each in seen.items()}):
        _, frozen = evaluate(training)
    predicted = frozen.argmax(axis=1)
    return {
        "blocks": {
            name: {"parameters": _movement(name, block, start), **seen[name].spread()}
            for name, block in blocks.items()
        },
        "frozen": {
            "accuracy": float((predicted == labels).mean()),
            "changed": float((predicted != logits.argmax(axis=1)).mean()),
        },
    }


def modulation(
    layer: nn.Layer, x: paddle.Tensor, y: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor | None, paddle.Tensor | None]:
    """How a block turns x into y: (passed on, factor, summand), y = passed on * factor + summand.

    Args:
        layer: the block.
        x, y: its input and output, [N, C, H, W].

    Returns:
        What it passes on, [N, C, H, W]; what that is multiplied with, and what is added to it, in
        shapes that broadcast to it; None for neither. A factor is not a number where x is 0.
    """
    if isinstance(layer, SqueezeExcite):
        return x, *layer.excite(x)
    if isinstance(layer, MULTIPLY):
        passed = layer.shuffle(x) if isinstance(layer, ShuffleAttention) else x
        return passed, y / passed, None
    return x, None, y - x


class Seen:
    """Collects the modulations of one block over the validation images, in their stored order."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        self.labels, self.classes, self.done = labels, classes, 0
        self.sums: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.input_squares = 0.0

    def hook(self, layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], y: paddle.Tensor) -> None:
        """After the block's forward."""
        passed, factor, summand = modulation(layer, inputs[0], y)
        labels = self.labels[self.done : self.done + len(y)]
        self.done += len(y)
        self.input_squares += float(passed.square().mean()) * len(y)
        for name, value in (("factor", factor), ("summand", summand)):
            if value is not None:
                self._add(name, value.numpy().astype(float), labels)

    def _add(self, name: str, values: np.ndarray, labels: np.ndarray) -> None:
        """Add up counts, values and squares, each by class: [classes, C, H, W]."""
        there = np.isfinite(values)
        values = np.where(there, values, 0.0)
        shape = (self.classes, *values.shape[1:])
        totals = self.sums.setdefault(name, (np.zeros(shape), np.zeros(shape), np.zeros(shape)))
        of_class = np.eye(self.classes)[labels].T  # [classes, N]
        for total, part in zip(totals, (there, values, values**2), strict=True):
            total += (of_class @ part.reshape(len(labels), -1)).reshape(shape)

    def mean(self, name: str, nothing: float) -> np.ndarray | None:
        """The mean over the images, [C, H, W]; ``nothing`` where there was no value."""
        if name not in self.sums:
            return None
        count, total, _ = (part.sum(axis=0) for part in self.sums[name])
        return np.where(count > 0, total / np.maximum(count, 1), nothing)

    def spread(self) -> dict[str, Any]:
        """See ``block_report``."""
        found: dict[str, Any] = {"input": _rounded(np.sqrt(self.input_squares / self.done))}
        for name, (counts, totals, squares) in self.sums.items():
            count, total, square = (part.sum(axis=0) for part in (counts, totals, squares))
            mean = total / np.maximum(count, 1)
            variance = square / np.maximum(count, 1) - mean**2
            of_classes = np.where(counts > 0, totals / np.maximum(counts, 1), mean)
            between = ((of_classes - mean) ** 2).mean(axis=0)
            found[name] = {
                "mean": _rounded(mean.mean()),
                "images": _rounded(np.sqrt(np.maximum(variance, 0).mean())),
                "classes": _rounded(np.sqrt(between.mean())),
            }
        return found


class Frozen:
    """Puts a block's mean modulation in place of what it does to each image."""

    def __init__(self, seen: Seen) -> None:
        self.factor, self.summand = (
            None if mean is None else paddle.to_tensor(mean.astype("float32"))
            for mean in (seen.mean("factor", 1.0), seen.mean("summand", 0.0))
        )

    def hook(
        self, layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], y: paddle.Tensor
    ) -> paddle.Tensor:
        """In place of the block's output."""
        z = layer.shuffle(inputs[0]) if isinstance(layer, ShuffleAttention) else inputs[0]
        z = z if self.factor is None else z * self.factor
        return z if self.summand is None else z + self.summand


@contextmanager
def _hooked(blocks: Mapping[str, nn.Layer], by: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    handles = [layer.register_forward_post_hook(by[name].hook) for name, layer in blocks.items()]
    try:
        yield by
    finally:
        for handle in handles:
            handle.remove()


def _movement(
    name: str, block: nn.Layer, start: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Root mean squares of each parameter that is trained, see ``block_report``."""
    return {
        parameter: {
            "start": _rms(start[f"{name}.{parameter}"]),
            "end": _rms(value.numpy()),
            "moved": _rms(value.numpy() - start[f"{name}.{parameter}"]),
        }
        for parameter, value in block.named_parameters()
        if not value.stop_gradient
    }


def _rms(values: np.ndarray) -> float:
    return _rounded(np.sqrt(np.mean(np.square(values, dtype=float))))


def _rounded(value: float) -> float:
    """To six significant digits: more would only be other processors' rounding."""
    return float(f"{value:.{DIGITS}g}")
