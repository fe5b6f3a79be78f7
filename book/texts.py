"""Markdown of the site: tables, and where numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from attn_book.analysis.words import counted, joined, plain
from attn_book.language import say
from attn_book.records import planned
from attn_book.records.run import Run
from attn_book.study.plan import Plan, images_in_words


def banner(line: str) -> str:
    """A marked paragraph that says where numbers come from."""
    return f":::{{container}} provenance\n{line}\n:::\n"


def origin(plan: Plan) -> str:
    """Profile, data, sizes, seeds, device and dates of a page's runs."""
    days = sorted(planned.run_of(plan, what).metrics["finished"][:10] for what in plan.experiments)
    line = say("{provenance} · trained {days}", provenance=plan.provenance, days=day_span(days))
    return plain(line)


def origin_of(profile: str, runs: Sequence[Run]) -> str:
    """Profile, data, sizes, number, dates and device of runs that are on no page."""
    recipe = runs[0].experiment.recipe
    line = say(
        "profile {profile} · {images} · {runs} · trained {days}",
        profile=profile,
        images=images_in_words(runs[0].record["data"]["label"], recipe.image_size, recipe.width),
        runs=counted(len(runs), "run"),
        days=day_span(sorted(run.metrics["finished"][:10] for run in runs if not run.diverged)),
    )
    devices = sorted({run.record["compute"]["device"] for run in runs})
    return f"{line} · {joined(devices)}"


def day_span(days: Sequence[str]) -> str:
    """The first and the last of sorted days, or one of them where they are the same."""
    if days[0] == days[-1]:
        return days[0]
    return say("{low} to {high}", low=days[0], high=days[-1])


def conditions(path: Path) -> dict[str, str]:
    """What stands above the table of a benchmark: its words, and the conditions it was made in."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))


def table(frame: pd.DataFrame, style: str = ".results") -> str:
    """A frame as a Markdown table, its index as the first column.

    Args:
        style: attributes of the table; ``.results .wide`` lets cells break.
    """
    frame = frame.reset_index()
    lines = [list(map(plain, frame.columns)), ["---"] * len(frame.columns)]
    lines += [list(map(plain, row)) for row in frame.to_numpy()]
    return "\n".join(["{" + style + "}", *(f"| {' | '.join(line)} |" for line in lines)])
