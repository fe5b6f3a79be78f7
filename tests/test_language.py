"""The language of pages and figures, and the catalogues of the code's messages."""

import importlib
import sys
from dataclasses import fields

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from nbformat import NotebookNode

from attn_blocks.errors import SettingError
from attn_blocks.files import PROJECT
from attn_book import language
from attn_book.analysis import judgement, lettering, tables, verdicts, words
from attn_book.analysis.diagrams import block_diagram
from attn_book.driver.numbers import other_numbers
from attn_book.driver.summary import write_summary
from attn_book.language import CHINESE, ENGLISH, VARIABLE, _, say, speaking
from attn_book.study.claims import CLAIMS
from attn_book.study.experiment import Recipe


@pytest.fixture
def messages(monkeypatch):
    """``book/messages.py``, imported as ``make lint`` runs it."""
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    return importlib.import_module("messages")


@pytest.fixture
def catalogues(messages):
    return messages.catalogues


def test_english_is_spoken_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert language.language() == ENGLISH
    monkeypatch.setenv(VARIABLE, "")  # a make variable that was not given
    assert (language.language(), _("block {block}")) == (ENGLISH, "block {block}")
    monkeypatch.setenv(VARIABLE, CHINESE)
    assert language.language() == CHINESE


def test_an_unknown_language_is_refused_with_the_names_of_those_that_exist(monkeypatch):
    monkeypatch.setenv(VARIABLE, "fr")
    with pytest.raises(SettingError, match="BOOK_LANGUAGE is 'fr'; choose one of: en, zh_CN"):
        _("x")
    with pytest.raises(SettingError), speaking("de"):
        pass
    assert language.os.environ[VARIABLE] == "fr"


def test_a_message_without_a_translation_stays_english():
    with speaking(CHINESE):
        assert say("no catalogue has {this}", this=1) == "no catalogue has 1"


def test_sentences_are_chinese_while_chinese_is_spoken():
    with speaking(CHINESE):
        assert words.listed(["SE", "GE", "SRM"]) == "SE、GE、SRM"
        assert words.counted(2, "epoch") == "2 轮"
        assert words.points(-1.26) == "-1.3 个百分点"
        assert words.place("layer1.0.attn") == "第 1 阶段第 1 块"
    assert words.points(-1.26) == "-1.3 points"


def test_no_space_is_left_between_chinese_words(monkeypatch):
    entries = {"It stands in {place}, {points}.": "位于 {place} ， {points} 。"}
    monkeypatch.setattr(language, "catalogue", lambda chosen: entries)
    with speaking(CHINESE):
        found = say("It stands in {place}, {points}.", place="第 1 阶段", points="+1.0 个百分点")
    assert found == "位于第 1 阶段，+1.0 个百分点。"


def test_what_lint_names(messages, catalogues, tmp_path):
    path = tmp_path / "attn_book.po"
    known = ["{points} points", "gone", "worn {a}"]
    catalogues.merge(known, path, CHINESE)
    text = path.read_text(encoding="utf-8")
    for english, chinese in zip(known, ("{points} 分", "没了", "旧的 {b}"), strict=True):
        text = text.replace(
            f'msgid "{english}"\nmsgstr ""', f'msgid "{english}"\nmsgstr "{chinese}"'
        )
    path.write_text(text, encoding="utf-8")
    said = ["{points} points", "worn {a}", "new"]
    assert messages.problems(catalogues.read(path, CHINESE), said) == [
        "no code has it: gone",
        "not translated: new",
        "other placeholders than the English: worn {a}",
    ]
    catalogues.merge(said, path, CHINESE)
    assert "gone" not in path.read_text(encoding="utf-8")
    assert "{points} 分" in path.read_text(encoding="utf-8")


def test_an_update_without_a_change_changes_nothing(messages, catalogues, tmp_path):
    path = tmp_path / "attn_book.po"
    path.write_bytes(language.catalogue_path(CHINESE).read_bytes())
    catalogues.merge(messages.extracted(), path, CHINESE)
    assert path.read_bytes() == language.catalogue_path(CHINESE).read_bytes()


def test_every_letter_of_the_translations_is_in_a_font_of_the_figures():
    with speaking(CHINESE), lettering.lettering():
        names = matplotlib.rcParams["font.family"]
    paths = [font_manager.findfont(name, fallback_to_default=False) for name in names]
    known = set().union(*(FT2Font(path).get_charmap() for path in paths))
    letters = {ord(letter) for text in language.catalogue(CHINESE).values() for letter in text}
    assert len(letters) > 500
    assert {chr(letter) for letter in letters - known} == {"\n"}


def test_without_a_font_figures_are_lettered_in_english(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pylopdf_fonts_zh_cn", None)
    monkeypatch.setattr(lettering, "INSTALLED", ())
    lettering.chinese_font.cache_clear()
    with speaking(CHINESE):
        with lettering.lettering():
            assert _("channel") == "channel"
        assert _("channel") == "通道"
        figure = block_diagram("se")
    assert "pip install pylopdf-fonts-zh-cn" in caplog.text and len(caplog.records) == 1
    assert "has parameters" in [text.get_text() for text in figure.findobj(plt.Text)]
    assert "卷积" in figure.get_label()
    lettering.chinese_font.cache_clear()
    plt.close(figure)


def test_recipe_settings_all_have_a_name_that_can_be_translated():
    names = {field.name.replace("_", " ") for field in fields(Recipe)}
    assert names == set(tables.SETTINGS)


def test_tables_for_machines_stay_english(tmp_path):
    with speaking(CHINESE):
        write_summary(tmp_path, [])
        claim = CLAIMS[3]
        verdict = judgement.Verdict(claim, True, "points", "1 of 5 folds", "better")
        assert verdicts.outcome(verdict) == "更好"
        assert verdict.in_full == "better"
    assert (tmp_path / "verdicts.csv").read_text(encoding="utf-8").startswith("claim,family")


def test_numbers_are_told_apart_from_the_marks_around_them():
    english = "ResNet-50, 1,412 images in stage 1, 0.50."
    chinese = "ResNet-50，第 1 阶段，1,412 张图像，0.50。"
    cells = [
        NotebookNode(cell_type="code", metadata={}, source="x", outputs=[NotebookNode(text=text)])
        for text in (english, chinese, chinese.replace("0.50", "0.60"))
    ]
    pages = [NotebookNode(cells=[cell]) for cell in cells]
    assert other_numbers(pages[0], pages[1]) == []
    [problem] = other_numbers(pages[0], pages[2])
    assert problem == "shows other numbers than in English (0.50, 0.60), from: x"
    for cell, rest in zip(cells, ("4.4e-16", "4.4e-16", "5.6e-16"), strict=True):
        cell.outputs = [NotebookNode(text=f"largest difference {rest}")]
    assert other_numbers(pages[0], pages[2]) == []
    for cell, size in zip(cells, ("4e-5", "4e-5", "5e-5"), strict=True):
        cell.outputs = [NotebookNode(text=f"decay {size}")]
    assert len(other_numbers(pages[0], pages[2])) == 1
    for cell in cells:
        cell.source = "cost.table(page)"  # measures time
    assert other_numbers(pages[0], pages[2]) == []
