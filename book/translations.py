"""The prose of the pages in other languages: ``python book/translations.py check`` or ``update``.

Sphinx takes the messages from the pages of this folder and from ``notebooks/``, not from executed
copies, so that a catalogue changes with the prose alone. A page has one catalogue,
``locale/<language>/LC_MESSAGES/<page>.po``, with its messages in the order of the page. What is
made from records, docstrings and code has none: it is generated in its language.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from conf import myst_enable_extensions
from docutils import nodes
from myst_parser.config.main import MdParserConfig
from myst_parser.mdit_to_docutils.base import DocutilsRenderer
from myst_parser.parsers.mdit import create_md_parser
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace
from sphinx.util.nodes import extract_messages

from attn_blocks.files import PROJECT, atomic_write

BOOK = Path(__file__).resolve().parent
LOCALE = BOOK / "locale"
NOTEBOOKS = PROJECT / "notebooks"
LANGUAGES = ("zh_CN",)
OF_TOOLS = "sphinx"  # the catalogue of Sphinx's own words, kept by hand
# What the site includes from elsewhere: records and docstrings, but for the data folder's README.
INCLUDED = re.compile(r"^```\{(include\} records/(?!data\.md)|eval-rst\}).*?^```$", re.M | re.S)
CODE_OR_FORMULA = re.compile(r"(`+).+?\1|\$.+?\$", re.S)
WORD = re.compile(r"[^\W\d_]{2}")
MARKDOWN = create_md_parser(
    MdParserConfig(enable_extensions=myst_enable_extensions), DocutilsRenderer
)
SUMMARY = re.compile(r"(?<=<summary>).*?(?=</summary>)")
HEADER = """msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the catalogues, or merge what the pages say now into them; return the exit code."""
    parser = argparse.ArgumentParser(description="Check or update the pages' translations")
    parser.add_argument("command", choices=("check", "update"))
    options = parser.parse_args(arguments)
    found = messages()
    if options.command == "update":
        for language in LANGUAGES:
            update(found, language)
        return 0
    faults = 0
    for language in LANGUAGES:
        begun, missing = check(found, language)
        print(*missing, sep="\n", end="\n" * bool(missing))
        print(f"{language}: {len(begun)} of {len(found)} pages are translated or begun")
        faults += len(missing)
    if faults:
        print(f"{faults} messages to translate: make translations puts them into book/locale")
    return int(faults > 0)


def messages() -> dict[str, list[str]]:
    """Page -> its messages, in the order of the page."""
    with tempfile.TemporaryDirectory() as folder, docutils_namespace():
        source, built = Path(folder) / "source", Path(folder) / "built"
        lay_out(source)
        # Neither the theme nor autodoc matter to prose, and autodoc would import everything.
        settings = {"extensions": ["myst_nb"], "language": "en"}
        app = Sphinx(source, BOOK, built, built, "dummy", settings, status=None, warning=None)
        app.build(force_all=True)
        found = {page: prose(app.env.get_doctree(page)) for page in sorted(app.env.found_docs)}
    for path in NOTEBOOKS.glob("*.ipynb"):
        found[path.stem] += labels(nbformat.read(path, as_version=4))
    return found


def lay_out(source: Path) -> None:
    """Fill ``source`` with the prose of all pages."""
    (source / "records").mkdir(parents=True)
    shutil.copy(PROJECT / "data" / "README.md", source / "records" / "data.md")
    for page in BOOK.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        (source / page.name).write_text(INCLUDED.sub("", text), encoding="utf-8")
    for page in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(page, source)


def labels(notebook: nbformat.NotebookNode) -> list[str]:
    """What unfolds parts of a notebook, each once."""
    seen: dict[str, str] = {}
    relabel(notebook, lambda text: seen.setdefault(text, text))
    return list(seen)


def relabel(notebook: nbformat.NotebookNode, translate: Callable[[str], str]) -> None:
    """Translate what unfolds parts of a notebook: Sphinx sees no prose in it."""
    for cell in notebook.cells:
        cell.source = SUMMARY.sub(lambda found: translate(found[0]), cell.source)
        prompts = cell.metadata.get("mystnb", {})
        for name in ("code_prompt_show", "code_prompt_hide"):
            if name in prompts:
                prompts[name] = translate(prompts[name])


def prose(doctree: nodes.document) -> list[str]:
    """The messages of a page with a word in it, each once; formulas, code and numbers have none."""
    found = [
        text for node, text in extract_messages(doctree) if not isinstance(node, nodes.math_block)
    ]
    return list(dict.fromkeys(text for text in found if WORD.search(CODE_OR_FORMULA.sub("", text))))


def path_of(page: str, language: str) -> Path:
    """Where a page's catalogue lies."""
    return LOCALE / language / "LC_MESSAGES" / f"{page}.po"


def read(page: str, language: str) -> Catalog:
    """A page's catalogue; an empty one where there is none yet."""
    path = path_of(page, language)
    if not path.exists():
        return Catalog(language)
    with path.open("rb") as stream:
        return read_po(stream, language, domain=page)


def translator(page: str, language: str) -> Callable[[str], str]:
    """What translates a page's messages; one that has no translation stays English."""
    known = {m.id: m.string for m in read(page, language) if m.string and not m.fuzzy}
    return lambda text: known.get(text, text)


def update(found: dict[str, list[str]], language: str) -> None:
    """Merge the messages into the catalogues.

    A changed message keeps its translation, marked fuzzy, with its former English beside it. One
    that is gone is removed.
    """
    for page, texts in found.items():
        template = Catalog()
        for text in texts:
            template.add(text)
        catalogue = read(page, language)
        catalogue.update(template)
        path = path_of(page, language)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(catalogue, language, path)
    for path in path_of("*", language).parent.glob("*.po"):
        if path.stem not in {*found, OF_TOOLS}:
            path.unlink()


def write(catalogue: Catalog, language: str, path: Path) -> None:
    """Write a catalogue with a line for each message, and no dates."""
    for message in catalogue:
        message.flags -= {"python-format", "python-brace-format"}  # guessed from % and { in prose
    with atomic_write(path, "wb") as stream:
        stream.write(HEADER.format(language=language).encode())
        write_po(
            stream,
            catalogue,
            width=0,
            omit_header=True,
            ignore_obsolete=True,
            include_previous=True,
        )


def check(found: dict[str, list[str]], language: str) -> tuple[list[str], list[str]]:
    """The pages whose translation has begun, and a line for each message that these lack."""
    begun, missing = [], []
    for page, texts in found.items():
        catalogue = read(page, language)
        if not any(message.string for message in catalogue if message.id):
            continue
        begun.append(page)
        for text in texts:
            if fault := fault_of(catalogue.get(text)):
                missing.append(f"{language}/{page}.po: {fault}: {text[:60]}")
    return begun, missing


def fault_of(message: Message | None) -> str | None:
    """What is wrong with a message's translation; None where nothing is."""
    if message is None:
        return "new"
    if message.fuzzy:
        return "changed"
    if not message.string:
        return "not translated"
    theirs, ours = markup(message.string), markup(message.id)
    differing = [part for part in ours if ours[part] != theirs[part]]
    return f"{' and '.join(differing)} differ from the English" if differing else None


def markup(text: str) -> dict[str, object]:
    """What a translation has to keep of a message, by its name.

    A mark that Markdown takes for a letter shows itself: ``**no：**yes`` is not bold, because of
    the colon before the second pair of stars.
    """
    blocks = MARKDOWN.parse(text)
    parts = [part for block in blocks for part in block.children or ()]
    plain = "".join(part.content for part in parts if part.type == "text")
    kinds = Counter(part.type for part in parts)
    return {
        "paragraphs": [block.type for block in blocks],
        "links": {part.attrs["href"] for part in parts if part.type == "link_open"},
        "code": {part.content for part in parts if part.type == "code_inline"},
        "formulas": {part.content for part in parts if part.type == "math_inline"},
        "bold words": kinds["strong_open"],
        "marks": {mark: plain.count(mark) for mark in "*`$"},
    }


if __name__ == "__main__":
    sys.exit(main())
