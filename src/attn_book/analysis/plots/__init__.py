"""Every figure of the book. Functions take runs or arrays and return a matplotlib Figure."""

from attn_book.analysis.diagrams import block_diagram
from attn_book.analysis.placements import placement_diagram
from attn_book.analysis.plots.blocks import channel_gates, parameter_spread, walk
from attn_book.analysis.plots.code import source
from attn_book.analysis.plots.maps import (
    grad_cam,
    maps_over_image,
    query_attention,
    shuffle_gates,
    transforms,
)
from attn_book.analysis.plots.outcomes import (
    accuracy_against_cost,
    confusion_matrices,
    gain_forest,
    gains_at_both_widths,
    reliability,
)
from attn_book.analysis.plots.own import own_block
from attn_book.analysis.plots.predictions import prediction_grid
from attn_book.analysis.plots.style import STYLE, colour, marker, save, show
from attn_book.analysis.plots.training import sample_grid, training_curves, validation_curves

__all__ = [
    "STYLE",
    "accuracy_against_cost",
    "block_diagram",
    "channel_gates",
    "colour",
    "confusion_matrices",
    "gain_forest",
    "gains_at_both_widths",
    "grad_cam",
    "maps_over_image",
    "marker",
    "own_block",
    "parameter_spread",
    "placement_diagram",
    "prediction_grid",
    "query_attention",
    "reliability",
    "sample_grid",
    "save",
    "show",
    "shuffle_gates",
    "source",
    "training_curves",
    "transforms",
    "validation_curves",
    "walk",
]
