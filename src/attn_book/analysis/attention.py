"""What attention alone decides: NL, GC and BAT with their attention held still.

Freezing a block's modulation replaces all that it does. These three hand on features of the image
as well, so that what they do varies with the image even where their attention does not. Here the
attention alone is replaced by its mean over the validation images: the weights of NL and GC, the
matrices of BAT. Features are still the image's own, and nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle
import pandas as pd
from paddle import nn

from attn_blocks import datasets
from attn_blocks.layers.bat import BATransform
from attn_blocks.layers.gc import GlobalContext
from attn_blocks.layers.nl import NonLocal
from attn_book.analysis.words import block_of, clauses
from attn_book.language import _, say
from attn_book.records import attention
from attn_book.study.experiment import Recipe
from attn_book.training.build import prepare
from attn_book.training.compute import Compute
from attn_book.training.loop import evaluate

# The method from which each layer's forward takes its attention, for every image of a batch.
METHODS = {NonLocal: "_pairwise", GlobalContext: "attention", BATransform: "transforms"}
Method = Callable[..., Any]


def measure(
    model: nn.Layer, images: datasets.ImageDataset, recipe: Recipe, compute: Compute
) -> dict[str, int]:
    """The counts of ``records.attention``.

    Args:
        model: as ``checkpoint.load_model`` gives it; its weights stay as they are.
        images, recipe: those that it was trained with.
        compute: device and precision.
    """
    training, labels = prepare(model, images, recipe, compute=compute), images.val.labels
    seen = {name: _Mean() for name in _sources(model)}
    with _instead(model, {name: mean.watching for name, mean in seen.items()}):
        trained = evaluate(training)[1].argmax(axis=1)
    with _instead(model, {name: mean.held for name, mean in seen.items()}):
        still = evaluate(training)[1].argmax(axis=1)
    return {
        "as_trained": int((trained == labels).sum()),
        "right": int((still == labels).sum()),
        "changed": int((trained != still).sum()),
    }


class _Mean:
    """The mean of a layer's attention over all images that it has seen."""

    def __init__(self) -> None:
        self.images = 0
        self.sums: tuple[paddle.Tensor, ...] = ()

    def watching(self, original: Method) -> Method:
        """The method, which is watched."""

        def method(*inputs: paddle.Tensor) -> Any:
            found = original(*inputs)
            parts = found if isinstance(found, tuple) else (found,)
            totals = [part.sum(axis=0, keepdim=True) for part in parts]
            self.sums = tuple(
                total if not self.sums else self.sums[i] + total for i, total in enumerate(totals)
            )
            self.images += len(parts[0])
            return found

        return method

    def held(self, original: Method) -> Method:
        """In place of the method: the mean, for each image of the batch."""

        def method(*inputs: paddle.Tensor) -> Any:
            parts = tuple(
                (total / self.images).expand([len(inputs[0]), *total.shape[1:]])
                for total in self.sums
            )
            return parts if len(parts) > 1 else parts[0]

        return method


def _sources(model: nn.Layer) -> dict[str, tuple[nn.Layer, str]]:
    """Name -> (layer, method) of everything in a network that makes attention."""
    return {
        name: (layer, method)
        for name, layer in model.named_sublayers()
        for kind, method in METHODS.items()
        if isinstance(layer, kind)
    }


@contextmanager
def _instead(model: nn.Layer, makers: Mapping[str, Callable[[Method], Method]]) -> Iterator[None]:
    """Within it, the layers' methods are those that are made of them."""
    sources = _sources(model)
    for name, (layer, method) in sources.items():
        setattr(layer, method, makers[name](getattr(layer, method)))
    try:
        yield
    finally:
        for layer, method in sources.values():
            delattr(layer, method)


def table(folder: Path) -> pd.DataFrame:
    """Of each network: predictions that change with all frozen, and with the attention held still.

    Args:
        folder: a profile's published folder, with ``attention.json``.
    """
    runs, rows = attention.subjects(folder), {}
    for title, of in attention.read(folder).items():
        frozen = runs[title].metrics["frozen"]
        rows[title] = {
            _("Accuracy as trained"): f"{of['as_trained'] / of['images']:.4f}",
            _("Attention held still"): f"{of['right'] / of['images']:.4f}",
            _("Predictions changed"): f"{of['changed'] / of['images']:.1%}",
            _("All frozen"): f"{frozen['accuracy']:.4f}",
            _("Predictions changed, all frozen"): f"{frozen['changed']:.1%}",
        }
    return pd.DataFrame(rows).T.rename_axis(_("Network"))


def in_words(folder: Path) -> str:
    """How far the predictions of each network depend on its attention, the least first."""
    changed = {t: of["changed"] / of["images"] for t, of in attention.read(folder).items()}
    parts = [
        say("{block} {changed:.1%}", block=block_of(title), changed=changed[title])
        for title in sorted(changed, key=lambda title: changed[title])
    ]
    return say(
        "Predictions that change once attention no longer follows the image: {parts}. The fewer, "
        "the more of what a block gains or loses comes from the layers around its attention. This "
        "was measured on one run of each network, after the protocol was written, and decides "
        "nothing.",
        parts=clauses(parts),
    )
