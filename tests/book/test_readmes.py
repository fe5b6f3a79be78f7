"""The README in Chinese says what the English one says."""

import re

import pytest

from attn_blocks.files import PROJECT

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENGLISH, CHINESE = "README.md", "README.zh.md"


def written(name):
    """What is written by hand: all but the results."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    before, rest = text.split("<!-- results: made by make book -->")
    return before + rest.split("<!-- end of results -->")[1]


def commands(text):
    """The lines of the code blocks, without comments and what stands beside a file's name."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [re.split(r"(?<=\S)  +|  # ", line)[0] for line in lines]


@pytest.fixture
def markup(book):
    def of(text):
        """Blocks in their order, links, code, formulas, and how often there are bold words."""
        return book("translations").markup(FENCE.sub("", text))

    return of


def test_they_have_the_same_commands():
    assert "make reproduce-all" in commands(written(ENGLISH))
    assert commands(written(CHINESE)) == commands(written(ENGLISH))


def test_they_have_the_same_headings_tables_links_and_code(markup):
    english, chinese = markup(written(ENGLISH)), markup(written(CHINESE))
    assert {"book/errors.md", "book/launch.md", "data/README.md"} <= english["links"]
    each_other = {CHINESE}, {ENGLISH}
    english["links"], chinese["links"] = (
        found["links"] - other for found, other in zip((english, chinese), each_other, strict=True)
    )
    assert chinese == english


def test_each_leads_to_the_other_in_its_first_lines():
    for name, link in ((ENGLISH, "[中文](README.zh.md)"), (CHINESE, "[English](README.md)")):
        assert link in (PROJECT / name).read_text(encoding="utf-8").splitlines()[:3]


def test_a_difference_would_be_seen(markup):
    text = written(CHINESE)
    for part, other in (("## 平台", "平台"), ("`make doctor`", "doctor"), ("](data/", "](")):
        assert markup(text.replace(part, other)) != markup(text)
    assert commands(text.replace("make test ", "make check ")) != commands(text)


def test_no_file_that_they_link_to_is_missing():
    for name in (ENGLISH, CHINESE):
        for target in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", written(name)):
            assert (PROJECT / target).exists(), target
