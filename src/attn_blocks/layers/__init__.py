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

__all__ = ["ATTNS", "create_attn", "list_attns", "register_attn"]


def list_attns() -> list[str]:
    """The names that ``create_attn`` knows, sorted."""
    return sorted(ATTNS)


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
    cls = ATTNS[choose("attention block", name, list_attns())]
    valid = [k for k in inspect.signature(cls.__init__).parameters if k not in ("self", "channels")]
    for keyword in keywords:
        if not valid:
            raise ValueError(f"{name!r} takes no keywords, got {keyword!r}")
        choose(f"keyword of {name!r}", keyword, valid)
    return cls(channels, **keywords)
