"""What a figure shows, in sentences with its numbers: each is named after the figure it reads.

The same sentences are the figures' alternative texts, for readers who do not see them.
"""

from attn_book.analysis.readings.inside import (
    channel_gates,
    gates_spread,
    grad_cam,
    maps_over_image,
    parameter_spread,
    prediction_grid,
    query_attention,
    query_correlations,
    shown_blocks,
    shuffle_gates,
    transforms,
    walk,
)
from attn_book.analysis.readings.outcomes import (
    NOTHING,
    accuracy_against_cost,
    confusion_matrices,
    gain_forest,
    gains,
    reliability,
    training_curves,
    validation_curves,
)

__all__ = [
    "NOTHING",
    "accuracy_against_cost",
    "channel_gates",
    "confusion_matrices",
    "gain_forest",
    "gains",
    "gates_spread",
    "grad_cam",
    "maps_over_image",
    "parameter_spread",
    "prediction_grid",
    "query_attention",
    "query_correlations",
    "reliability",
    "shown_blocks",
    "shuffle_gates",
    "training_curves",
    "transforms",
    "validation_curves",
    "walk",
]
