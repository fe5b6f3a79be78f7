"""Gettext catalogues as this book keeps them: in the order of the source, without dates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from attn_blocks.files import atomic_write
from attn_book.language import ENGLISH, LANGUAGES

TRANSLATED = tuple(language for language in LANGUAGES if language != ENGLISH)
HEADER = r"""msgid ""
msgstr ""
"Language: {language}\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=utf-8\n"
"Content-Transfer-Encoding: 8bit\n"

"""


def read(path: Path, language: str) -> Catalog:
    """A catalogue; an empty one where there is no file yet."""
    if not path.exists():
        return Catalog(language)
    with path.open("rb") as stream:
        catalogue = read_po(stream, language)
    for message in catalogue:  # Babel takes the former English of a changed message for a remark
        message.user_comments = [line for line in message.user_comments if line[:1] != "|"]
    return catalogue


def merge(messages: Iterable[str], path: Path, language: str) -> None:
    """Bring a catalogue in line with the messages.

    A changed message keeps its translation, marked fuzzy, with its former English beside it. One
    that is gone is removed.
    """
    template, catalogue = Catalog(), read(path, language)
    for message in messages:
        template.add(message)
    catalogue.update(template)
    write(catalogue, path, language)


def write(catalogue: Catalog, path: Path, language: str) -> None:
    """Write a catalogue, a line for each message."""
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
