"""The language that pages and figures speak: English, or what a gettext catalogue makes of it.

``_`` and ``N_`` are gettext's names. Templates are English, in ``str.format``'s syntax, and lie
translated in ``locale/<language>/LC_MESSAGES/attn_book.po``; what has no translation stays English.
Records, CSV files, errors and the command line are English always.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from attn_blocks.errors import SettingError

VARIABLE = "BOOK_LANGUAGE"  # of the environment, so that it reaches workers and notebooks
ENGLISH, CHINESE = "en", "zh_CN"
LANGUAGES = (ENGLISH, CHINESE)
LOCALE = Path(__file__).parent / "locale"
# A space beside a value is for Latin words and numbers; between Chinese ones it is dropped.
HAN, MARKS = r"\u3400-\u9fff", r"\u3001-\u301f\uff01-\uff5e"  # between [ and ] of a pattern
GAP = re.compile(f"(?<=[{HAN}{MARKS}]) +(?=[{HAN}{MARKS}])|(?<=[{MARKS}]) +| +(?=[{MARKS}])")


def language() -> str:
    """One of ``LANGUAGES``: what ``BOOK_LANGUAGE`` says, English where it says nothing.

    Raises:
        SettingError: it says anything else.
    """
    chosen = os.environ.get(VARIABLE) or ENGLISH
    if chosen not in LANGUAGES:
        raise SettingError(f"{VARIABLE} is {chosen!r}; choose one of: {', '.join(LANGUAGES)}")
    return chosen


@contextmanager
def speaking(chosen: str) -> Iterator[None]:
    """Speak one of ``LANGUAGES`` for a while, whatever the environment says; else SettingError."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = chosen
    try:
        language()
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _(template: str) -> str:
    """A template or word in today's language."""
    chosen = language()
    return template if chosen == ENGLISH else catalogue(chosen).get(template, template)


def N_(template: str) -> str:
    """The template as it is: marks what ``_`` or ``say`` translates where it is shown."""
    return template


def say(template: str, **values: object) -> str:
    """A template in today's language, filled in with values of the same names."""
    text = _(template).format(**values)
    return text if language() == ENGLISH else GAP.sub("", text)


def in_language(folder: Path, chosen: str) -> Path:
    """Where a folder keeps what is made in a language: itself for English, else a folder in it."""
    return folder if chosen == ENGLISH else folder / chosen


def catalogue_path(chosen: str) -> Path:
    """The file with a language's translations."""
    return LOCALE / chosen / "LC_MESSAGES" / "attn_book.po"


@cache
def catalogue(chosen: str) -> Mapping[str, str]:
    """Template -> translation, of those that have one; read once."""
    from babel.messages.pofile import read_po  # English needs neither it nor a catalogue

    with catalogue_path(chosen).open("rb") as stream:
        messages = read_po(stream, locale=chosen)
    return {str(m.id): str(m.string) for m in messages if m.id and m.string and not m.fuzzy}
