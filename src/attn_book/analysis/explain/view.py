"""One image on its way through a trained network: gates, attention maps, matrices.

Nothing is computed twice: the network runs once, what entered each attention block is recorded,
and the block's own methods (``gate``, ``attention``, ``transforms``, ...) are asked about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    mean_correlation,
    network_input,
    pictures,
    predict,
    recording,
)
from attn_book.language import N_
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.plan import Plan
from attn_book.training.checkpoint import load_model
from attn_book.training.modulation import attention_blocks

# (row, column) as shares of the image: the middle, and points around it.
QUERIES = ((0.5, 0.5), (0.2, 0.2), (0.35, 0.75), (0.8, 0.5))
IMAGE = "image: "  # and its label: the first step of a walk
# Forms of attention: NL's, GC's and SGE's.
A_PIXEL, ONE, A_GROUP = "a map for each pixel", "one map for all pixels", "a map for each group"


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
        plan, task: whose validation images, of the run's fold.
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
        images = images_of(plan, task, run)
        recipe = run.experiment.recipe
        self.model = load_model(run)
        self.blocks = attention_blocks(self.model)
        if index is None:
            index = _first_correct(self.model, images, recipe)
        if not 0 <= index < len(images.val):
            raise SettingError(f"index={index}: there are {len(images.val)} validation images")
        self.index = int(index)
        self.image = network_input(images, [index], recipe)
        self.picture = pictures(images.name, self.image, recipe)[0]
        with recording(self.blocks) as self._features:
            probabilities = predict(self.model, self.image)
        self.label = images.classes[images.val.labels[index]]
        self.predicted = images.classes[int(probabilities.argmax())]

    def _block(self, stage: int | str, *methods: str) -> tuple[nn.Layer, paddle.Tensor]:
        """The block and what enters it; an error unless the block has those methods."""
        wanted = str(stage)
        names = [n for n in self.blocks if n == wanted or re.findall(r"\d+", n)[:1] == [wanted]]
        if not names:
            raise SettingError(
                f"no attention block {stage!r}; choose one of: {', '.join(self.blocks) or 'none'}"
            )
        _check_methods(names[0], self.blocks[names[0]], *methods)
        return self.blocks[names[0]], self._features[names[0]][0]

    def _attention(self, stage: int | str, *forms: str) -> tuple[paddle.Tensor, paddle.Tensor]:
        """A block's attention and what enters it; an error unless it has one of those forms."""
        layer, x = self._block(stage, "attention")
        attention = layer.attention(x)
        _check_form(layer, attention, *forms)
        return attention, x

    @paddle.no_grad()
    def channel_gates(self) -> dict[str, np.ndarray]:
        """Blocks with a ``gate`` (SE, GE, SRM): block -> the gate of each channel, [C]."""
        return {name: _mean_gate(*self._block(name, "gate"))[0] for name in self.blocks}

    @paddle.no_grad()
    def pixel_gates(self, stage: int | str, count: int = 7) -> dict[str, np.ndarray]:
        """A ``gate`` of each pixel (SE without squeeze, local GE): channel -> its gate, [H, W].

        The ``count`` channels whose gates differ most over the image come first. A gate of the
        whole channel is a map of one pixel.
        """
        layer, x = self._block(stage, "gate")
        return _most_varied("channel", layer.gate(x)[0].numpy(), count)

    @paddle.no_grad()
    def group_gates(self, stage: int | str, count: int = 7) -> dict[str, np.ndarray]:
        """SGE: group -> its gate at each pixel, [H, W]; the ``count`` that differ most."""
        attention, _ = self._attention(stage, A_GROUP, ONE)
        return _most_varied("group", attention[0].numpy(), count)

    @paddle.no_grad()
    def shuffle_gates(
        self, stage: int | str, count: int = 7
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """SA: the gates of the channel halves, [C/2], and channel -> gate map of the others."""
        layer, x = self._block(stage, "channel_gate", "spatial_gate")
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
        maps = _maps_by_pixel(*self._attention(stage, A_PIXEL))
        height, width = maps.shape[:2]
        pixels = [(int(row * height), int(column * width)) for row, column in queries]
        return {((i + 0.5) / height, (j + 0.5) / width): maps[i, j] for i, j in pixels}

    @paddle.no_grad()
    def query_correlation(self, stage: int | str) -> float:
        """NL: mean correlation between the attention maps of all pairs of pixels.

        1 if all pixels look at the same place, the finding behind GC; NaN if no map varies.
        """
        attention, _ = self._attention(stage, A_PIXEL)
        return mean_correlation(attention[0].numpy())

    @paddle.no_grad()
    def context_map(self, stage: int | str) -> np.ndarray:
        """GC: the weight of each pixel in the one context vector, [H, W]; they sum to 1."""
        attention, _ = self._attention(stage, ONE)
        return attention[0, 0].numpy()

    @paddle.no_grad()
    def transforms(self, stage: int | str) -> Transforms:
        """BAT: the matrices that mix rows and columns, and the map before and after."""
        layer, x = self._block(stage, "transforms", "transform")
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
        inner: dict[str, paddle.Tensor] = {}
        for method, ask in INNER.items():
            if hasattr(layer, method):
                inner |= ask(layer, x)
        return {
            f"{IMAGE}{self.label}": self.picture,
            N_("input"): x[0].abs().mean(axis=0).numpy(),
            **{title: _as_map_or_profile(value) for title, value in inner.items()},
            N_("output"): layer(x)[0].abs().mean(axis=0).numpy(),
        }


def channel_gates_by_class(plan: Plan, task: str, run: Run) -> dict[str, dict[str, np.ndarray]]:
    """Blocks with a ``gate``: block -> class -> the mean of each channel's, [C] (SE's figure 6).

    The means are over ``CANDIDATES`` validation images, evenly spread; all where there are fewer.
    """
    data = images_of(plan, task, run)
    model = load_model(run)
    blocks = attention_blocks(model)
    for name, layer in blocks.items():
        _check_methods(name, layer, "gate")
    indices = examples(data)
    labels = np.asarray(data.val.labels)[indices]
    gates: dict[str, list[np.ndarray]] = {name: [] for name in blocks}
    for _part, inputs in batches(data, indices, run.experiment.recipe):
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


@paddle.no_grad()
def query_correlations(model: nn.Layer, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """``View.query_correlation`` of every block of a network, trained or not, on several images.

    Args:
        model: computes in the mode it is in. A trained one, as ``View.model``, normalises by its
            running statistics. A fresh one has none yet; as ``build_model`` makes it, in training
            mode, it normalises by the statistics of these images together.
        inputs: the network's input, float32 [B, 3, S, S].

    Returns:
        Block -> the mean correlation between the maps of all pairs of pixels, of each image, [B].

    Raises:
        SettingError: a block without an attention map for each pixel.
    """
    blocks = attention_blocks(model)
    found = {}
    with recording(blocks) as seen:
        model(paddle.to_tensor(inputs))
    for name, layer in blocks.items():
        _check_methods(name, layer, "attention")
        attention = layer.attention(seen[name][0])
        _check_form(layer, attention, A_PIXEL)
        found[name] = np.array([mean_correlation(maps) for maps in attention.numpy()])
    return found


def _check_methods(name: str, layer: nn.Layer, *methods: str) -> None:
    for method in methods:
        if not hasattr(layer, method):
            raise SettingError(
                f"{name} is a {type(layer).__name__}, which has no {method}(x) that this view "
                "could ask"
            )


def _check_form(layer: nn.Layer, attention: paddle.Tensor, *forms: str) -> None:
    found = _form(attention)
    if found not in forms:
        raise SettingError(
            f"the attention of {type(layer).__name__} is {found}; this view is of {forms[0]}"
        )


def _first_correct(model: nn.Layer, images: ImageDataset, recipe: Recipe) -> int:
    indices = examples(images)
    for part, inputs in batches(images, indices, recipe):
        predicted = predict(model, inputs).argmax(axis=1)
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


def _form(attention: paddle.Tensor) -> str:
    """What [N, HW, keys], [N, 1, H, W] and [N, groups, H, W] are."""
    if attention.ndim == 3:
        return A_PIXEL
    return ONE if attention.shape[1] == 1 else A_GROUP


def _maps_by_pixel(attention: paddle.Tensor, x: paddle.Tensor) -> np.ndarray:
    """NL's weights as [rows, columns, key rows, key columns]; pooled keys are half as many."""
    height, width = x.shape[2:]
    weights = attention[0].numpy()
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


def _seen_attention(layer: nn.Layer, x: paddle.Tensor) -> dict[str, paddle.Tensor]:
    attention = layer.attention(x)
    form = _form(attention)
    if form == A_PIXEL:
        maps = _maps_by_pixel(attention, x)
        middle = maps[maps.shape[0] // 2, maps.shape[1] // 2]
        return {N_("attention of the middle"): paddle.to_tensor(middle[None, None])}
    return {N_("attention") if form == ONE else N_("gate, mean over groups"): attention}


# What the walk shows between input and output: what a block's own methods say of its input.
INNER: dict[str, Callable[[nn.Layer, paddle.Tensor], dict[str, paddle.Tensor]]] = {
    "gather": lambda layer, x: {N_("gathered"): layer.gather(x)},
    "style": lambda layer, x: dict(zip((N_("mean"), N_("deviation")), layer.style(x), strict=True)),
    "gate": lambda layer, x: {N_("gate"): layer.gate(x)},
    "channel_gate": lambda layer, x: {N_("channel gate"): layer.channel_gate(_halves(layer, x)[0])},
    "spatial_gate": lambda layer, x: {
        N_("pixel gate, mean"): layer.spatial_gate(_halves(layer, x)[1])
    },
    "attention": _seen_attention,
    "context": lambda layer, x: {N_("context"): layer.context(x)},
    "transforms": lambda layer, x: dict(
        zip(
            (N_("P, mean over groups"), N_("Q, mean over groups")), layer.transforms(x), strict=True
        )
    ),
}
