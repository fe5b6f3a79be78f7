"""The page of errors quotes what is really printed, and the READMEs lead to it."""

import ast
import errno
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from attn_blocks.files import PROJECT

PAGE = PROJECT / "book" / "errors.md"
VALUE = "\0"  # stands for whatever a message is filled in with
PIP = find_spec("pip")  # None in an environment that uv has made
OF_PIP = "Could not find a version that satisfies the requirement"
MAKE = r"\$+\((?:[^()]|\([^()]*\))*\)"  # a variable, or a command of the shell; one level nested


def constants(trees):
    """Name -> text of the modules' constants, which messages share."""
    return {
        node.targets[0].id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def template(node, known):
    """The text of a string in the code, with VALUE in place of each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, known) for part in node.values)
    name = getattr(node.value, "id", None) if isinstance(node, ast.FormattedValue) else None
    return known.get(name, VALUE)


def printed():
    """Every message that this project's code and Makefile, Python, and pip can print."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (PROJECT / "src").rglob("*.py")]
    known = constants(trees)
    if PIP:
        pip = Path(PIP.origin).parent / "_internal" / "resolution"
        trees += [ast.parse(path.read_text("utf-8")) for path in pip.rglob("*.py")]
    texts = [
        re.sub(r"%[sdr]", VALUE, template(node, known))
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr)
    ]
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    makefile = re.sub(r'" \\\n\s*"', " ", makefile)  # a text that goes on in the next line
    texts += re.findall(r'echo "([^"]+)"', re.sub(MAKE, VALUE, makefile))
    texts.append(f"[Errno {VALUE}] {os.strerror(errno.EADDRINUSE)}")
    return [" ".join(text.removeprefix("error: ").split()) for text in texts]


def quoted():
    """The messages that the page quotes, each in a block of its own."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    messages = [" ".join(text.split()) for language, text in blocks if language == "text"]
    return [re.sub(r"^\w*error: ", "", message, flags=re.IGNORECASE) for message in messages]


def says(text, message):
    """Whether a text of the code is the message: alike but for the values, and these in <...>.

    One <...> may stand for several values with a word or two between them.
    """
    fixed = map(re.escape, re.split(r"<[^>]+>", message))
    return re.fullmatch(rf"{VALUE}(?:[\w ]{{0,20}}{VALUE})*".join(fixed), text) is not None


@pytest.fixture(scope="module")
def texts():
    return printed()


def test_there_are_enough_of_them():
    assert len(quoted()) >= 20
    assert len(set(quoted())) == len(quoted())


@pytest.mark.parametrize("message", quoted())
def test_every_message_is_printed_as_it_is_quoted(texts, message):
    if message.startswith(OF_PIP) and not PIP:
        pytest.skip("pip, which prints it, is not installed here")
    assert any(says(text, message) for text in texts)


def test_a_message_that_was_changed_would_be_seen(texts):
    changed = [message.replace(" the ", " a ") for message in quoted() if " the " in message]
    assert changed
    assert not any(says(text, message) for text in texts for message in changed)
    assert says(f"no room for {VALUE}: {VALUE} of {VALUE}", "no room for <file>: <needed>")
    assert not says(f"no room for {VALUE}: {VALUE}, {VALUE} free", "no room for <file>: <needed>")


def test_every_error_says_what_it_means_and_what_to_do():
    sections = re.split(r"^### ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    for section in sections:
        title, _, rest = section.partition("\n")
        words = re.sub(r"^```.*?^```$", "", rest, flags=re.MULTILINE | re.DOTALL)
        assert "```text\n" in rest and len(words.split()) > 15, title


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readmes_lead_to_the_page(readme):
    assert "](book/errors.md)" in (PROJECT / readme).read_text("utf-8")
