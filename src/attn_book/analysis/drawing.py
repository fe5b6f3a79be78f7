"""How a diagram is drawn: boxes and symbols at places, and arrows that carry shapes between them.

Places are in inches, y downwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path

from attn_blocks.errors import choose
from attn_book.analysis.lettering import lettering
from attn_book.analysis.words import clauses
from attn_book.language import N_, _, say

LINE = "#333333"
SHAPE = "#1f5f99"
FILL = {"learnt": "#ffe0b8", "fixed": "#e6ebf1"}
LEGEND = {"learnt": N_("has parameters"), "fixed": N_("has none")}
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

    def translated(self) -> Diagram:
        """The same in today's language."""
        nodes = {
            key: replace(node, text=_(node.text)) if node.kind in FILL else node
            for key, node in self.nodes.items()
        }
        return replace(self, title=_(self.title), nodes=nodes, note=self.note and _(self.note))


def draw(diagram: Diagram) -> Figure:
    """Draw one diagram, as large as its nodes need."""
    with lettering():
        figure = _draw(diagram.translated())
    said = diagram.translated()
    boxes = [node.text.replace("\n", " ") for node in said.nodes.values() if node.kind in FILL]
    words = say("{title}. Boxes: {boxes}.", title=said.title, boxes=clauses(boxes))
    figure.set_label(words)
    return figure


def _draw(diagram: Diagram) -> Figure:
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
        handles=[Patch(facecolor=FILL[k], edgecolor=LINE, label=_(v)) for k, v in LEGEND.items()],
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
