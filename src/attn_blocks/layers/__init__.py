"""Attention blocks, one paper a file; each takes [N, C, H, W] and returns the same shape.

A new block is one new file here with a ``@register("name")`` class whose first argument is the
channel count. They import Paddle and ``attn_blocks.errors`` and nothing else.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

from paddle import nn

from attn_blocks.errors import choose
from attn_blocks.layers.base import ATTNS
from attn_blocks.layers.base import register as register_attn

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["ATTNS", "create_attn", "keywords_of", "list_attns", "register_attn"]


def list_attns() -> list[str]:
    """The names that ``create_attn`` knows, sorted."""
    return sorted(ATTNS)


def keywords_of(name: str) -> dict[str, object]:
    """The keywords of an attention block and their defaults, as its class declares them.

    One that has to be given has the default ``inspect.Parameter.empty``. The first argument, which
    is the channel count by whatever name, is none of them.

    Raises:
        ValueError: an unknown name.
    """
    kind = ATTNS[choose("attention block", name, list_attns())]
    parameters = list(inspect.signature(kind.__init__).parameters.values())[2:]
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def create_attn(name: str, channels: int, **keywords: object) -> nn.Layer:
    """Make the attention block ``name`` for feature maps of ``channels`` channels.

    Args:
        name: one of ``list_attns()``.
        channels: C of the [N, C, H, W] feature map.
        **keywords: the block's own settings; its class documents them.

    Raises:
        ValueError: an unknown name or keyword (the message lists the valid ones), or a setting
            that cannot work.
    """
    valid = keywords_of(name)
    for keyword in keywords:
        if not valid:
            raise ValueError(f"{name!r} takes no keywords, got {keyword!r}")
        choose(f"keyword of {name!r}", keyword, valid)
    return ATTNS[name](channels, **keywords)
