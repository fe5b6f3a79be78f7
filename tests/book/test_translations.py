"""The catalogues of the pages' prose: what is taken into them, merged, and missed."""

import nbformat
import pytest
from babel.messages.catalog import Catalog

from attn_blocks.files import PROJECT

LANGUAGE = "zh_CN"


@pytest.fixture(scope="module")
def said():
    """Page -> its messages, of the book as it is."""
    pytest.importorskip("sphinx", reason="the site is built with Sphinx; pip install '.[book]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "book"))
        import translations

        return translations.messages()


@pytest.fixture
def translations(book, tmp_path, monkeypatch):
    """The module, with catalogues of its own that are empty."""
    module = book("translations")
    monkeypatch.setattr(module, "LOCALE", tmp_path)
    return module


def translate(module, page, words):
    """Fill in a page's catalogue."""
    catalogue = module.read(page, LANGUAGE)
    for message in catalogue:
        if message.id in words:
            message.string = words[message.id]
    module.write(catalogue, LANGUAGE, module.path_of(page, LANGUAGE))


def test_every_page_has_messages(said):
    pages = {*PROJECT.glob("book/*.md"), *PROJECT.glob("notebooks/*.ipynb")}
    assert {path.stem for path in pages} == set(said)
    assert all(said.values())


def test_headings_paragraphs_lists_tables_images_and_labels_are_taken(said):
    assert "How to read this book" in said["method"]
    assert any(text.startswith("**the same recipe**: optimiser") for text in said["method"])
    assert "the simultaneous 95% interval lies on one side of zero" in said["method"]
    assert any(text.startswith("The rooms of the two packages") for text in said["architecture"])
    assert "The blocks" in said["index"]  # over a part of the contents
    assert any("never committed" in text for text in said["data"])  # of the data folder's README
    assert {"Solution", "Solution 1: code and output", "Hide it"} <= {*said["04_sge"]}


def test_formulas_numbers_code_and_docstrings_are_left_out(said):
    texts = {text for page in said.values() for text in page}
    assert not any(text.startswith("\\mathbf") or "Layer that" in text for text in texts)
    assert not texts & {"26,179", "`animals10`", "–"}
    assert "Parameters" not in said["api"]


def test_a_page_is_checked_from_its_first_translation_on(translations):
    said = {"a": ["one", "two"], "b": ["three"]}
    translations.update(said, LANGUAGE)
    assert translations.check(said, LANGUAGE) == ([], [])
    translate(translations, "a", {"one": "一"})
    assert translations.check(said, LANGUAGE) == (["a"], ["zh_CN/a.po: not translated: two"])
    translate(translations, "a", {"two": "二"})
    assert translations.check(said, LANGUAGE) == (["a"], [])
    said["a"].append("four")
    assert translations.check(said, LANGUAGE) == (["a"], ["zh_CN/a.po: new: four"])


def test_changed_english_keeps_its_translation_until_it_is_looked_at(translations):
    long = "The recipe of a task is set for the plain network and then used for all. " * 5
    translations.update({"a": [long, "gone"]}, LANGUAGE)
    translate(translations, "a", {long: "译文", "gone": "旧"})
    changed = {"a": [long.replace("plain", "same")]}
    translations.update(changed, LANGUAGE)
    [message] = [message for message in translations.read("a", LANGUAGE) if message.id]
    assert message.fuzzy and message.string == "译文"
    text = translations.path_of("a", LANGUAGE).read_text(encoding="utf-8")
    assert "#| msgid" in text and "gone" not in text
    assert translations.translator("a", LANGUAGE)(changed["a"][0]) == changed["a"][0]
    _, [line] = translations.check(changed, LANGUAGE)
    assert line.startswith("zh_CN/a.po: changed: The recipe")


def test_an_update_changes_nothing_that_did_not_change(translations):
    said = {"a": ["100% of {these}", 'a *b* \\ "c"', "z", "y"]}
    translations.update(said, LANGUAGE)
    path = translations.path_of("a", LANGUAGE)
    before = path.read_bytes()
    translations.update(said, LANGUAGE)
    assert path.read_bytes() == before
    assert b"python-format" not in before and b"Date" not in before
    assert [message.id for message in translations.read("a", LANGUAGE) if message.id] == said["a"]
    translations.update({"b": ["x"]}, LANGUAGE)
    assert not path.exists()


@pytest.mark.parametrize(
    ("english", "chinese", "fault"),
    [
        ("**No:** see [x](a.md) and `b`", "**不。** 见 `b` 和 [某](a.md)", None),
        ("**No:** see", "**不：**见", "bold words and marks"),
        ("see [x](a.md)", "见 [某](b.md)", "links"),
        ("`a` is", "`b` 是", "code"),
        ("$a$ is", "$b$ 是", "formulas"),
        ("one", "# 一", "paragraphs"),
    ],
)
def test_a_translation_keeps_the_markup(book, english, chinese, fault):
    catalogue = Catalog(LANGUAGE)
    found = book("translations").fault_of(catalogue.add(english, chinese))
    assert found == (fault and f"{fault} differ from the English")


def test_what_unfolds_a_notebooks_parts_is_translated(book):
    cell = nbformat.v4.new_markdown_cell("<details>\n<summary>Solution</summary>\n\nIt is 2.")
    folded = nbformat.v4.new_code_cell("2", metadata={"mystnb": {"code_prompt_show": "Show it"}})
    notebook = nbformat.v4.new_notebook(cells=[cell, folded])
    words = {"Solution": "解答", "Show it": "显示"}
    assert book("translations").labels(notebook) == list(words)
    book("translations").relabel(notebook, words.get)
    assert "<summary>解答</summary>\n\nIt is 2." in notebook.cells[0].source
    assert notebook.cells[1].metadata["mystnb"]["code_prompt_show"] == "显示"
