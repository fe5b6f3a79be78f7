"""The language of pages and figures, and the catalogues of the code's messages."""

import importlib

import pytest

from attn_blocks.errors import SettingError
from attn_blocks.files import PROJECT
from attn_book import language
from attn_book.analysis import words
from attn_book.language import CHINESE, ENGLISH, VARIABLE, _, say, speaking


@pytest.fixture
def messages(monkeypatch):
    """``book/messages.py``, imported as ``make lint`` runs it."""
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    return importlib.import_module("messages")


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
        assert words.listed(["SE", "GE", "SRM"]) == "SE、GE 和 SRM"
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
