"""Attention blocks on PaddlePaddle, each equal to published code of it.

    >>> import attn_blocks as ab
    >>> block = ab.create_attn("se", 64, reduction=16)      # [N, 64, H, W] -> the same shape
    >>> model = ab.create_model("se_resnet50", num_classes=10)

Importing the package changes nothing in the process and loads nothing that is not asked for: not
even Paddle. ``tune_cpu()``, called before Paddle is loaded, makes training on the CPU faster.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# Public name -> the module that it is loaded from when it is first asked for.
_PUBLIC = {
    "BilinearAttnTransform": "layers.bat",
    "GatherExcite": "layers.ge",
    "GlobalContext": "layers.gc",
    "NonLocal": "layers.nl",
    "ShuffleAttention": "layers.sa",
    "SpatialGroupEnhance": "layers.sge",
    "SqueezeExcite": "layers.se",
    "StyleRecalibration": "layers.srm",
    "count_macs": "models.counting",
    "count_params": "models.counting",
    "create_attn": "layers",
    "create_model": "models",
    "list_attns": "layers",
    "list_models": "models",
    "load_torch_state_dict": "models.torch_weights",
    "register_attn": "layers",
    "tune_cpu": "device",
}

__all__ = [*_PUBLIC]

try:
    __version__ = version("attn-blocks")
except PackageNotFoundError:  # sources that are not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
