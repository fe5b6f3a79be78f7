"""The book's sites, one a language: where each lies, and what Sphinx is told to make it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import conf
import translations

from attn_book.language import CHINESE, ENGLISH

BOOK = Path(__file__).resolve().parent
SITES = {ENGLISH: "", CHINESE: "zh"}  # language -> its folder in that of the English site
READMES = {ENGLISH: "README.md", CHINESE: "README.zh.md"}


def render(source: Path, language: str, output: Path) -> int:
    """Render the pages of ``source`` into ``<output>/html``; return Sphinx's exit code.

    Sphinx is a process of its own, because it keeps the words of the language that it started with.
    """
    html = output / "html" / SITES[language]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--fresh-env", "-b", "html"]
    command += [f"-D{name}={value}" for name, value in settings(language).items()]
    command += ["-d", str(output / "doctrees" / language), str(source), str(html)]
    return subprocess.run(command, cwd=BOOK).returncode  # where the extension lies


def settings(language: str) -> dict[str, str]:
    """Sphinx's settings that hold words."""
    title = translations.translator("index", language)
    word = translations.translator(translations.OF_TOOLS, language)
    return {
        "language": language,
        "html_title": title(conf.project),
        "html_theme_options.search_bar_text": word("Search..."),
        "nb_code_prompt_show": word("Show code cell {type}"),
        "nb_code_prompt_hide": word("Hide code cell {type}"),
    }
