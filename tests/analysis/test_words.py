"""Numbers and names in sentences."""

import pytest

from attn_book.analysis import words


@pytest.mark.parametrize(
    ("name", "place", "short"),
    [
        ("layer1.0.attn", "stage 1, block 1", "1.1"),
        ("layer4.2.attn", "stage 4, block 3", "4.3"),
        ("layer2.nl1", "stage 2, after block 2", "after 2.2"),
        ("blocks.8.attn", "block 9", "9"),
        ("b3.2", "b3.2", "b3.2"),
    ],
)
def test_blocks_are_named_by_their_place_counted_from_1(name, place, short):
    assert words.place(name) == place
    assert words.short_place(name) == short


def test_lists_counts_and_spans_read_as_english():
    assert [words.listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert words.counted(1, "run") == "1 run"
    assert words.counted(1412, "image") == "1,412 images"
    assert words.span([0.501, 0.4989, 0.5], ".2f") == "0.50"
    assert words.span([3, 1, 2], "d") == "1 to 3"
    assert (words.points(-0.04), words.points(-1.26)) == ("+0.0 points", "-1.3 points")


def test_a_single_line_is_a_paragraph_and_several_are_a_list():
    assert words.Finding((("", "a_b"),))._repr_markdown_() == r"a\_b"
    two = words.Finding((("", "a"), ("X", "b")))
    assert two._repr_markdown_() == "* a\n* **X:** b"
    assert str(two) == "a\nX: b"
