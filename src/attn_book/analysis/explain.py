"""What a trained network looks at: its gates, attention maps and Grad-CAM on real images.

Nothing is computed twice: the network runs once, what entered each attention block is recorded,
and the block's own methods (``gate``, ``attention``, ``transforms``, ...) are asked about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from attn_blocks import datasets
from attn_blocks.datasets import ImageDataset
from attn_blocks.errors import SettingError
from attn_blocks.layers import ATTNS
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.plan import Plan
from attn_book.training.checkpoint import load_model

Features = dict[str, tuple[paddle.Tensor, paddle.Tensor]]
CANDIDATES = 64  # validation images among which examples are looked for
BATCH = 16
CAM_SIDE = 4  # pixels
POOLS = (nn.MaxPool2D, nn.AdaptiveAvgPool2D)
# (row, column) as shares of the image: the middle, and points around it.
QUERIES = ((0.5, 0.5), (0.2, 0.2), (0.35, 0.75), (0.8, 0.5))


@contextmanager
def recording(layers: Mapping[str, nn.Layer]) -> Iterator[Features]:
    """Within it, every forward of the layers fills the dict: name -> (first input, output)."""
    seen: Features = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_layer, inputs, output):
            seen[name] = inputs[0], output

        return hook

    handles = [layer.register_forward_post_hook(note(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def attention_blocks(model: nn.Layer) -> dict[str, nn.Layer]:
    """The attention blocks of a network by their names, in the order of the network."""
    kinds = tuple(ATTNS.values())
    return {name: layer for name, layer in model.named_sublayers() if isinstance(layer, kinds)}


def network_input(images: ImageDataset, indices: Sequence[int], recipe: Recipe) -> np.ndarray:
    """Validation images as the network gets them, float32 [B, 3, S, S]."""
    source = datasets.DATASETS[images.name]
    transform = datasets.create_transform(
        recipe.augmentation, recipe.image_size, source.mean, source.std, train=False
    )
    return transform(images.val, np.asarray(indices), np.random.default_rng(0))


def pictures(images: ImageDataset, inputs: np.ndarray) -> np.ndarray:
    """Network inputs with the normalisation undone, for people: float [B, S, S, 3] in 0 to 1."""
    source = datasets.DATASETS[images.name]
    return np.clip(inputs.transpose(0, 2, 3, 1) * source.std + source.mean, 0, 1)


def examples(images: ImageDataset, count: int = CANDIDATES) -> np.ndarray:
    """Indices of ``count`` validation images, evenly spread, so that classes are mixed."""
    total = len(images.val)
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


@paddle.no_grad()
def predict(model: nn.Layer, inputs: np.ndarray) -> np.ndarray:
    """Probabilities [B, classes]."""
    return paddle.nn.functional.softmax(model(paddle.to_tensor(inputs))).numpy()


class Transforms(NamedTuple):
    """What BAT does with an image: matrices [groups, s, s] and the map before and after them.

    ``before`` and ``after`` are the means over a group's channels, [groups, H, W].
    """

    rows: np.ndarray
    columns: np.ndarray
    before: np.ndarray
    after: np.ndarray


class View:
    """One validation image on its way through a trained network.

    Args:
        plan, task: whose validation images.
        run: whose network, with the weights of the last epoch.
        index: which validation image; None for the first that is classified correctly (of
            ``examples``; the very first if there is none).

    Attributes:
        picture: the image as the network sees it, float [S, S, 3] in 0 to 1.
        image: the network's input, float32 [1, 3, S, S].
        index, label, predicted: number of the image, its class and the class it is taken for.
        model: the network in evaluation mode.
        blocks: the attention blocks by name. Where a method takes ``stage``, that is a name of
            ``blocks`` or a number for the first block whose name holds it: 1 for
            ``layer1.0.attn``, 3 for ``b3.2``.
    """

    def __init__(self, plan: Plan, task: str, run: Run, index: int | None = None) -> None:
        images = plan.comparison(task).images
        recipe = run.experiment.recipe
        self.model = load_model(run)
        self.blocks = attention_blocks(self.model)
        if index is None:
            index = _first_correct(self.model, images, recipe)
        if not 0 <= index < len(images.val):
            raise SettingError(f"index={index}: there are {len(images.val)} validation images")
        self.index = int(index)
        self.image = network_input(images, [index], recipe)
        self.picture = pictures(images, self.image)[0]
        with recording(self.blocks) as self._features:
            probabilities = predict(self.model, self.image)
        self.label = images.classes[images.val.labels[index]]
        self.predicted = images.classes[int(probabilities.argmax())]

    def _block(self, stage: int | str, *kinds: str) -> tuple[nn.Layer, paddle.Tensor]:
        """The block and what enters it; an error unless the block is one of ``kinds``."""
        names = [
            name
            for name in self.blocks
            if name == stage or re.search(r"\d+", name)[0] == str(stage)
        ]
        if not names:
            raise SettingError(
                f"no attention block {stage!r}; choose one of: {', '.join(self.blocks) or 'none'}"
            )
        layer = self.blocks[names[0]]
        if kinds and not isinstance(layer, tuple(ATTNS[kind] for kind in kinds)):
            raise SettingError(
                f"{names[0]} is a {type(layer).__name__}; this view is of "
                f"{' or '.join(ATTNS[kind].__name__ for kind in kinds)}"
            )
        return layer, self._features[names[0]][0]

    @paddle.no_grad()
    def channel_gates(self) -> dict[str, np.ndarray]:
        """SE, GE, SRM: block -> the gate of each channel, [C]."""
        return {name: _mean_gate(*self._block(name, "se", "ge", "srm"))[0] for name in self.blocks}

    @paddle.no_grad()
    def pixel_gates(self, stage: int | str, count: int = 7) -> dict[str, np.ndarray]:
        """SE without squeeze and local GE: channel -> its gate at each pixel, [H, W].

        The ``count`` channels whose gates differ most over the image come first.
        """
        layer, x = self._block(stage, "se", "ge")
        return _most_varied("channel", layer.gate(x)[0].numpy(), count)

    @paddle.no_grad()
    def group_gates(self, stage: int | str, count: int = 7) -> dict[str, np.ndarray]:
        """SGE: group -> its gate at each pixel, [H, W]; the ``count`` that differ most."""
        layer, x = self._block(stage, "sge")
        return _most_varied("group", layer.attention(x)[0].numpy(), count)

    @paddle.no_grad()
    def shuffle_gates(
        self, stage: int | str, count: int = 7
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """SA: the gates of the channel halves, [C/2], and channel -> gate map of the others."""
        layer, x = self._block(stage, "sa")
        x0, x1 = _halves(layer, x)
        spatial = layer.spatial_gate(x1).numpy().reshape([-1, *x.shape[2:]])
        return layer.channel_gate(x0).numpy().ravel(), _most_varied("channel", spatial, count)

    @paddle.no_grad()
    def query_attention(
        self, stage: int | str, queries: Sequence[tuple[float, float]] = QUERIES
    ) -> dict[tuple[float, float], np.ndarray]:
        """NL: where the pixels at ``queries`` look: (row, column) -> weights [H, W].

        Rows and columns are shares of the image; those returned are the middles of the pixels.
        """
        layer, x = self._block(stage, "nl")
        maps = _attention_maps(layer, x)
        height, width = maps.shape[:2]
        pixels = [(int(row * height), int(column * width)) for row, column in queries]
        return {((i + 0.5) / height, (j + 0.5) / width): maps[i, j] for i, j in pixels}

    @paddle.no_grad()
    def query_correlation(self, stage: int | str) -> float:
        """NL: mean correlation between the attention maps of all pairs of pixels.

        1 if all pixels look at the same place, the finding behind GC; NaN if no map varies.
        """
        layer, x = self._block(stage, "nl")
        maps = _attention_maps(layer, x)
        maps = maps.reshape(maps.shape[0] * maps.shape[1], -1).astype(np.float64)
        maps = maps[np.ptp(maps, axis=1) > 0]
        if len(maps) < 2:
            return float("nan")
        correlation = np.corrcoef(maps)
        return float(correlation[~np.eye(len(maps), dtype=bool)].mean())

    @paddle.no_grad()
    def context_map(self, stage: int | str) -> np.ndarray:
        """GC: the weight of each pixel in the one context vector, [H, W]; they sum to 1."""
        layer, x = self._block(stage, "gc")
        return layer.attention(x)[0, 0].numpy()

    @paddle.no_grad()
    def transforms(self, stage: int | str) -> Transforms:
        """BAT: the matrices that mix rows and columns, and the map before and after."""
        layer, x = self._block(stage, "bat")
        # What enters conv2 of the inner transform is the product of the matrices and the map.
        with recording({"before": layer.transform, "after": layer.transform.conv2}) as seen:
            layer(x)
        groups = layer.transform.groups
        before, after = (
            seen[name][0].reshape([groups, -1, *x.shape[2:]]).mean(axis=1).numpy()
            for name in ("before", "after")
        )
        rows, columns = (matrix[0].numpy() for matrix in layer.transforms(x))
        return Transforms(rows, columns, before, after)

    def block_parameters(self, *names: str) -> dict[str, dict[str, np.ndarray]]:
        """Parameter -> block -> its values; of the blocks' parameters ``names``, or of all."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for block, layer in self.blocks.items():
            for name, parameter in layer.named_parameters():
                if not names or name in names:
                    found.setdefault(name, {})[block] = parameter.numpy().ravel()
        missing = set(names) - found.keys()
        if missing:
            raise SettingError(f"no block has a parameter {', '.join(sorted(missing))}")
        return found

    @paddle.no_grad()
    def walk(self, stage: int | str) -> dict[str, np.ndarray]:
        """The image on its way through one block, step by step.

        Returns:
            What is seen -> an image [S, S, 3], a map [H, W] or a value for each channel, [C].
            Feature maps are shown by their mean magnitude over the channels.
        """
        layer, x = self._block(stage)
        kind = next(name for name, cls in ATTNS.items() if isinstance(layer, cls))
        inner = INNER[kind](layer, x) if kind in INNER else {}
        return {
            f"image: {self.label}": self.picture,
            "input": x[0].abs().mean(axis=0).numpy(),
            **{title: _as_map_or_profile(value) for title, value in inner.items()},
            "output": layer(x)[0].abs().mean(axis=0).numpy(),
        }


def channel_gates_by_class(
    plan: Plan, task: str, run: Run, images: int = CANDIDATES
) -> dict[str, dict[str, np.ndarray]]:
    """SE, GE, SRM: block -> class -> the mean gate of each channel, [C] (SE paper, figure 6).

    Args:
        images: how many validation images, evenly spread, the means are over.
    """
    data = plan.comparison(task).images
    model = load_model(run)
    blocks = attention_blocks(model)
    indices = examples(data, images)
    labels = np.asarray(data.val.labels)[indices]
    gates: dict[str, list[np.ndarray]] = {name: [] for name in blocks}
    for start in range(0, len(indices), BATCH):
        inputs = network_input(data, indices[start : start + BATCH], run.experiment.recipe)
        with recording(blocks) as seen, paddle.no_grad():
            model(paddle.to_tensor(inputs))
            for name, layer in blocks.items():
                gates[name].append(_mean_gate(layer, seen[name][0]))
    return {
        name: {
            data.classes[label]: np.concatenate(parts)[labels == label].mean(axis=0)
            for label in np.unique(labels)
        }
        for name, parts in gates.items()
    }


class Evidence(NamedTuple):
    """Grad-CAM of several networks on one image.

    Attributes:
        picture: float [S, S, 3].
        label: the true class, whose evidence is shown.
        maps: model title -> map [h, w], at least 0.
        probabilities: model title -> probability of the true class.
    """

    picture: np.ndarray
    label: str
    maps: dict[str, np.ndarray]
    probabilities: dict[str, float]


def grad_cam(model: nn.Layer, inputs: np.ndarray, labels: Sequence[int]) -> np.ndarray:
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
) -> list[Evidence]:
    """Grad-CAM of each model's first run on the same validation images, of different classes.

    Images that all models classify correctly come first: there the true class is also the
    decision.
    """
    data = plan.comparison(task).images
    first = {title: title_runs[0] for title, title_runs in runs.items() if title_runs}
    if not first:
        raise SettingError(f"no run of {plan.page} on {task} is finished; train first")
    models = {title: load_model(run) for title, run in first.items()}
    recipe = next(iter(first.values())).experiment.recipe
    chosen = _of_different_classes(list(models.values()), data, recipe, images)
    inputs = network_input(data, chosen, recipe)
    labels = np.asarray(data.val.labels)[chosen]
    maps = {title: grad_cam(model, inputs, labels) for title, model in models.items()}
    shares = {title: predict(model, inputs) for title, model in models.items()}
    return [
        Evidence(
            picture,
            data.classes[label],
            {title: values[i] for title, values in maps.items()},
            {title: float(values[i, label]) for title, values in shares.items()},
        )
        for i, (picture, label) in enumerate(zip(pictures(data, inputs), labels, strict=True))
    ]


def _of_different_classes(
    models: Sequence[nn.Layer], data: ImageDataset, recipe: Recipe, count: int
) -> list[int]:
    candidates = examples(data)
    labels = np.asarray(data.val.labels)[candidates]
    right = np.ones(len(candidates), dtype=int)
    for start in range(0, len(candidates), BATCH):
        part = slice(start, start + BATCH)
        inputs = network_input(data, candidates[part], recipe)
        for model in models:
            right[part] += predict(model, inputs).argmax(axis=1) == labels[part]
    # The best image of each class; then the classes whose image most models get right.
    best = [max(np.flatnonzero(labels == c), key=lambda i: right[i]) for c in np.unique(labels)]
    best.sort(key=lambda i: -right[i])
    return [int(candidates[i]) for i in best[:count]]


def _first_correct(model: nn.Layer, images: ImageDataset, recipe: Recipe) -> int:
    indices = examples(images)
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        predicted = predict(model, network_input(images, part, recipe)).argmax(axis=1)
        correct = part[predicted == np.asarray(images.val.labels)[part]]
        if len(correct):
            return int(correct[0])
    return int(indices[0])


def _mean_gate(layer: nn.Layer, x: paddle.Tensor) -> np.ndarray:
    """[N, C]: a gate per pixel counts by its mean."""
    return layer.gate(x).mean(axis=[2, 3]).numpy()


def _halves(layer: nn.Layer, x: paddle.Tensor) -> list[paddle.Tensor]:
    """SA's groups in two: what is gated by channel and what by pixel."""
    return x.reshape([-1, layer.channels // layer.groups, *x.shape[2:]]).split(2, axis=1)


def _attention_maps(layer: nn.Layer, x: paddle.Tensor) -> np.ndarray:
    """NL's weights as [rows, columns, key rows, key columns]; pooled keys are half as many."""
    height, width = x.shape[2:]
    weights = layer.attention(x)[0].numpy()
    keys = (height, width) if weights.shape[1] == height * width else (height // 2, width // 2)
    return weights.reshape(height, width, *keys)


def _most_varied(word: str, maps: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """The ``count`` maps of [n, H, W] with the largest deviation over the pixels, by number."""
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:count]
    return {f"{word} {i}": maps[i] for i in order}


def _as_map_or_profile(value: paddle.Tensor) -> np.ndarray:
    """[N, C, 1, 1] or [N, C] -> [C]; [N, C, H, W] -> the mean over C, [H, W]; N is 1 or groups."""
    value = value.numpy()
    value = value.reshape(-1, *value.shape[2:])
    if value.ndim == 1 or value.shape[1:] == (1, 1):
        return value.ravel()
    return value.mean(axis=0)


def _middle_query(layer: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    maps = _attention_maps(layer, x)
    return paddle.to_tensor(maps[maps.shape[0] // 2, maps.shape[1] // 2][None, None])


# What the walk shows between input and output: the block's own methods, asked about its input.
INNER: dict[str, Callable[[nn.Layer, paddle.Tensor], dict[str, paddle.Tensor]]] = {
    "se": lambda layer, x: {"gate": layer.gate(x)},
    "ge": lambda layer, x: {"gathered": layer.gather(x), "gate": layer.gate(x)},
    "srm": lambda layer, x: {
        **dict(zip(("mean", "deviation"), layer.style(x), strict=True)),
        "gate": layer.gate(x),
    },
    "sge": lambda layer, x: {"gate, mean over groups": layer.attention(x)},
    "sa": lambda layer, x: {
        "channel gate": layer.channel_gate(_halves(layer, x)[0]),
        "pixel gate, mean": layer.spatial_gate(_halves(layer, x)[1]),
    },
    "nl": lambda layer, x: {"attention of the middle": _middle_query(layer, x)},
    "gc": lambda layer, x: {"attention": layer.attention(x), "context": layer.context(x)},
    "bat": lambda layer, x: dict(
        zip(("P, mean over groups", "Q, mean over groups"), layer.transforms(x), strict=True)
    ),
}
