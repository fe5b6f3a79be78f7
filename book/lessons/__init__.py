"""The pages that teach by the records: each part a figure, what it shows, a finding and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from texts import banner, table

from attn_book.analysis.words import plain

LONG_CELL = 45  # letters; a table with a longer one lets its cells break


@dataclass(frozen=True)
class Lesson:
    """A part of a page: a figure and what it shows in words, the finding, the numbers.

    There is no figure where nothing is on record yet that it could show.
    """

    figure: Figure | None
    alt: str
    finding: str
    table: pd.DataFrame


def page_texts(
    page: str, origin: str, lessons: Mapping[str, Lesson], records: Path
) -> dict[str, str]:
    """What a page includes, by name: its origin, and of each lesson the finding and the table.

    The figures are written to ``records``.
    """
    texts = {page: banner(plain(origin))}
    for name, lesson in lessons.items():
        image = ""
        if lesson.figure is not None:
            picture = f"{page}_{name}.svg"
            lesson.figure.savefig(records / picture, metadata={"Date": None})
            image = f"```{{image}} records/{picture}\n:alt: {json.dumps(lesson.alt)}\n```\n\n"
        texts[f"{page}_{name}"] = f"{image}{plain(lesson.finding)}"
        longest = max(len(cell) for row in lesson.table.to_numpy() for cell in row)
        style = ".results .wide" if longest > LONG_CELL else ".results"
        texts[f"{page}_{name}_table"] = table(lesson.table, style)
    return texts
