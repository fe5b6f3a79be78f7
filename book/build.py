"""Build the site from what is published, without network: ``python book/build.py``.

For each language the sources are laid out in ``<output>/source``: the pages of this folder, the
executed notebooks, and in ``records/`` the tables and figures that the pages include, made from the
published records. Sphinx then renders them, in English into ``<output>/html`` and in Chinese into
``<output>/html/zh``; a warning is an error. An earlier site stays until the new one is whole.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import chapters
import front
import included
import matplotlib.pyplot as plt
import rooms
from lessons import first_study, full_size, why_05888
from published_results import foremost
from sites import READMES, SITES, render

from attn_blocks.errors import AttnBlocksError, SettingError
from attn_blocks.files import PROJECT, atomic_folder, folder_lock, recover_folder
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
# What is replaced in the output folder, and the file that shows that it was made here.
MARKS = {"html": ".buildinfo", "source": "conf.py"}
NOTHING = """Nothing is published, so there is nothing to show. Run
    make reproduce-all PROFILE=quick
    make publish PROFILE=quick
and then make book again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; return the exit code: 1 if something failed, 2 if nothing is published."""
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
    options.output = options.output.resolve()
    try:
        check_output(options.output)
        with tempfile.TemporaryDirectory(prefix="attn-blocks-book-") as space:
            published, failed = options.published, 0
            if options.results:
                published = Path(space) / "published"
                failed = copy_with_own(options.results, options.published, published)
            return build(options, published) or min(failed, 1)
    except AttnBlocksError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def check_output(output: Path) -> None:
    """Check that a site can be built in a folder without loss.

    Raises:
        SettingError: it lies among the book's own files, or what would be replaced in it is neither
            a site nor the sources of one.
    """
    if output.is_relative_to(BOOK) and not output.is_relative_to(BOOK / "_build"):
        raise SettingError(f"{output} lies among the book's own files: choose another --output")
    for name, mark in MARKS.items():
        folder = output / name
        made = any((folder / part / mark).exists() for part in (*SITES, *SITES.values()))
        if not made and (folder.is_file() or any(folder.glob("*"))):
            raise SettingError(f"{folder} was not made here: remove it, or choose another --output")


def copy_with_own(results: Path, published: Path, copy: Path) -> int:
    """Copy what is published and add the runs and pages of ``results``.

    Returns:
        How many profiles could not be added; the reasons are printed.
    """
    if published.is_dir():
        shutil.copytree(published, copy)
    failed = 0
    for profile in PREFERRED:
        if (results / profile / "runs").is_dir():
            try:
                for note in publish(profile, results, copy):
                    print(note)
            except AttnBlocksError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
    return failed


def build(options: argparse.Namespace, published: Path) -> int:
    """Build the site of what is published in a folder; return the exit code.

    Raises:
        AttnBlocksError: a record is damaged, Sphinx fails, or the output cannot be written. An
            earlier site is left as it was.
    """
    plans = {p: recorded_plans(published / p) for p in PREFERRED}
    plans = {profile: pages for profile, pages in plans.items() if pages}
    if not plans:
        print(NOTHING, file=sys.stderr)
        return 2
    sources, site = options.output / "source", options.output / "html"
    with folder_lock(options.output, ".build.lock"):
        recover_folder(site)
        shutil.rmtree(sources, ignore_errors=True)
        with atomic_folder(site) as ready:
            codes = []
            for language in options.languages:
                with speaking(language):
                    if options.readmes:
                        front.write_readme(foremost(plans), options.readmes / READMES[language])
                    lay_out(plans, published, sources / language, language)
                    plt.close("all")
                    codes.append(render(sources / language, language, ready.parent))
            if any(codes):
                raise AttnBlocksError(f"Sphinx fails on {sources}, so that {site} stays as it was")
    for language in options.languages:
        print(f"Built {site / SITES[language] / 'index.html'}")
    return 0


def lay_out(
    plans: dict[str, dict[str, Plan]], published: Path, source: Path, language: str
) -> None:
    """Fill ``source`` with everything that Sphinx reads.

    Args:
        plans: profile -> page -> plan, the preferred profile first.
        published: the folder that they are of.
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
    study = published / "study"
    front.write_front(plans, records)
    texts = {
        "blocks": included.blocks(),
        "gains": included.on_imagenet(),
        "results": "\n\n".join(included.results(pages, records) for pages in plans.values()),
        "recipes": included.recipes(shown),
        "controls": included.controls(study),
        "by_fold": included.fold_by_fold(study),
        "near_copies": included.near_copies(study),
        "attention": included.attention(study),
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
