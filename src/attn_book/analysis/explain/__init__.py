"""What a trained network looks at: its gates, attention maps and Grad-CAM on real images."""

from attn_book.analysis.explain.cam import SeenImage, grad_cam, grad_cams
from attn_book.analysis.explain.probes import (
    examples,
    images_of,
    network_input,
    pictures,
    predict,
    recording,
)
from attn_book.analysis.explain.view import (
    Transforms,
    View,
    channel_gates_by_class,
    query_correlations,
)
from attn_book.training.modulation import attention_blocks

__all__ = [
    "SeenImage",
    "Transforms",
    "View",
    "attention_blocks",
    "channel_gates_by_class",
    "examples",
    "grad_cam",
    "grad_cams",
    "images_of",
    "network_input",
    "pictures",
    "predict",
    "query_correlations",
    "recording",
]
