"""Attention blocks on PaddlePaddle, each proven equal to its paper's own code.

Import this package before ``paddle``: it sets the CPU threads and the maths library's code path.

    >>> import attn_blocks as ab
    >>> block = ab.create_attn("se", 64, reduction=16)      # [N, 64, H, W] -> the same shape
    >>> model = ab.create_model("se_resnet50", num_classes=10)
"""

from importlib import import_module

from attn_blocks import runtime

runtime.configure()

_HOME = {
    "create_attn": "layers",
    "list_attns": "layers",
    "create_model": "models",
    "list_models": "models",
    "count_params": "models",
    "count_macs": "models",
    "load_torch_state_dict": "interop",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    # Paddle takes seconds to import; commands that only list or show files must not wait for it.
    if name in _HOME:
        return getattr(import_module(f"attn_blocks.{_HOME[name]}"), name)
    raise AttributeError(f"module 'attn_blocks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
