"""Grad-CAM: which places of an image speak for a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from attn_blocks.datasets import ImageDataset
from attn_blocks.errors import SettingError
from attn_book.analysis.explain.probes import (
    batches,
    examples,
    images_of,
    network_input,
    pictures,
    predict,
    recording,
)
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.plan import Plan
from attn_book.training.checkpoint import load_model, weights_path

CAM_SIDE = 4  # pixels
POOLS = (nn.MaxPool2D, nn.AdaptiveAvgPool2D)


class SeenImage(NamedTuple):
    """Grad-CAM of several networks on one image.

    Attributes:
        picture: float [S, S, 3].
        label: the true class, whose evidence is shown.
        maps: model title -> map [h, w], at least 0.
        probabilities: model title -> probability of the true class.
        right: titles of the models that take the image for the true class.
    """

    picture: np.ndarray
    label: str
    maps: dict[str, np.ndarray]
    probabilities: dict[str, float]
    right: frozenset[str] = frozenset()


def grad_cam(model: nn.Layer, inputs: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of the classes ``labels``, [B, h, w].

    Of the last map that enters a pooling and has at least ``CAM_SIDE`` pixels a side; where there
    is none, of the one that enters the last pooling. It is most networks' final map, but
    SA-Residual-Inception's has a single pixel, which says nothing of places. The score that is
    differentiated is the network's output: a logit, or SENet's log-probability.
    """
    pools = {name: layer for name, layer in model.named_sublayers() if isinstance(layer, POOLS)}
    with recording(pools) as seen:
        scores = model(paddle.to_tensor(inputs))
    maps = [entering for entering, _ in seen.values()]
    features = ([m for m in maps if min(m.shape[2:]) >= CAM_SIDE] or maps)[-1]
    chosen = scores[paddle.arange(len(labels)), paddle.to_tensor(np.asarray(labels))]
    (gradient,) = paddle.grad(chosen.sum(), features)
    weights = gradient.mean(axis=[2, 3], keepdim=True)
    return paddle.nn.functional.relu((weights * features).sum(axis=1)).numpy()


def grad_cams(
    plan: Plan, task: str, runs: Mapping[str, Sequence[Run]], images: int = 3
) -> list[SeenImage]:
    """Grad-CAM of each model's first run on the same validation images, of different classes.

    Images that all models classify correctly come first: there the true class is also the
    decision. Left out are models without weights here, such as those that are too large to be
    published, and those that were trained on these images: the first model's fold decides.

    Raises:
        SettingError: no run is finished, or none has its weights here.
    """
    shown = _of_one_fold(plan, task, runs)
    models = {title: load_model(run) for title, run in shown.items()}
    first = next(iter(shown.values()))
    data, recipe = images_of(plan, task, first), first.experiment.recipe
    chosen = _of_different_classes(list(models.values()), data, recipe, images)
    inputs = network_input(data, chosen, recipe)
    labels = np.asarray(data.val.labels)[chosen]
    maps = {title: grad_cam(model, inputs, labels) for title, model in models.items()}
    shares = {title: predict(model, inputs) for title, model in models.items()}
    drawn = pictures(data.name, inputs, recipe)
    return [
        SeenImage(
            picture,
            data.classes[label],
            {title: values[i] for title, values in maps.items()},
            {title: float(values[i, label]) for title, values in shares.items()},
            frozenset(t for t, values in shares.items() if values[i].argmax() == label),
        )
        for i, (picture, label) in enumerate(zip(drawn, labels, strict=True))
    ]


def _of_one_fold(plan: Plan, task: str, runs: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """Title -> its first run with weights here that is of the first such model's fold."""
    if not any(runs.values()):
        raise SettingError(f"no run of {plan.page} on {task} is finished; train first")
    there = {title: [run for run in of if weights_path(run)] for title, of in runs.items()}
    first = next((run for of in there.values() for run in of), None)
    if first is None:
        raise SettingError(
            f"no run of {plan.page} on {task} has its weights here, and none are published; train "
            "here with FRESH=1"
        )
    fold = first.experiment.fold
    found = {t: next((r for r in of if r.experiment.fold == fold), None) for t, of in there.items()}
    return {title: run for title, run in found.items() if run is not None}


def _of_different_classes(
    models: Sequence[nn.Layer], data: ImageDataset, recipe: Recipe, count: int
) -> list[int]:
    candidates = examples(data)
    labels = np.asarray(data.val.labels)[candidates]
    inputs = [inputs for _part, inputs in batches(data, candidates, recipe)]
    right = np.ones(len(candidates), dtype=int)
    for model in models:
        predicted = np.concatenate([predict(model, batch).argmax(axis=1) for batch in inputs])
        right += predicted == labels
    # The best image of each class; then the classes whose image most models get right.
    best = [max(np.flatnonzero(labels == c), key=lambda i: right[i]) for c in np.unique(labels)]
    best.sort(key=lambda i: -right[i])
    return [int(candidates[i]) for i in best[:count]]
