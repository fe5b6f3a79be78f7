"""A block of the reader's own, tried at every place of the network before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn

from attn_blocks import models
from attn_blocks.errors import AttnBlocksError, SettingError
from attn_book.study.experiment import Recipe
from attn_book.study.own import OwnBlock, reason_of


def places(placement: str, recipe: Recipe) -> list[tuple[int, int]]:
    """(channels, side of the map) of each stage of ResNet-50 where a block would stand."""
    with paddle.LazyGuard():  # takes no memory
        network = models.create_model(
            "resnet50",
            width=recipe.width,
            stem=recipe.stem,
            image_size=recipe.image_size,
            attn=1.0,
            placement=placement,
        )
    [record] = network.settings["attn"].values()
    return [(at["channels"], at["map"]) for name, at in record.items() if name != "placement"]


def check(block: OwnBlock, placement: str, recipe: Recipe) -> None:
    """Make the block for every place of the network and try it there, forward and backward.

    Raises:
        SettingError: it cannot be made or fails, with the place's numbers; or what it returns is
            not a tensor of its input's shape and type.
    """
    make = block.load()
    for channels, side in places(placement, recipe):
        try:
            with paddle.LazyGuard():  # as ``training.build.build_model`` does
                layer = make(channels)
            _try(layer, channels, side)
        except AttnBlocksError as error:
            raise SettingError(f"{block.option}: {error}") from error
        except Exception as error:  # whatever the reader's code raises
            raise SettingError(
                f"{block.option} fails with {channels} channels, on maps of {side} x {side}: "
                f"{reason_of(error)}"
            ) from error


def _try(layer: Any, channels: int, side: int) -> None:
    if not isinstance(layer, nn.Layer):
        raise SettingError(f"made from {channels} channels it is {layer!r}, no paddle.nn.Layer")
    for parameter in layer.parameters():
        if not parameter._is_initialized():
            parameter.initialize()
    models.count_macs(layer, (channels, side, side))  # traces it, as every run does
    for training, images in ((True, 2), (False, 1)):
        layer.train() if training else layer.eval()
        values = np.random.default_rng(0).normal(size=(images, channels, side, side))
        x = paddle.to_tensor(values.astype("float32"), stop_gradient=False)
        y = layer(x)
        if not isinstance(y, paddle.Tensor) or (y.shape, y.dtype) != (x.shape, x.dtype):
            got = f"{list(y.shape)} of {y.dtype}" if isinstance(y, paddle.Tensor) else repr(y)
            given = f"{list(x.shape)} of {x.dtype}"
            raise SettingError(f"from {given} it makes {got}; both must be alike")
        if training:
            y.sum().backward()
