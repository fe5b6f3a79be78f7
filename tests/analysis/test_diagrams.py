"""The blocks' diagrams: complete, connected, and nothing in them covers anything else."""

from dataclasses import replace

import pytest

from attn_blocks.errors import SettingError
from attn_blocks.layers import ATTNS
from attn_book.analysis.diagrams import DIAGRAMS, block_diagram, plain_diagram
from attn_book.analysis.drawing import draw
from attn_book.analysis.placements import PLACES, placement_diagram
from attn_book.language import CHINESE, LANGUAGES, speaking
from attn_book.records import semantics


@pytest.fixture
def faults(covered):
    """What overlaps, sticks out of its box or is cut off in the drawing of a diagram."""
    return lambda diagram: _faults(draw(diagram), diagram, covered)


def _faults(figure, diagram, covered):
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    axis = figure.axes[0]
    shapes = {
        p.get_gid().removeprefix("node-"): p.get_window_extent(renderer)
        for p in axis.patches
        if p.get_gid()
    }
    found, free = [], [("legend", axis.get_legend().get_window_extent(renderer))]
    for text in axis.texts:
        extent, key = text.get_window_extent(renderer), (text.get_gid() or "").removeprefix("text-")
        if not text.get_text():
            continue
        if key in shapes:
            box = shapes[key]
            if not (box.x0 < extent.x0 and extent.x1 < box.x1 and extent.height < box.height):
                found.append(f"{text.get_text()!r} sticks out of its box")
        else:
            free.append((text.get_text(), extent))
    found += [f"{a!r} covers {b!r}" for a, b in covered([*shapes.items(), *free])]
    canvas = figure.bbox
    found += [
        f"{name!r} is cut off"
        for name, e in [*shapes.items(), *free]
        if e.x0 < 0 or e.y0 < 0 or e.x1 > canvas.x1 or e.y1 > canvas.y1
    ]
    drawn = {k for k, node in diagram.nodes.items() if node.kind != "word"}
    return found + [f"{key} is not drawn" for key in drawn - shapes.keys()]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", DIAGRAMS)
def test_every_box_of_a_diagram_is_drawn_and_nothing_covers_anything(name, language, faults):
    with speaking(language):
        assert faults(DIAGRAMS[name]) == []
        assert block_diagram(name).get_size_inches()[0] < 10  # readable at 700 pixels


@pytest.mark.parametrize("name", PLACES)
def test_where_a_block_stands_is_drawn(name, faults):
    assert faults(PLACES[name]) == []
    with speaking(CHINESE):
        assert faults(PLACES[name]) == []
    figure = placement_diagram(name)
    assert figure.get_size_inches()[0] < 10
    [block] = [text for text in figure.axes[0].texts if text.get_gid() == "text-attn"]
    join = PLACES[name].nodes["join"]
    assert (block.get_position()[0] < join.x) == (name == "inside")
    assert PLACES[name].title in figure.get_label()
    with pytest.raises(SettingError, match="between"):
        placement_diagram("before")


def test_a_bad_diagram_is_noticed(faults):
    good = DIAGRAMS["se"]
    moved = {**good.nodes, "fc1": replace(good.nodes["fc1"], x=good.nodes["fc2"].x)}
    assert any("covers" in fault for fault in faults(replace(good, nodes=moved)))
    wordy = {**good.nodes, "fc1": replace(good.nodes["fc1"], text="far too long for its box")}
    assert any("sticks out" in fault for fault in faults(replace(good, nodes=wordy)))


@pytest.mark.parametrize("name", [*DIAGRAMS, *PLACES])
def test_everything_in_a_diagram_lies_on_a_way_from_x_to_y(name):
    def reached(start, ways):
        seen, edge = {start}, {start}
        while edge := {b for a, b in ways if a in edge} - seen:
            seen |= edge
        return seen

    diagram = {**DIAGRAMS, **PLACES}[name]
    ways = [(arrow.start, arrow.end) for arrow in diagram.arrows]
    nodes = set(diagram.nodes)
    assert reached("x", ways) == nodes
    assert reached("y", [(b, a) for a, b in ways]) == nodes


def test_every_block_of_the_book_has_a_diagram():
    assert set(DIAGRAMS) == set(semantics.BLOCKS)
    with pytest.raises(SettingError, match="sge"):
        block_diagram("sgee")


def test_a_block_without_a_diagram_is_one_box_with_its_name(monkeypatch, faults):
    class Mine:
        pass

    monkeypatch.setitem(ATTNS, "mine", Mine)
    [text] = [t for t in block_diagram("mine").axes[0].texts if t.get_gid() == "text-block"]
    assert text.get_text() == "Mine"
    for title in ("SE", "AVeryLongNameOfABlock"):
        assert faults(plain_diagram(title)) == []
