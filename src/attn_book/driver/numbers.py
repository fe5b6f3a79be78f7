"""A page in two languages shows the same numbers, or one of the two is of other runs or code."""

from __future__ import annotations

import re

from nbformat import NotebookNode

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?")
ROUNDING = re.compile(r"e-(0[7-9]|[1-9]\d)$")  # how a number below a millionth ends
HIDDEN = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)  # of HTML
TIMED = ("cost.", "measured")  # in the source of a cell that measures time, or shows what did


def other_numbers(english: NotebookNode, other: NotebookNode) -> list[str]:
    """Cells whose outputs hold other numbers than the same page's in English: a line for each.

    A number counts once a cell, since a sentence may repeat one in one language alone. Times and
    what rounding leaves of a difference are left out: they are of their own execution.
    """
    ours, theirs = _code(english), _code(other)
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        return ["has other code than in English; execute it again in both languages"]
    problems = []
    for one, two in zip(ours, theirs, strict=True):
        differing = numbers(one) ^ numbers(two)
        if differing and not any(word in one.source for word in TIMED):
            shown = ", ".join(sorted(differing)[:3])
            begin = one.source.splitlines()[0]
            problems.append(f"shows other numbers than in English ({shown}), from: {begin}")
    return problems


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that compute: those of the notebook itself, without its parameters."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def numbers(cell: NotebookNode) -> set[str]:
    """The numbers in a cell's outputs, figures apart."""
    texts = [output.get("text", "") for output in cell.get("outputs", ())]
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        texts += [str(data[kind]) for kind in data if not kind.startswith("image/")]
    found = (number for text in texts for number in NUMBER.findall(HIDDEN.sub(" ", text)))
    return {number for number in found if not ROUNDING.search(number)}
