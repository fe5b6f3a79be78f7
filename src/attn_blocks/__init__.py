"""Attention blocks on PaddlePaddle, each proven equal to its paper's own code.

Import this package before ``paddle``: it sets the CPU threads and the maths library's code path.

    >>> import attn_blocks as ab
    >>> block = ab.create_attn("se", 64, reduction=16)      # [N, 64, H, W] -> the same shape
    >>> model = ab.create_model("se_resnet50", num_classes=10)
"""

from attn_blocks import runtime

runtime.configure()
runtime.import_paddle()

from attn_blocks.interop import load_torch_state_dict  # noqa: E402
from attn_blocks.layers import create_attn, list_attns  # noqa: E402
from attn_blocks.models import count_macs, count_params, create_model, list_models  # noqa: E402

__all__ = [
    "count_macs",
    "count_params",
    "create_attn",
    "create_model",
    "list_attns",
    "list_models",
    "load_torch_state_dict",
]
