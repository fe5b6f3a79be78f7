"""Where in a ResNet of bottlenecks the blocks stand, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from matplotlib.figure import Figure

from attn_blocks.errors import choose
from attn_blocks.models.resnet import PLACEMENTS
from attn_book.analysis.diagrams import CHW, ROW, fixed, learnt, trunk
from attn_book.analysis.drawing import Arrow, Diagram, Node, draw
from attn_book.language import N_


def _bottleneck(start: float) -> dict[str, Node]:
    """The three convolutions of a bottleneck, side by side."""
    texts = N_("1×1 conv,\nBN, ReLU"), N_("3×3 conv,\nBN, ReLU"), N_("1×1 conv,\nBN")
    return {
        f"conv{i + 1}": learnt(start + 1.35 * i, ROW, text, 1.0) for i, text in enumerate(texts)
    }


# Where a block stands in a ResNet of bottlenecks, by ``placement``.
PLACES: Mapping[str, Diagram] = MappingProxyType(
    {
        "inside": Diagram(
            N_("Inside: the block is the last thing on each residual branch"),
            {
                **trunk(6.95, "+", fork=0.75),
                **_bottleneck(1.6),
                "attn": learnt(5.75, ROW, "attention\nblock", 1.05),
                "relu": fixed(7.75, 0, "ReLU", 0.65),
                "y": Node(8.9, 0, "word", "y"),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "conv1", route="down"),
                Arrow("conv1", "conv2"),
                Arrow("conv2", "conv3"),
                Arrow("conv3", "attn"),
                Arrow("attn", "join", CHW, "across"),
                Arrow("join", "relu"),
                Arrow("relu", "y", CHW),
            ),
            N_(
                "One bottleneck; its shortcut is a 1×1 convolution where shapes change. "
                "So stand SE, GE, SRM, SGE\nand SA, in all 16 of ResNet-50 "
                "(inside_c3_c5: in the 13 of stages 2 to 4)."
            ),
        ),
        "between": Diagram(
            N_("Between: the block is a module of its own after a whole bottleneck"),
            {
                "x": Node(0, 0, "word", "x"),
                "fork": Node(0.6, 0, "fork"),
                "join": Node(5.35, 0, "symbol", "+"),
                **_bottleneck(1.45),
                "relu": fixed(6.2, 0, "ReLU", 0.65),
                "attn": learnt(7.75, 0, "attention\nblock", 1.05),
                "y": Node(9.25, 0, "word", "y"),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "conv1", route="down"),
                Arrow("conv1", "conv2"),
                Arrow("conv2", "conv3"),
                Arrow("conv3", "join", CHW, "across"),
                Arrow("join", "relu"),
                Arrow("relu", "attn", CHW),
                Arrow("attn", "y", CHW),
            ),
            N_(
                "So stand NL, GC and BAT, after every second bottleneck of stages 2 and 3: in five "
                "places of ResNet-50."
            ),
        ),
    }
)


def placement_diagram(placement: str) -> Figure:
    """Where in a ResNet of bottlenecks a block stands.

    Args:
        placement: "inside" (and "inside_c3_c5", the same without the first stage) or "between".

    Raises:
        SettingError: no such placement.
    """
    choose("placement", placement, PLACEMENTS)
    return draw(PLACES["between" if placement == "between" else "inside"])
