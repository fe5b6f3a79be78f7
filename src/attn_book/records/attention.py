"""What NL, GC and BAT do with their attention held still: ``attention.json`` beside a study's runs.

Measured on the networks whose weights are published (``analysis.attention``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json, sha256_of
from attn_book.records.published import weights_of
from attn_book.records.recorded import runs_by_title
from attn_book.records.run import Run
from attn_book.study.pages import BAT, GC, NINE, NL
from attn_book.study.recipes import PROFILES

FILE = "attention.json"  # in the folder of a profile
COUNTS = ("as_trained", "right", "changed")
# Of the images: how many may be judged otherwise by weights in float16, or on another processor.
ROUNDING = 0.005


def subjects(folder: Path) -> dict[str, Run]:
    """Title -> the first finished run of each of the three whose weights are published."""
    if not PROFILES[folder.name].shared:
        return {}
    runs = runs_by_title(folder, NINE)
    first = {
        entry.title: next((run for run in runs[entry.title] if run.status == "finished"), None)
        for entry in (NL, GC, BAT)
    }
    return {
        title: run
        for title, run in first.items()
        if run is not None and weights_of(run, folder.parent) is not None
    }


def record_of(run: Run, counts: Mapping[str, int]) -> dict[str, Any]:
    """What ``attention.json`` says of a network.

    Args:
        counts: how many validation images it is right on ``as_trained`` and with its attention held
            still, ``right``; and how many predictions that ``changed``.
    """
    return {
        "run": run.folder.name,
        "metrics": sha256_of(run.folder / "metrics.json"),
        "images": run.record["data"]["validation_images"],
        **counts,
    }


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Title -> what was measured; empty while nothing was."""
    return read_json(folder / FILE) if (folder / FILE).exists() else {}


def problems(folder: Path) -> list[str]:
    """What is wrong with ``attention.json``: a line a problem; none if it is not there."""
    try:
        record, runs = read(folder), subjects(folder)
        if record and record.keys() != runs.keys():
            return [f"{FILE} is of other networks than those whose weights are published"]
        for title, of in record.items():
            counts = {name: of[name] for name in COUNTS}
            if of != record_of(runs[title], counts):
                return [f"{FILE} is not about {runs[title].folder.name} as it is published"]
            if not all(type(n) is int and 0 <= n <= of["images"] for n in counts.values()):
                return [f"{FILE} holds something other than counts of {of['images']} images"]
            accuracy = runs[title].metrics["final_val_acc"]
            if abs(of["as_trained"] / of["images"] - accuracy) > ROUNDING:
                return [f"{FILE}: as trained, {title} has another accuracy than on record"]
    except (CheckpointError, AttributeError, KeyError, TypeError) as error:
        return [f"{FILE} cannot be read ({error})"]
    return []
