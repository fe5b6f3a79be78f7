"""The rooms of the two packages and the imports between them: read from the source, and drawn."""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path as File

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

import attn_blocks
import attn_book

# Each room may import from those before it; files of one room from one another, without a circle.
ROOMS = (
    "attn_blocks",  # its own files: errors, files, device
    "attn_blocks.layers",
    "attn_blocks.models",
    "attn_blocks.datasets",
    "attn_blocks.native",
    "attn_book.language",  # one file
    "attn_book.study",
    "attn_book.records",
    "attn_book.training",
    "attn_book.analysis",
    "attn_book.driver",
)
ENTRANCES = {"attn_book", "attn_book.__main__"}  # name what the rooms hold; no room imports them
PACKAGES = {"attn_blocks": "#e3edf6", "attn_book": "#fbeedb"}  # name -> colour
LINE, NUMBER = "#555555", "#1f5f99"
COLUMN, ROW, BOX = 0.86, 0.46, (1.04, 0.3)  # inches

Place = tuple[float, float]


def modules() -> dict[str, File]:
    """Every module of both packages: name -> file."""
    found = {}
    for package in (attn_blocks, attn_book):
        root = File(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            parts = [package.__name__, *path.relative_to(root).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the packages that it imports, at its top or inside a function."""
    known = modules()
    return {name: _imported(path, known) - {name} for name, path in known.items()}


def _imported(path: File, known: Iterable[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}: relative imports hide where they lead")
            # "from package import module" names the module, "from module import name" does not.
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else node.module)
    return found.intersection(known)


def room_of(module: str) -> str:
    """The room that a module lies in."""
    holds = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    return max(holds, key=len)


def between_rooms(graph: Mapping[str, set[str]]) -> Counter[tuple[str, str]]:
    """(room, room it imports from) -> how many imports, given those of the modules."""
    pairs = [(a, b) for a, imported in graph.items() for b in imported if not {a, b} & ENTRANCES]
    counts = Counter((room_of(a), room_of(b)) for a, b in pairs)
    return Counter({rooms: count for rooms, count in counts.items() if rooms[0] != rooms[1]})


def draw(counts: Mapping[tuple[str, str], int]) -> Figure:
    """The rooms on a diagonal, the first at the bottom, with the numbers of imports between them.

    A line leaves each room sideways, and an arrow enters it from those that import it: from above,
    as long as imports go downwards only.
    """
    last = len(ROOMS) - 1
    places = {room: (COLUMN * (last - i), ROW * i) for i, room in enumerate(ROOMS)}
    figure = plt.figure(figsize=(COLUMN * last + 1.3, ROW * last + 0.7), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.65, COLUMN * last + 0.65), ylim=(-0.35, ROW * last + 0.35))
    axis.axis("off")
    for package, colour in PACKAGES.items():
        inside = [place for room, place in places.items() if f"{room}.".startswith(f"{package}.")]
        _draw_package(axis, package, colour, inside)
    for room, (x, y) in places.items():
        columns = [x, *(places[imported][0] for importer, imported in counts if importer == room)]
        axis.plot([min(columns), max(columns)], [y, y], color=LINE, linewidth=0.9, zorder=1)
        rows = [y, *(places[importer][1] for importer, imported in counts if imported == room)]
        for row in {min(rows), max(rows)} - {y}:
            _draw_arrow(axis, (x, row), (x, y))
        _draw_room(axis, room, (x, y))
    for (importer, imported), count in counts.items():
        _draw_number(axis, count, (places[imported][0], places[importer][1]))
    return figure


def _draw_package(axis: plt.Axes, package: str, colour: str, places: list[Place]) -> None:
    (right, bottom), *_, (left, top) = places
    left, right, bottom, top = left - 0.6, right + 0.6, bottom - ROW / 2, top + ROW / 2
    axis.add_patch(Rectangle((left, bottom), right - left, top - bottom, color=colour, zorder=0))
    axis.text(left + 0.1, bottom + 0.1, package, fontsize=11, weight="bold", color=LINE)


def _draw_room(axis: plt.Axes, room: str, place: Place) -> None:
    corner = (place[0] - BOX[0] / 2, place[1] - BOX[1] / 2)
    style = "round,pad=0,rounding_size=0.06"
    axis.add_patch(FancyBboxPatch(corner, *BOX, boxstyle=style, fc="white", ec=LINE, zorder=3))
    name = room.partition(".")[2] or "root"
    axis.text(*place, name, fontsize=10, ha="center", va="center", zorder=4, gid=room)


def _draw_arrow(axis: plt.Axes, start: Place, end: Place) -> None:
    edge = end[1] + math.copysign(BOX[1] / 2, start[1] - end[1])
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0}
    path = Path([start, (end[0], edge)])
    axis.add_patch(FancyArrowPatch(path=path, color=LINE, linewidth=0.9, zorder=1, **style))


def _draw_number(axis: plt.Axes, count: int, place: Place) -> None:
    hole = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": "none"}
    style = {"fontsize": 9, "color": NUMBER, "ha": "center", "va": "center", "bbox": hole}
    axis.text(*place, str(count), zorder=2, **style)
