"""The code's messages and their translations: ``python book/messages.py check`` or ``update``.

Messages are the strings in ``_``, ``N_`` and ``say`` of ``attn_book.language``, and the units of
``words.counted``. ``update`` brings
each catalogue in line with the code: new messages get an empty translation, a changed one its old
translation marked fuzzy, and what no code has any longer goes.
"""

from __future__ import annotations

import string
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from attn_blocks.files import PROJECT, atomic_write
from attn_book.language import ENGLISH, LANGUAGES, catalogue_path

CODE = (PROJECT / "src" / "attn_book", PROJECT / "book")
KEYWORDS = {"_": None, "N_": None, "say": None, "counted": (2,)}
KEYWORDS |= {"learnt": (3,), "fixed": (3,)}  # boxes of a diagram
SHOWN = 60  # letters of a message
HEADER = r"""msgid ""
msgstr ""
"Language: {language}\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=utf-8\n"
"Content-Transfer-Encoding: 8bit\n"

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or update the catalogues; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments not in (["check"], ["update"]):
        print("usage: python book/messages.py check|update", file=sys.stderr)
        return 2
    messages, found = extracted(), []
    for language in LANGUAGES:
        if language == ENGLISH:
            continue
        path = catalogue_path(language)
        if arguments == ["update"]:
            update(path, messages, language)
        found += [f"{path.relative_to(PROJECT)}: {line}" for line in problems(path, messages)]
    print("\n".join(found), file=sys.stderr, end="\n" * bool(found))
    return 1 if found else 0


def extracted() -> list[str]:
    """Every message of the code once, in the order of files and lines."""
    return [
        message
        for folder in CODE
        for _, _, message, _, _ in extract_from_dir(
            folder, [("**.py", "python")], keywords=KEYWORDS
        )
    ]


def read(path: Path, language: str | None = None) -> Catalog:
    """A catalogue; an empty one where there is no file yet."""
    if not path.exists():
        return Catalog(language)
    with path.open("rb") as stream:
        return read_po(stream, locale=language)


def problems(path: Path, messages: Sequence[str]) -> list[str]:
    """What a catalogue lacks, what it has too much, and translations with other placeholders."""
    catalogue = read(path)
    known = {str(m.id): m for m in catalogue if m.id}
    lines = []
    for message in dict.fromkeys(messages):
        entry = known.get(message)
        if entry is None or not entry.string or entry.fuzzy:
            state = "to be looked at again" if entry and entry.fuzzy else "not translated"
            lines.append(f"{state}: {_begin(message)}")
        elif placeholders(message) != placeholders(str(entry.string)):
            lines.append(f"other placeholders than the English: {_begin(message)}")
    lines += [f"no code has it: {_begin(message)}" for message in known.keys() - {*messages}]
    lines += [f"no code has it: {_begin(message)}" for message in catalogue.obsolete]
    return sorted(lines)


def placeholders(template: str) -> Counter[tuple[str, str, str]]:
    """The fields of a template: name, format and conversion, and how often each stands there."""
    fields = string.Formatter().parse(template)
    return Counter((name, form or "", way or "") for _, name, form, way in fields if name)


def update(path: Path, messages: Sequence[str], language: str) -> None:
    """Bring a catalogue in line with the code's messages."""
    catalogue = read(path, language)
    template = Catalog()
    for message in messages:
        template.add(message)
    catalogue.update(template)
    with atomic_write(path, "wb") as stream:
        stream.write(HEADER.format(language=language).encode())
        write_po(stream, catalogue, width=100, omit_header=True, ignore_obsolete=True)


def _begin(message: str) -> str:
    line = message.replace("\n", " ")
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."


if __name__ == "__main__":
    sys.exit(main())
