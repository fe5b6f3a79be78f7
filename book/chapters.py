"""The notebooks as chapters of the site: as they were executed, each under its origin."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import translations
from published_results import folder_of
from texts import banner, origin

from attn_blocks.files import PROJECT
from attn_book.analysis.words import plain
from attn_book.language import _, in_language, say
from attn_book.study.pages import GUIDES
from attn_book.study.plan import Plan


def chapter(page: str, plans: dict[str, dict[str, Plan]], source: Path, language: str) -> None:
    """Lay out a page as it was executed; one that is not published shows its text and code."""
    published = [
        (pages.get(page), path)
        for pages in plans.values()
        if (page in pages or page in GUIDES)
        and (path := executed_in(language, folder_of(pages) / "notebooks", page)) is not None
    ]
    plan, path = published[0] if published else (None, PROJECT / "notebooks" / f"{page}.ipynb")
    if not path.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    translate = translations.translator(page, language)
    translations.relabel(notebook, translate)
    if not published:
        line = say(
            "No results are published for this page. They come from: `make reproduce-{page}`",
            page=page,
        )
    else:
        executed = notebook.metadata["attn_blocks"]["executed"][:10]
        line = say(
            "{origin} · page executed {day}",
            origin=origin(plan) if plan else _("This page trains nothing"),
            day=plain(executed),
        )
    title, *rest = notebook.cells[0].source.split("\n", 1)
    notebook.cells[0].source = f"{title}\n\n{banner(line)}\n{''.join(rest)}"
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        if "injected-parameters" in tags:  # the line under the title says the same
            cell.metadata["tags"] = [*tags, "remove-cell"]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = one_header(data["text/html"])
        if words := alternative_text(cell, translate(title.lstrip("# "))):
            cell.metadata["mystnb"] = {"image": {"alt": words}}
    nbformat.write(notebook, source / f"{page}.ipynb")


def executed_in(language: str, folder: Path, page: str) -> Path | None:
    """The page as it was executed in a language, else in English; None if it was in neither."""
    paths = (place / f"{page}.ipynb" for place in (in_language(folder, language), folder))
    return next((path for path in paths if path.exists()), None)


def alternative_text(cell: nbformat.NotebookNode, title: str) -> str | None:
    """What a cell's figure shows: its own words, else the page's title and the figure's name."""
    for output in cell.get("outputs", ()):
        if words := output.get("metadata", {}).get("image/png", {}).get("alt"):
            return words
    name = re.search(r'plots\.show\(.*"(\w+)"\)\s*$', cell.source, re.DOTALL)
    return say("{lead}: {text}", lead=title, text=name[1].replace("_", " ")) if name else None


def one_header(html: str) -> str:
    """A pandas table with the index's name beside the columns' instead of in a row below them."""
    columns = r"<tr[^>]*>\s*<th>[^<]*</th>((?:\s*<th>[^<]*</th>)+)\s*</tr>"
    name = r"<tr>\s*<th>([^<]+)</th>(?:\s*<th></th>)+\s*</tr>"
    return re.sub(rf"{columns}\s*{name}", r"<tr><th>\2</th>\1</tr>", html)
