"""The page of sources: whoever is judged or compared with is on it, and the pages cite it."""

import importlib
import json
import re

import pytest

from attn_blocks.files import PROJECT
from attn_blocks.layers import ATTNS
from attn_book.analysis import reference
from attn_book.records import semantics
from attn_book.study.claims import CLAIMS, REPORTED
from attn_book.study.gains import GAINS, UNKNOWN, published_gain
from attn_book.study.pages import OVERVIEW, PAGES

SOURCES = (PROJECT / "book" / "sources.md").read_text(encoding="utf-8")
# Page -> the write-ups that it judges.
JUDGED = {
    "01_se": {"senet", "srm"},
    "02_ge": {"srm"},
    "03_srm": {"srm"},
    "04_sge": {"sge"},
    "05_sa": {"sa"},
    "06_nl": {"nonlocal"},
    "07_gc": {"nonlocal"},
    "08_bat": {"nonlocal"},
}


def prose(page):
    notebook = json.loads((PROJECT / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def section(title):
    return re.split(r"\n#+ ", SOURCES.split(f"# {title}\n")[1])[0]


def test_every_page_of_a_block_of_the_book_is_here():
    assert set(JUDGED) == {page for page in PAGES if page.partition("_")[2] in semantics.BLOCKS}


@pytest.mark.parametrize("page", JUDGED)
def test_a_page_cites_the_write_ups_that_it_judges_as_they_are_printed(page):
    cited = re.findall(r"\[([^\]]+)\]\(sources\.md#write-up-(\w+)\)", prose(page))
    first = {name: text for text, name in reversed(cited)}
    assert set(first) == JUDGED[page]
    for name, text in first.items():
        entry = section(f"Write-up {name}")
        assert f"({page}.ipynb)" in entry
        for title in re.findall(r"\*(.+?)\*", text):
            assert f"*{title}*" in entry
        dates = re.findall(r"\d{4}-\d\d-\d\d", text)
        assert dates == re.findall(r"\d{4}-\d\d-\d\d", entry)
        author = re.search(r"Author: (\S+?)[.,](?: |\n|$)", entry)
        assert author[1] in text if author else "names no author" in text


def test_the_accuracies_are_those_that_the_claims_are_made_of():
    text = "".join(section(f"Write-up {name}") for name in set().union(*JUDGED.values()))
    printed = {float(number) for number in re.findall(r"\b0\.\d{4}\b", text)}
    assert printed == {*REPORTED.values(), 0.8805}  # the best epoch of SENet


def test_every_code_that_was_recorded_is_named_with_its_commit():
    for path in reference.files(reference.SHIPPED):
        source = reference.meta_of(path)["source"]
        rows = [line for line in SOURCES.splitlines() if f"[{source['repo']}]" in line]
        assert len(rows) == 1, source["repo"]
        assert source["commit"].split(" (")[0] in rows[0]


def test_every_paper_and_repository_that_a_block_of_the_book_names_is_on_the_page():
    for block in (ATTNS[name] for name in semantics.BLOCKS):
        text = importlib.import_module(block.__module__).__doc__
        for named in re.findall(r"arXiv (\d{4}\.\d{5})|(https://github\.com/[\w.-]+/[\w-]+)", text):
            assert "".join(named) in SOURCES, (block.__module__, named)
        authors = re.search(r"Paper: .+?, ((?:[A-Z][a-z]+,\s)+[A-Z][a-z]+),", text, re.DOTALL)
        assert " ".join(authors[1].split()) in SOURCES, authors[1]


def test_every_block_has_a_gain_with_its_source_or_the_reason_why_not():
    blocks = {claim.better: claim for claim in CLAIMS if claim.worse == "ResNet-50"}
    blocks = {title: claim for title, claim in blocks.items() if title.endswith("-ResNet-50")}
    known = {gain.block for gain in GAINS if gain.is_own}
    assert known | set(UNKNOWN) == set(blocks) and not known & set(UNKNOWN)
    for title, claim in blocks.items():
        assert claim.paper == published_gain(title)
    for gain in GAINS:
        assert 0 < gain.points < 2 and gain.url.startswith("https://") and gain.source
        assert gain.recipe and (gain.baseline is None or 70 < gain.baseline < 80)


@pytest.mark.parametrize("page", JUDGED)
def test_a_page_prints_a_gain_on_imagenet_with_its_source_or_none(page):
    text = prose(page)
    titles = {e.title for part in PAGES[page] for e in part.entries}
    (block,) = (t for t in titles if t.lower() == f"{page.split('_')[1]}-resnet-50")
    gain = published_gain(block)
    printed = set(re.findall(r"\+\d\.\d\d points \([^;)]+", text))
    on_imagenet = [s for s in re.split(r"[.?:]\s", text) if "ImageNet" in s]
    assert len(re.findall(r"\d\.\d+ points", " ".join(on_imagenet))) == len(printed)
    expected = set() if gain is None else {f"{gain.points:+.2f} points ({gain.source}"}
    assert printed == expected
    if gain is not None:
        assert "sources.md#what-they-gain-on-imagenet" in text


def test_the_range_of_gains_is_that_of_the_table():
    own = [gain.points for gain in GAINS if gain.is_own]
    sentence = f"lie between {min(own):.1f} and {max(own):.1f} points"
    assert sentence in (PROJECT / "book" / "index.md").read_text(encoding="utf-8")
    assert sentence in prose(OVERVIEW)
