"""What a network spends its time on, faster on the CPU: ``accelerate(model)``.

Paddle's eager mode does not use oneDNN, the library that its own wheel carries, for convolutions;
``conv.cc`` is a custom operator that does, but for its reference kernels, which are slower than
anything. And it computes a batch norm, the addition of a residual block and their ReLUs one by one;
``norm.cc`` holds operators that save passes over memory. Nor has it a fast way to make one number
of a map, or to gate maps; ``maps.cc`` has. All three are compiled for this machine (``library``).
The attention blocks have forms that use them, or else what Paddle's own operators compute faster
(``attention``). Parameters, names and results (to float32 rounding) stay the same, and the same
number of threads gives the same bits.

Where the operators cannot be compiled, or where their results differ from Paddle's, models run on
Paddle's own, and only the attention blocks are made faster.

============================  =================================================================
``ATTN_BLOCKS_NATIVE=0``      ``accelerate`` leaves every model as it is
``ATTN_BLOCKS_NATIVE_BF16=1`` oneDNN may multiply in bfloat16 and add in float32: faster where the
                              processor has such instructions, three digits instead of seven.
                              Never compare runs of which only some were trained so
============================  =================================================================
"""

from __future__ import annotations

import os
import warnings

from paddle import nn

from attn_blocks.native import attention, conv, library, norm, residual

__all__ = ["accelerate", "available", "build", "describe"]

SWITCHED_OFF = "ATTN_BLOCKS_NATIVE=0"


def _reason() -> str:
    """Why the compiled operators are not used, or ''."""
    if os.environ.get("ATTN_BLOCKS_NATIVE", "1") == "0":
        return SWITCHED_OFF
    return library.why_not()


def available() -> bool:
    """Whether the compiled operators work here; compiles them the first time (20 seconds)."""
    return not _reason()


def build() -> str:
    """Build the operators and say in one sentence how that went; never raises."""
    reason = _reason()
    if reason:
        return f"Native operators: not used, Paddle's own are ({reason})."
    return f"Native operators: ready (oneDNN {library.onednn()[1]}, {conv.maths()})."


def describe() -> dict[str, object]:
    """The operators in a run's record: enabled, library, source hash, maths, reason."""
    reason = _reason()
    return {
        "enabled": not reason,
        "library": None if reason else f"oneDNN {library.onednn()[1]}",
        "source": None if reason else library.source_hash(),
        "maths": "float32" if reason else conv.maths(),
        "reason": reason or None,
    }


def accelerate(model: nn.Layer) -> nn.Layer:
    """Make every layer of ``model`` that has a faster way on the CPU go it; returns ``model``.

    Convolutions, batch norms, ReLUs, residual blocks and attention blocks stay where they are and
    keep their parameters and names: only their class becomes the faster one, a subclass of their
    own. Convolutions with padding "SAME", a padding mode other than zeros or channel counts for
    which oneDNN has no fast kernel are left alone, so are layers on NHWC data, and subclasses,
    which may compute something else.

    Where the compiled operators are not available, a warning says why and the attention blocks
    alone are made faster.
    """
    reason = _reason()
    if reason == SWITCHED_OFF:
        return model
    if reason:
        warnings.warn(f"training on Paddle's own, slower operators: {reason}", stacklevel=2)
    ways = [attention.faster_class]
    ways += [] if reason else [conv.native_class, norm.native_class, residual.fused_class]
    for layer in model.sublayers(include_self=True):
        faster = next(filter(None, (way(layer) for way in ways)), None)
        if faster:
            layer.__class__ = faster
    return model
