"""The rooms of the two packages: imports go downwards only, and so do the arrows of the drawing."""

import importlib
import re

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch

from attn_blocks.files import PROJECT


@pytest.fixture
def rooms(monkeypatch):
    """``book/rooms.py``, imported as the build does."""
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    return importlib.import_module("rooms")


def test_imports_go_downwards_only(rooms):
    graph = rooms.imports()
    assert len(graph) > 50
    for module, imported in graph.items():
        if module in rooms.ENTRANCES:
            continue
        height = rooms.ROOMS.index(rooms.room_of(module))
        for other in imported - rooms.ENTRANCES:
            assert rooms.ROOMS.index(rooms.room_of(other)) <= height, f"{module} -> {other}"


def test_there_is_no_circle(rooms):
    graph, done, path = rooms.imports(), set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            path.append(module)
            for other in sorted(graph[module]):
                visit(other)
            done.add(path.pop())

    for module in graph:
        visit(module)


def test_every_folder_of_the_packages_is_a_room(rooms):
    folders = {
        f"{package}.{path.parent.name}"
        for package in rooms.PACKAGES
        for path in (PROJECT / "src" / package).glob("*/__init__.py")
    }
    assert folders | {"attn_blocks", "attn_book.language"} == set(rooms.ROOMS)


def heights(figure):
    """Where each arrow of a drawing starts and ends."""
    lines = [arrow.get_path().vertices[:2] for arrow in figure.findobj(FancyArrowPatch)]
    return [(start[1], end[1]) for start, end in lines]


def test_the_drawing_has_every_room_and_no_upward_arrow(rooms):
    counts = rooms.between_rooms(rooms.imports())
    figure = rooms.draw(counts)
    assert {text.get_gid() for text in figure.findobj(plt.Text)} >= set(rooms.ROOMS)
    entered = {imported for _, imported in counts}
    assert len(heights(figure)) == len(entered)
    assert all(start > end for start, end in heights(figure))
    plt.close(figure)


def test_an_upward_import_would_be_seen(rooms):
    figure = rooms.draw({("attn_blocks.layers", "attn_book.study"): 1})
    [(start, end)] = heights(figure)
    assert start < end
    plt.close(figure)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "book/architecture.md"])
def test_every_room_has_its_line(rooms, page):
    text = (PROJECT / page).read_text(encoding="utf-8")
    for room in rooms.ROOMS:
        name = room.partition(".")[2] or "root"
        assert re.search(rf"^(\* \*\*|  ){name}\b", text, re.MULTILINE), room
