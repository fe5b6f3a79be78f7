"""The code's messages and their translations: ``python book/messages.py check`` or ``update``.

Messages are the strings in ``_``, ``N_`` and ``say`` of ``attn_book.language``, and the units of
``words.counted``.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections import Counter
from collections.abc import Sequence

import catalogues
from babel.messages import Catalog
from babel.messages.extract import extract_from_dir

from attn_blocks.files import PROJECT
from attn_book.language import catalogue_path

CODE = (PROJECT / "src" / "attn_book", PROJECT / "book")
KEYWORDS = {"_": None, "N_": None, "say": None, "counted": (2,)}
KEYWORDS |= {"learnt": (3,), "fixed": (3,)}  # boxes of a diagram
SHOWN = 60  # letters of a message


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or update the catalogues; return the exit code."""
    parser = argparse.ArgumentParser(description="Check or update the messages' translations")
    parser.add_argument("command", choices=("check", "update"))
    command = parser.parse_args(arguments).command
    messages, found = extracted(), []
    for language in catalogues.TRANSLATED:
        path = catalogue_path(language)
        if command == "update":
            catalogues.merge(messages, path, language)
        lines = problems(catalogues.read(path, language), messages)
        found += [f"{path.relative_to(PROJECT)}: {line}" for line in lines]
    print("\n".join(found), file=sys.stderr, end="\n" * bool(found))
    return int(bool(found) and command == "check")


def extracted() -> list[str]:
    """Every message of the code once, in the order of files and lines."""
    return [
        message
        for folder in CODE
        for _, _, message, _, _ in extract_from_dir(
            folder, [("**.py", "python")], keywords=KEYWORDS
        )
    ]


def problems(catalogue: Catalog, messages: Sequence[str]) -> list[str]:
    """What a catalogue lacks, what it has too much, and translations with other placeholders."""
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


def _begin(message: str) -> str:
    line = message.replace("\n", " ")
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."


if __name__ == "__main__":
    sys.exit(main())
