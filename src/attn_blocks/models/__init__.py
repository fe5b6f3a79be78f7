"""Every network of the book by its name, and ResNets with a block of your own.

``resnet18``, ``resnet34``, ``resnet50`` and ``resnet101``, each also with a block's name before
it (``se_resnet50``); ``bat_se_resnet50``; ``senet_cifar``, ``sa_inception``, ``vgg19`` and
``mobilenet_v2``. A block has its ResNets here from the moment that it is registered in ``layers``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from paddle import nn

from attn_blocks.errors import SettingError, choose
from attn_blocks.layers import list_attns
from attn_blocks.layers.base import positive, positive_number
from attn_blocks.models.classic import VGG19, MobileNetV2
from attn_blocks.models.counting import count_macs, count_params
from attn_blocks.models.resnet import DEPTHS, build_resnet, resnet_options
from attn_blocks.models.sa_inception import SAInception
from attn_blocks.models.scaling import STEMS
from attn_blocks.models.senet_cifar import SENetCifar

__all__ = ["Model", "count_macs", "count_params", "create_model", "find", "list_models"]


@dataclass(frozen=True)
class Model:
    """A network of the book.

    Attributes:
        build: makes it.
        family: networks that share their code and, in the records, their version.
        attns: the attention blocks in it.
        options: what it takes beside the options that all take.
    """

    build: Callable[..., nn.Layer]
    family: str
    attns: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def _resnets() -> dict[str, Model]:
    blocks = [(), *((attn,) for attn in list_attns()), ("bat", "se")]
    return {
        "_".join((*attns, f"resnet{depth}")): Model(
            partial(build_resnet, depth, attns), "resnet", attns, resnet_options(attns)
        )
        for depth in DEPTHS
        for attns in blocks
        if len(attns) < 2 or depth == 50
    }


def _all() -> dict[str, Model]:
    """Made anew each time: a block may have been registered since."""
    return {
        **_resnets(),
        "senet_cifar": Model(SENetCifar, "senet_cifar", ("se",), ("squeeze", "attn")),
        "sa_inception": Model(SAInception, "sa_inception", ("sa",), ("groups", "attn")),
        "vgg19": Model(VGG19, "vgg19"),
        "mobilenet_v2": Model(MobileNetV2, "mobilenet_v2"),
    }


def list_models() -> list[str]:
    """The names that ``create_model`` takes."""
    return list(_all())


def find(name: str) -> Model:
    """The network of that name; SettingError lists the names where there is none."""
    models = _all()
    return models[choose("model", name, models)]


def create_model(
    name: str,
    num_classes: int = 1000,
    width: float = 1.0,
    stem: str = "imagenet",
    image_size: int = 224,
    **options: Any,
) -> nn.Layer:
    """A network with new weights; images [N, 3, H, W] -> logits [N, num_classes].

    Args:
        name: see ``list_models()``.
        num_classes: outputs of the last layer.
        width: scales every channel count, each rounded to a multiple of 8
            (``scaling.scale_channels``).
        stem: how the network begins, and with it the size of every map: ``"imagenet"`` as
            published (ResNet: 7x7 convolution of stride 2, max-pool), ``"small"`` half of that
            down-sampling (3x3, stride 2), ``"cifar"`` none of it (3x3, stride 1). ``senet_cifar``
            is published with the last one and takes it for ``"imagenet"`` too.
        image_size: side of the images, pixels; the map sizes that GE and BAT need follow from it.
        options: keywords of the block (``groups=32``), ``placement`` of a ResNet's block
            (``"inside"`` each residual block, ``"inside_c3_c5"``, ``"between"``), and those of the
            network's own class. A plain ResNet takes ``attn``: a class or a function that makes
            the block from its channel count, the name of a registered block, or a float that
            each residual branch is multiplied by.

    Returns:
        The network. Its ``settings`` say what it became, in values that JSON can store (name,
        classes, width, stem, image size, and under ``attn`` every setting of each block).

    Raises:
        SettingError: an unknown name or option, or a value that cannot work.

    ::

        create_model("resnet50", attn=MyBlock)
        create_model("resnet50", attn=lambda channels: MyBlock(channels, 3), placement="between")
    """
    model = find(name)
    if model.family == "resnet" and not model.attns and isinstance(options.get("attn"), str):
        attn = choose("attention block", options.pop("attn"), list_attns())
        return create_model(f"{attn}_{name}", num_classes, width, stem, image_size, **options)
    choose("stem", stem, STEMS)
    for option in options:
        if not model.options:
            raise SettingError(f"{name} takes no option {option!r}, nor any other of a block")
        choose(f"option of {name}", option, model.options)
    attn = options.get("attn", True)
    if model.attns and not isinstance(attn, bool):
        raise SettingError(
            f"{name}: attn={attn!r} must be True or False here; a block of your own goes into a "
            "plain ResNet: create_model('resnet50', attn=...)"
        )
    try:
        num_classes = positive("num_classes", num_classes)
        image_size = positive("image_size", image_size)
        positive_number("width", width, 1.0)
        network = model.build(
            num_classes=num_classes, width=width, stem=stem, image_size=image_size, **options
        )
    except ValueError as error:  # what a block or the network's class refuses
        raise SettingError(f"{name}: {error}") from error
    common = {
        "name": name,
        "num_classes": num_classes,
        "width": width,
        "stem": stem,
        "image_size": image_size,
    }
    # A default of a reader's own block need not be a value that JSON knows.
    network.settings = json.loads(json.dumps({**common, **network.settings}, default=repr))
    return network
