"""The reproducibility checklist: every question answered, by files and commands that exist."""

import re

from attn_blocks.files import PROJECT
from attn_book.driver import cli

ANSWERS = ("Yes", "Partly", "No", "Not applicable")
# How many questions version 2.0 asks in each of its parts.
QUESTIONS = {"Models and algorithms": 3, "Theory": 2, "Data": 5, "Code": 5, "Results": 6}


def rows():
    """(part, question, answer) of the page."""
    text = (PROJECT / "book" / "checklist.md").read_text(encoding="utf-8")
    for part in text.split("\n## ")[1:]:
        title, _, items = part.partition("\n")
        for question, answer in re.findall(r"^\* \*(.+?\?)\* (.+)$", items, re.MULTILINE):
            yield title, question, answer


def test_every_question_has_an_answer():
    found = list(rows())
    titles = [title for title, _, _ in found]
    assert {title: titles.count(title) for title in titles} == QUESTIONS
    for _, question, answer in found:
        assert re.match(rf"\*\*({'|'.join(ANSWERS)})[.,]?\*\*", answer), question
        assert not answer.startswith("**Yes") or re.search(r"\]\(|`", answer), question


def test_answers_name_files_and_commands_that_exist():
    named = [name for _, _, answer in rows() for name in re.findall(r"`([^`]+)`", answer)]
    commands = [name for name in named if " " in name]
    for name in set(named) - set(commands) - {"summary.csv"}:
        assert (PROJECT / name).exists(), name
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for command in commands:
        tool, name, *options = command.split()
        if tool == "make":
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), command
        else:
            assert tool == "attn-book", command
            cli._parser().parse_args([name, "image.png", *options, "resnet50"])
