"""What networks are made of: a summary of any, and the table of SE-ResNet-50."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import paddle
import pandas as pd
from paddle import nn

from attn_blocks import models
from attn_blocks.layers.se import SqueezeExcite
from attn_blocks.models.resnet import map_sizes
from attn_book.analysis.explain import recording
from attn_book.language import _, say


def summary(model: nn.Layer, image_size: int) -> pd.DataFrame:
    """The parts of a network in the order in which an image passes them, and its total.

    Kinds are those of ``paddle.summary``, a stage of several blocks in one line. Parameters are
    those that are trained, without the running statistics that ``paddle.summary`` counts too.

    Args:
        model: takes images [N, 3, H, W]; it stays as it is.
        image_size: side of the image that is sent through.

    Returns:
        A row for each direct child that the image passes: Kind, Output (without the batch) and
        Parameters.
    """
    parts = {n: part for n, part in model.named_children() if not isinstance(part, nn.Identity)}
    training = {layer: layer.training for layer in model.sublayers(include_self=True)}
    model.eval()
    try:
        with recording(parts) as seen, paddle.no_grad():
            model(paddle.zeros([1, 3, image_size, image_size]))
    finally:
        for layer, flag in training.items():
            layer.training = flag
    rows = {
        name: {
            _("Kind"): _kind(parts[name]),
            _("Output"): " × ".join(map(str, output.shape[1:])),
            _("Parameters"): f"{models.count_params(parts[name]):,}",
        }
        for name, (_input, output) in seen.items()
    }
    rows[_("total")] = {
        _("Kind"): type(model).__name__,
        _("Output"): "",
        _("Parameters"): f"{models.count_params(model):,}",
    }
    return pd.DataFrame(rows).T.rename_axis(_("Layer"))


def _kind(part: nn.Layer) -> str:
    """A layer's class; of a sequence how many of which."""
    if not isinstance(part, nn.Sequential):
        return type(part).__name__
    counts = Counter(type(layer).__name__ for layer in part.children())
    return ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in counts.items())


def se_resnet50(reduction: int = 16) -> pd.DataFrame:
    """SE-ResNet-50 stage by stage, as He et al. print networks, with what its blocks add.

    The SE paper counts 2/r times the sum over the stages of NC² (Hu et al. 2018): the weights of N
    blocks at C channels with reduction r, without biases, which it does not write. The numbers are
    read from the network itself.

    Returns:
        A row a stage: Output, Layers (no longer than what pandas shows whole), SE (the widths of
        its two layers), Blocks N, Channels C, 2NC²/r; and their total.
    """
    image_size = 224
    with paddle.LazyGuard():  # shapes are enough
        network = models.create_model(
            "se_resnet50", image_size=image_size, reduction=reduction, num_classes=1000
        )
    sides = map_sizes(image_size, "imagenet")
    rows, total = {}, np.zeros(2, dtype=int)
    for stage, side in sides.items():
        blocks = list(getattr(network, f"layer{stage}").children())
        first: SqueezeExcite = blocks[0].attn
        convolutions = [
            f"{layer.weight.shape[2]} × {layer.weight.shape[3]}, {layer.weight.shape[0]}"
            for layer in (blocks[0].conv1, blocks[0].conv2, blocks[0].conv3)
        ]
        weights = sum(
            prod(layer.weight.shape)
            for block in blocks
            for layer in (block.attn.fc1, block.attn.fc2)
        )
        rows[say("stage {stage}", stage=stage)] = {
            _("Output"): f"{side} × {side}",
            _("Layers"): f"[{'; '.join(convolutions)}] × {len(blocks)}",
            "SE": f"{first.fc1.weight.shape[0]}, {first.channels}",
            _("Blocks N"): f"{len(blocks)}",
            _("Channels C"): f"{first.channels:,}",
            "2NC²/r": f"{weights:,}",
        }
        total += np.array([len(blocks), weights])
    in_all = dict(zip((_("Blocks N"), "2NC²/r"), (f"{value:,}" for value in total), strict=True))
    frame = pd.DataFrame({**rows, _("total"): in_all}).T.rename_axis(_("Stage"))
    return frame.fillna("")
