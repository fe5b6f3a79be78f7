"""The data flow of each block, as data, and the one function that draws it.

A diagram is boxes and symbols at places (inches, y downwards) and arrows between them, which carry
the shape of what flows. The shapes are of one image: C channels, H rows and W columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path

from attn_blocks.errors import choose

LINE = "#333333"
SHAPE = "#1f5f99"
FILL = {"learnt": "#ffe0b8", "fixed": "#e6ebf1"}
LEGEND = {"learnt": "has parameters", "fixed": "has none"}
BOX_HEIGHT, SYMBOL = 0.5, 0.15
ROUTES = ("straight", "down", "across")


@dataclass(frozen=True)
class Node:
    """Something at (x, y): a box of ``width``, a symbol in a circle, a plain word or a fork.

    ``kind`` is "learnt", "fixed", "symbol", "word" or "fork"; ``optional`` draws it dashed.
    """

    x: float
    y: float
    kind: str
    text: str = ""
    width: float = 0.0
    optional: bool = False

    @property
    def half(self) -> tuple[float, float]:
        """Half the width and half the height."""
        box = (self.width / 2, BOX_HEIGHT / 2)
        word = (0.06 + 0.045 * len(self.text), 0.12)
        return {"symbol": (SYMBOL, SYMBOL), "fork": (0, 0), "word": word}.get(self.kind, box)


@dataclass(frozen=True)
class Arrow:
    """A way from one node to another, labelled with the ``shape`` of what flows.

    ``route``: "straight"; "down", first vertically, then across; "across", first across, then
    vertically. ``at`` moves the label along the longest stretch, ``below`` to the other side.
    """

    start: str
    end: str
    shape: str = ""
    route: str = "straight"
    at: float = 0.5
    below: bool = False


@dataclass(frozen=True)
class Diagram:
    """A block: its formula as the title, nodes by name, arrows, and a remark below."""

    title: str
    nodes: Mapping[str, Node]
    arrows: tuple[Arrow, ...]
    note: str = ""


def learnt(x: float, y: float, text: str, width: float = 1.2) -> Node:
    """A box with parameters."""
    return Node(x, y, "learnt", text, width)


def fixed(x: float, y: float, text: str, width: float = 1.2) -> Node:
    """A box without."""
    return Node(x, y, "fixed", text, width)


def optional(node: Node) -> Node:
    """The same node, dashed."""
    return replace(node, optional=True)


def trunk(end: float, symbol: str, fork: float = 0.75, y: float = 0.0) -> dict[str, Node]:
    """What all blocks share: x, a fork after it, the symbol where the branch comes back, and y."""
    return {
        "x": Node(0, y, "word", "x"),
        "fork": Node(fork, y, "fork"),
        "join": Node(end, y, "symbol", symbol),
        "y": Node(end + 1.15, y, "word", "y"),
    }


# Thin spaces keep the shapes short enough for the arrows.
def shape(*sizes: str) -> str:
    """Sizes as an arrow carries them: ``C × H × W``."""
    return "\u2009×\u2009".join(sizes)


CHW, C11, HW, HWHW = shape("C", "H", "W"), shape("C", "1", "1"), shape("H", "W"), shape("HW", "HW")
ROW = 0.95  # from the trunk down to the branch

DIAGRAMS: Mapping[str, Diagram] = MappingProxyType(
    {
        "se": Diagram(
            "Squeeze-and-Excitation: one gate for each channel",
            {
                **trunk(7.9, "×"),
                "pool": fixed(1.8, ROW, "squeeze: mean\nover H × W", 1.3),
                "fc1": learnt(3.65, ROW, "1×1 conv,\nReLU", 0.95),
                "fc2": learnt(5.4, ROW, "1×1 conv", 0.95),
                "sigmoid": fixed(6.95, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "pool", route="down"),
                Arrow("pool", "fc1", C11),
                Arrow("fc1", "fc2", shape("C/r", "1", "1")),
                Arrow("fc2", "sigmoid", C11),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
        ),
        "ge": Diagram(
            "Gather-Excite: a gate from what is gathered over the map",
            {
                **trunk(7.9, "×"),
                "gather": learnt(1.9, ROW, "gather: depth-wise\nH × W conv, BN", 1.5),
                "mlp": optional(learnt(4.2, ROW, "1×1 conv, ReLU,\n1×1 conv", 1.4)),
                "resize": optional(fixed(5.75, ROW, "stretch\nto H × W", 0.9)),
                "sigmoid": fixed(6.95, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "gather", route="down"),
                Arrow("gather", "mlp", C11),
                Arrow("mlp", "resize"),
                Arrow("resize", "sigmoid"),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
            "Shown: θ at the global extent, as in the networks. Dashed, not in it: θ⁺ adds ReLU "
            "and the two\nconvolutions; extents of 2, 4 and 8 gather to a smaller map and "
            "stretch it. θ⁻ gathers by the mean.",
        ),
        "srm": Diagram(
            "Style-based Recalibration: a gate from each channel's mean and deviation",
            {
                **trunk(7.9, "×"),
                "style": fixed(1.8, ROW, "mean μ and\ndeviation σ", 1.1),
                "cfc": learnt(3.45, ROW, "w₁ μ + w₂ σ,\nper channel", 1.1),
                "bn": learnt(5.2, ROW, "batch norm", 1.0),
                "sigmoid": fixed(6.85, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "style", route="down"),
                Arrow("style", "cfc", shape("C", "2")),
                Arrow("cfc", "bn", C11),
                Arrow("bn", "sigmoid", C11),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
        ),
        "sge": Diagram(
            "Spatial Group-wise Enhance: a gate for each pixel of a group",
            {
                **trunk(8.2, "×"),
                "mean": fixed(1.75, ROW, "mean over\nH × W", 1.0),
                "tap": Node(3.15, 0, "fork"),
                "dot": Node(3.15, ROW, "symbol", "·"),
                "normal": fixed(4.4, ROW, "normalise\nover H × W", 1.05),
                "affine": learnt(6.0, ROW, "scale γ,\nshift β", 0.85),
                "sigmoid": fixed(7.25, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "tap", shape("m", "H", "W")),
                Arrow("tap", "join"),
                Arrow("fork", "mean", route="down"),
                Arrow("mean", "dot", shape("m", "1", "1"), at=0.45),
                Arrow("tap", "dot", shape("m", "H", "W")),
                Arrow("dot", "normal", HW),
                Arrow("normal", "affine", HW),
                Arrow("affine", "sigmoid"),
                Arrow("sigmoid", "join", HW, "across"),
                Arrow("join", "y", shape("m", "H", "W")),
            ),
            "One of the G groups, of m = C/G channels; each has its own γ and β.\n"
            "The dot is the inner product at every pixel.",
        ),
        "sa": Diagram(
            "Shuffle Attention: half of a group's channels is gated by channel, half by pixel",
            {
                "x": Node(0, 0.95, "word", "x"),
                "split": fixed(1.3, 0.95, "G groups,\neach halved", 1.0),
                "fork0": Node(1.3, 0, "fork"),
                "fork1": Node(1.3, 1.9, "fork"),
                "tap0": Node(2.15, 0, "fork"),
                "tap1": Node(2.15, 1.9, "fork"),
                "pool": fixed(3.0, 0.62, "mean over\nH × W", 0.95),
                "affine0": learnt(4.7, 0.62, "scale w,\nshift b", 0.8),
                "sigmoid0": fixed(5.75, 0.62, "sigmoid", 0.75),
                "join0": Node(6.5, 0, "symbol", "×"),
                "norm": learnt(3.0, 1.28, "norm over\nH × W", 0.95),
                "affine1": learnt(4.7, 1.28, "scale w,\nshift b", 0.8),
                "sigmoid1": fixed(5.75, 1.28, "sigmoid", 0.75),
                "join1": Node(6.5, 1.9, "symbol", "×"),
                "join": fixed(7.35, 0.95, "concatenate,\nshuffle", 1.1),
                "y": Node(8.85, 0.95, "word", "y"),
            },
            (
                Arrow("x", "split", CHW, at=0.45),
                Arrow("split", "fork0"),
                Arrow("split", "fork1"),
                Arrow("fork0", "tap0"),
                Arrow("fork1", "tap1"),
                Arrow("tap0", "join0", shape("m", "H", "W")),
                Arrow("tap1", "join1", shape("m", "H", "W"), below=True),
                Arrow("tap0", "pool", route="down"),
                Arrow("pool", "affine0", shape("m", "1", "1")),
                Arrow("affine0", "sigmoid0"),
                Arrow("sigmoid0", "join0", route="across"),
                Arrow("tap1", "norm", route="down"),
                Arrow("norm", "affine1", shape("m", "H", "W")),
                Arrow("affine1", "sigmoid1"),
                Arrow("sigmoid1", "join1", route="across"),
                Arrow("join0", "join", route="across"),
                Arrow("join1", "join", route="across"),
                Arrow("join", "y", CHW),
            ),
            "Each half of a group has m = C/2G channels. All groups share the parameters.",
        ),
        "nl": Diagram(
            "Non-local: every pixel takes in a weighted mean over all pixels",
            {
                **trunk(8.1, "+", fork=0.55),
                "theta": learnt(1.55, 0.7, "θ: 1×1 conv", 1.1),
                "phi": learnt(1.55, 1.4, "φ: 1×1 conv", 1.1),
                "g": learnt(1.55, 2.1, "g: 1×1 conv", 1.1),
                "pairs": Node(3.15, 0.7, "symbol", "@"),
                "softmax": fixed(4.6, 0.7, "softmax over\nthe keys", 1.1),
                "mix": Node(6.05, 0.7, "symbol", "@"),
                "z": learnt(7.1, 0.7, "z: 1×1 conv,\nbatch norm", 1.15),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "theta", route="down"),
                Arrow("fork", "phi", route="down"),
                Arrow("fork", "g", route="down"),
                Arrow("theta", "pairs", shape("HW", "C/2")),
                Arrow("phi", "pairs", shape("C/2", "HW"), "across"),
                Arrow("pairs", "softmax", HWHW),
                Arrow("softmax", "mix", HWHW),
                Arrow("g", "mix", shape("HW", "C/2"), "across"),
                Arrow("mix", "z"),
                Arrow("z", "join", CHW, "across"),
                Arrow("join", "y", CHW),
            ),
            "@ is the matrix product. The softmax takes θ · φ divided by the root of C/2.",
        ),
        "gc": Diagram(
            "Global context: one weighted mean over all pixels, added to every pixel",
            {
                **trunk(8.3, "+", fork=0.55),
                "mask": learnt(1.5, 1.55, "1×1 conv\nto 1 channel", 1.1),
                "softmax": fixed(3.05, 1.55, "softmax over\nthe pixels", 1.1),
                "tap": Node(4.0, 0, "fork"),
                "sum": Node(4.0, 0.8, "symbol", "@"),
                "conv1": learnt(5.45, 0.8, "1×1 conv, layer\nnorm, ReLU", 1.25),
                "conv2": learnt(7.4, 0.8, "1×1 conv", 0.9),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "tap", CHW),
                Arrow("tap", "join"),
                Arrow("fork", "mask", route="down"),
                Arrow("mask", "softmax"),
                Arrow("softmax", "sum", shape("HW", "1"), "across"),
                Arrow("tap", "sum", shape("C", "HW")),
                Arrow("sum", "conv1", C11),
                Arrow("conv1", "conv2", shape("C/16", "1", "1")),
                Arrow("conv2", "join", C11, "across", below=True),
                Arrow("join", "y", CHW),
            ),
            "@ is the matrix product.",
        ),
        "bat": Diagram(
            "Bilinear attentional transform: rows and columns are mixed by the image's own P and Q",
            {
                **trunk(8.3, "+", fork=0.35),
                "conv1": learnt(1.05, 0.75, "1×1 conv,\nBN, ReLU", 0.9),
                "tap": Node(1.75, 0.75, "fork"),
                "P": Node(5.1, 0.75, "symbol", "@"),
                "Q": Node(6.15, 0.75, "symbol", "@"),
                "conv2": learnt(7.2, 0.75, "2 × (1×1 conv, BN,\nReLU); dropout", 1.5),
                "maps": learnt(1.75, 1.6, "1×1 conv to k\nmaps, BN, ReLU", 1.3),
                "rows": fixed(3.55, 1.6, "max-pool\nto s × 1", 0.85),
                "columns": fixed(3.55, 2.35, "max-pool\nto 1 × s", 0.85),
                "p": learnt(5.1, 1.6, "s×1 conv, sigmoid,\nrows sum to 1", 1.5),
                "q": learnt(5.1, 2.35, "1×s conv, sigmoid,\ncolumns sum to 1", 1.5),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "conv1", route="down"),
                Arrow("conv1", "tap"),
                Arrow("tap", "P", shape("C/2", "H", "W")),
                Arrow("tap", "maps"),
                Arrow("maps", "rows", shape("k", "H", "W")),
                Arrow("maps", "columns", route="down"),
                Arrow("rows", "p"),
                Arrow("columns", "q"),
                Arrow("p", "P", "P: " + shape("k", "s", "s")),
                Arrow("q", "Q", "Q: " + shape("k", "s", "s"), "across"),
                Arrow("P", "Q"),
                Arrow("Q", "conv2"),
                Arrow("conv2", "join", route="across"),
                Arrow("join", "y", CHW),
            ),
            "@ is the matrix product: P mixes the s rows of blocks, Q the s columns of blocks,\n"
            "in each of k groups of channels.",
        ),
    }
)


def block_diagram(name: str) -> Figure:
    """The data flow of a block, as its layer's code has it with the default settings.

    Args:
        name: a block of ``DIAGRAMS``: se, ge, srm, sge, sa, nl, gc or bat.

    Raises:
        SettingError: a block that has no diagram.
    """
    return draw(DIAGRAMS[choose("block diagram", name, DIAGRAMS)])


def draw(diagram: Diagram) -> Figure:
    """Draw one diagram, as large as its nodes need."""
    left, right = _extent(diagram, 0, margin=0.12)
    top, bottom = _extent(diagram, 1, margin=0.12)
    top, bottom = top - 0.45, bottom + 0.35 + 0.2 * len(diagram.note.splitlines())
    figure = plt.figure(figsize=(right - left, bottom - top), dpi=110, facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(left, right), ylim=(bottom, top))
    axis.axis("off")
    for arrow in diagram.arrows:
        _draw_arrow(axis, arrow, diagram.nodes)
    for key, node in diagram.nodes.items():
        _draw_node(axis, key, node)
    axis.text(left + 0.1, top + 0.08, diagram.title, fontsize=12, weight="bold", va="top")
    axis.text(left + 0.1, bottom - 0.08, diagram.note, fontsize=9, color="#555555", va="bottom")
    axis.legend(
        handles=[Patch(facecolor=FILL[k], edgecolor=LINE, label=v) for k, v in LEGEND.items()],
        loc="lower right",
        ncols=2,
        fontsize=9,
        frameon=False,
        borderaxespad=0.1,
    )
    return figure


def _extent(diagram: Diagram, axis: int, margin: float) -> tuple[float, float]:
    places = [((n.x, n.y)[axis], n.half[axis]) for n in diagram.nodes.values()]
    return min(p - h for p, h in places) - margin, max(p + h for p, h in places) + margin


def _draw_node(axis: plt.Axes, key: str, node: Node) -> None:
    (width, height), dashes = node.half, "--" if node.optional else "-"
    if node.kind in FILL:
        shape = FancyBboxPatch(
            (node.x - width, node.y - height),
            2 * width,
            2 * height,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor=FILL[node.kind],
            edgecolor=LINE,
            linewidth=1.1,
            linestyle=dashes,
        )
    elif node.kind == "symbol":
        shape = Circle((node.x, node.y), SYMBOL, facecolor="white", edgecolor=LINE, linewidth=1.1)
    elif node.kind == "fork":
        shape = Circle((node.x, node.y), 0.035, color=LINE)
    else:
        shape = None
    if shape is not None:
        shape.set(zorder=3, gid=f"node-{key}")
        axis.add_patch(shape)
    size = {"symbol": 14, "word": 13}.get(node.kind, 10)
    style = "italic" if node.kind == "word" else "normal"
    raised = 0.02 if node.kind == "symbol" else 0  # × and + sit low in their line
    axis.text(
        node.x,
        node.y - raised,
        node.text,
        fontsize=size,
        style=style,
        ha="center",
        va="center_baseline" if node.kind == "symbol" else "center",
        zorder=4,
        gid=f"text-{key}",
        linespacing=1.15,
    )


def _draw_arrow(axis: plt.Axes, arrow: Arrow, nodes: Mapping[str, Node]) -> None:
    points = _points(arrow, nodes[arrow.start], nodes[arrow.end])
    head = "-" if nodes[arrow.end].kind == "fork" else "-|>"
    axis.add_patch(
        FancyArrowPatch(
            path=Path(points),
            arrowstyle=head,
            mutation_scale=11,
            color=LINE,
            linewidth=1.2,
            joinstyle="round",
            capstyle="butt",
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )
    if not arrow.shape:
        return
    a, b = max(itertools.pairwise(points), key=lambda stretch: math.dist(*stretch))
    x, y = (p + arrow.at * (q - p) for p, q in zip(a, b, strict=True))
    if a[1] == b[1]:
        y += 0.05 if arrow.below else -0.05
        place = {"ha": "center", "va": "top" if arrow.below else "bottom"}
    else:
        x += -0.06 if arrow.below else 0.06
        place = {"ha": "right" if arrow.below else "left", "va": "center"}
    axis.text(x, y, arrow.shape, fontsize=9, color=SHAPE, zorder=4, gid="shape", **place)


def _points(arrow: Arrow, start: Node, end: Node) -> list[tuple[float, float]]:
    """The corners of the way, from the border of one node to that of the other."""
    a, b = (start.x, start.y), (end.x, end.y)
    corners = {
        "straight": [],
        "down": [(a[0], b[1])],
        "across": [(b[0], a[1])],
    }[choose("route", arrow.route, ROUTES)]
    points = [a, *corners, b]
    return [_border(start, points[1]), *corners, _border(end, points[-2])]


def _border(node: Node, towards: tuple[float, float]) -> tuple[float, float]:
    """Where a horizontal or vertical line from the node's middle crosses its border."""
    (width, height), (dx, dy) = node.half, (towards[0] - node.x, towards[1] - node.y)
    if abs(dx) > abs(dy):
        return node.x + math.copysign(width, dx), node.y
    return node.x, node.y + math.copysign(height, dy)
