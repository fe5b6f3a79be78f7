"""What an executed page must be to be shown beside the records."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import nbformat

from attn_blocks.errors import CheckpointError, reason_of
from attn_blocks.files import PROJECT, sha256_of
from attn_book.analysis import verdicts
from attn_book.records.recorded import lacking
from attn_book.study.pages import GUIDES
from attn_book.study.plan import Plan

LARGEST_NOTEBOOK = 2_000_000  # bytes; a browser opens it at once
# An absolute path names the machine that executed a page; an address or a fraction does not match.
MACHINE_PATH = re.compile(r"(?<![\w.:/<})\]])/[A-Za-z][\w.-]*/[\w.-]+")
SHOWN_KINDS = ("text/plain", "text/markdown", "text/html", "text/latex", "image/png")
ACTIVE = re.compile(
    r"<\s*/?\s*(?:script|iframe|object|embed|link|meta|base|form|svg)\b"
    r"|<[^>]*[\s/]on\w+\s*="
    r"|javascript:",
    re.IGNORECASE,
)


def digests(plan: Plan) -> dict[str, str]:
    """The runs that a page shows or judges by, each with the beginning of its metrics' SHA-256."""
    return {
        run.folder.name: sha256_of(run.folder / "metrics.json")[:12]
        for run in verdicts.runs_behind(plan)
    }


def read_page(path: Path) -> nbformat.NotebookNode:
    """A notebook; what is none, or is damaged, raises CheckpointError."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # damage makes nbformat raise anything
        reason = reason_of(error).splitlines()[0]
        raise CheckpointError(
            f"{path.name} is no whole notebook ({reason}); execute the page and publish it again"
        ) from error
    return notebook


def notebook_problems(page: str, notebook: nbformat.NotebookNode, plan: Plan | None) -> list[str]:
    """What keeps an executed page from being shown beside the records."""
    if page in GUIDES:
        return _guide_problems(page, notebook)
    if plan is None:
        return ["none of its runs is published"]
    missing = lacking(plan)
    if missing:
        return [f"no run of {line} is published" for line in missing]
    again = f"run: make reproduce-{page} PROFILE={plan.profile}"
    stamp = notebook.metadata.get("attn_blocks")
    try:
        runs, executed = stamp["runs"], _time(stamp["executed"])
    except (KeyError, TypeError, ValueError):
        return [f"its stamp, of what it shows and when it was executed, is {stamp!r}; {again}"]
    if runs != digests(plan):
        return [f"it shows other runs than those that are published; {again}"]
    if executed < max(_time(run.metrics["finished"]) for run in verdicts.runs_behind(plan)):
        return [f"it was executed before its last run was finished; {again}"]
    if not any(plan.provenance in text for text in _contents(notebook)[0]):
        return [f"it does not say of its results: {plan.provenance}; {again}"]
    return _unfit_contents(notebook)


def _guide_problems(guide: str, notebook: nbformat.NotebookNode) -> list[str]:
    """What keeps an executed guide from being shown: it must be of today's text and code."""
    again = f"run: make reproduce-{guide} PROFILE=quick"
    stamp = notebook.metadata.get("attn_blocks")
    try:
        _time(stamp["executed"])
    except (KeyError, TypeError, ValueError):
        return [f"its stamp, of when it was executed, is {stamp!r}; {again}"]
    source = read_page(PROJECT / "notebooks" / f"{guide}.ipynb")
    cells, today = ([cell.source for cell in n.cells] for n in (notebook, source))
    if cells != today:
        return [f"it is another text than notebooks/{guide}.ipynb; {again}"]
    return _unfit_contents(notebook)


def _unfit_contents(notebook: nbformat.NotebookNode) -> list[str]:
    """What no page may hold: what a browser would run, a machine's folders, too many pictures."""
    texts, images = _contents(notebook)
    problems = [f"holds what a browser would run: {found!a}" for found in _active(notebook)]
    problems += [
        f"names a folder of the machine that executed it: {found.group()}"
        for text in texts
        for found in MACHINE_PATH.finditer(text)
    ]
    size = len(nbformat.writes(notebook).encode())
    if size > LARGEST_NOTEBOOK:
        largest, cell = max(((n, cell) for cell, n in images.items()), default=(0, ""))
        problems.append(
            f"has {size / 1e6:.1f} MB, more than {LARGEST_NOTEBOOK / 1e6} (its largest figure has "
            f"{largest / 1e6:.1f}, from: {cell}); show fewer or smaller pictures in it, or lower "
            "figure.dpi in plots.STYLE"
        )
    return problems


def _time(text: str) -> datetime:
    """A date with its time; one without a zone is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _active(notebook: nbformat.NotebookNode) -> list[str]:
    """What a browser would run in the site's page: scripts, and outputs of unusual kinds."""
    found = []
    for cell in notebook.cells:
        markup = [cell.source] if cell.cell_type != "code" else []
        for kind, value in (
            item for output in cell.get("outputs", ()) for item in output.get("data", {}).items()
        ):
            if kind not in SHOWN_KINDS:
                found.append(kind)
            elif kind in ("text/html", "text/markdown"):
                markup.append(value)
        found += [match.group() for text in markup for match in ACTIVE.finditer(text)]
    return found


def _contents(notebook: nbformat.NotebookNode) -> tuple[list[str], dict[str, int]]:
    """All texts of a notebook, and the sizes of its figures by the cell's last line."""
    texts, images = [], {}
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", ()):
            texts.append(output.get("text", ""))
            for kind, value in output.get("data", {}).items():
                if kind.startswith("image/"):
                    images[cell.source.splitlines()[-1]] = len(value)
                else:
                    texts.append(str(value))
    return texts, images
