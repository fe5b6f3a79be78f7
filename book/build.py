"""Build the site from what is published, without network: ``python book/build.py``.

For each language the sources are laid out in ``<output>/source``: the pages of this folder, the
executed notebooks, and in ``records/`` the tables and figures that the pages include, made from the
published records. Sphinx then renders them, in English into ``<output>/html`` and in Chinese into
``<output>/html/zh``; a warning is an error.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import chapters
import front
import included
import matplotlib.pyplot as plt
import rooms
from lessons import first_study, full_size, why_05888
from published_results import folder_of, foremost
from sites import READMES, SITES, render

from attn_blocks.errors import AttnBlocksError
from attn_blocks.files import PROJECT
from attn_book.driver.publish import publish
from attn_book.language import speaking
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import recorded_plans
from attn_book.study.pages import GUIDES, PAGES
from attn_book.study.plan import Plan

BOOK = Path(__file__).resolve().parent
BENCHMARKS = PROJECT / "benchmarks" / "results"
# A page shows the results of the first of these for which it is published; the front page and the
# README those of the first that tests a claim.
PREFERRED = ("paper", "study", "quick", "smoke")
NOTHING = """Nothing is published, so there is nothing to show. Run
    make reproduce-all PROFILE=quick
    make publish PROFILE=quick
and then make book again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the site from what is published")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=BOOK / "_build", help="default: %(default)s")
    parser.add_argument(
        "--readmes", type=Path, help="also put the front table into the READMEs in this folder"
    )
    parser.add_argument("--results", type=Path, help="show the runs and pages of this folder too")
    parser.add_argument(
        "--languages", nargs="+", choices=SITES, default=[*SITES], help="default: all"
    )
    options = parser.parse_args(arguments)
    options.output = options.output.absolute()
    published = options.published
    if options.results:
        published = with_own(options.results, published, options.output / "published")
    plans = {p: recorded_plans(published / p) for p in PREFERRED}
    plans = {profile: pages for profile, pages in plans.items() if pages}
    if not plans:
        print(NOTHING, file=sys.stderr)
        return 2
    for folder in ("source", "html"):
        shutil.rmtree(options.output / folder, ignore_errors=True)
    codes = []
    for language in options.languages:
        with speaking(language):
            if options.readmes:
                front.write_readme(foremost(plans), options.readmes / READMES[language])
            source = options.output / "source" / language
            lay_out(plans, source, language)
            plt.close("all")
            codes.append(render(source, language, options.output))
    return max(codes)


def with_own(results: Path, published: Path, folder: Path) -> Path:
    """A copy of what is published in ``folder``, with the runs and pages of ``results`` added."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(published, folder)
    for profile in PREFERRED:
        if (results / profile / "runs").is_dir():
            try:
                notes = publish(profile, results, folder)
            except AttnBlocksError as error:
                notes = str(error).splitlines()
            for note in notes:
                print(note)
    return folder


def lay_out(plans: dict[str, dict[str, Plan]], source: Path, language: str) -> None:
    """Fill ``source`` with everything that Sphinx reads.

    Args:
        plans: profile -> page -> plan, the preferred profile first.
    """
    ignored = shutil.ignore_patterns(
        "_build", "published", "__pycache__", "lessons", "*.py", "gains*.png"
    )
    shutil.copytree(BOOK, source, ignore=ignored)
    shutil.copy(BOOK / "conf.py", source)
    (source / "static" / "tex-svg-full.js").write_bytes(mathjax())
    for page in (*PAGES, *GUIDES):
        chapters.chapter(page, plans, source, language)
    records = source / "records"
    records.mkdir()
    drawing = rooms.draw(rooms.between_rooms(rooms.imports()))
    drawing.savefig(records / "rooms.svg", metadata={"Date": None})
    shown = foremost(plans)
    study = folder_of(plans["study"]) if "study" in plans else PUBLISHED / "study"
    front.write_front(plans, records)
    texts = {
        "blocks": included.blocks(),
        "gains": included.on_imagenet(),
        "results": "\n\n".join(included.results(pages, records) for pages in plans.values()),
        "recipes": included.recipes(shown),
        "controls": included.controls(study),
        "pilot": included.pilot_trials(study),
        "images": included.images(plans),
        "speed": included.speed(shown),
        "benchmarks": included.benchmarks(BENCHMARKS),
        "data": (PROJECT / "data" / "README.md").read_text(encoding="utf-8"),
    }
    texts |= first_study.texts(records)
    texts |= full_size.texts(records, study) | why_05888.texts(records, study)
    for name, text in texts.items():
        (records / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def mathjax() -> bytes:
    """MathJax with vector output in one file, from the package that carries it."""
    files = metadata.files("sphinx-mathjax-offline") or ()
    return next(file for file in files if file.name == "tex-svg-full.js").locate().read_bytes()


if __name__ == "__main__":
    sys.exit(main())
