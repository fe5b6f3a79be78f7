"""``summary.csv`` with every run and ``verdicts.csv`` with every claim."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attn_blocks.files import atomic_write
from attn_book.analysis import verdicts
from attn_book.language import ENGLISH, speaking
from attn_book.records.published import PublishError
from attn_book.records.recorded import entry_of, lacking, recorded_plans
from attn_book.records.run import Run, folders_in
from attn_book.study.claims import CLAIMS
from attn_book.study.design import EXTRA, ORDER
from attn_book.study.experiment import Experiment
from attn_book.study.pages import PAGES, Comparison
from attn_book.study.plan import Plan


def write_summary(folder: Path, plans: Sequence[Plan]) -> None:
    """Write ``tables`` into the folder that they are of.

    Raises:
        StorageError: it cannot be written, or the disk is full.
    """
    for name, text in tables(folder, plans).items():
        with atomic_write(folder / name) as stream:
            stream.write(text)


def tables(folder: Path, plans: Sequence[Plan]) -> dict[str, str]:
    """``summary.csv`` (every run) and ``verdicts.csv`` (every claim that the pages cover) as texts.

    Both in English, whatever language is spoken.

    Args:
        folder: a profile's results or published folder; its name is the profile's.
        plans: of pages; others are judged as well, by the records, if they lack no run.
    """
    every = [*_others_on_record(folder, plans), *plans]
    with speaking(ENGLISH):
        judged = {v.claim: verdicts.row(v) for page in every for v in verdicts.verdicts(page)}
    rows = [judged[claim] for claim in CLAIMS if claim in judged]
    return {
        "summary.csv": _csv(SUMMARY_COLUMNS, summary_rows(folder, plans)),
        "verdicts.csv": _csv(verdicts.VERDICT_COLUMNS, rows),
    }


def _others_on_record(folder: Path, plans: Sequence[Plan]) -> list[Plan]:
    """The pages beside ``plans`` that lack no run; none where runs are on different images."""
    known = {page.page for page in plans}
    with suppress(PublishError):
        recorded = recorded_plans(folder).values()
        return [page for page in recorded if page.page not in known and not lacking(page)]
    return []


# What the metrics of a finished run say.
MEASURED = (
    "params",
    "macs",
    "final_val_acc",
    "best_val_acc",
    "best_epoch",
    "seconds",
    "images_per_second",
)
SUMMARY_COLUMNS = (
    "run",
    "page",
    "part",
    "dataset",
    "classes",
    "model",
    "fold",
    "seed",
    "epochs",
    "image_size",
    *MEASURED,
    "device",
    "status",
)


def part_profile(part: str) -> str:
    """The profile that a part of ``design.EXTRA`` is trained in."""
    return "study" if part in dict(ORDER) else "paper"


def summary_rows(results_dir: Path, plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """One row of ``SUMMARY_COLUMNS`` for every run folder below ``results_dir``.

    A run's pages are those of ``plans``, and those that show it by the profile's very recipe.
    """
    profile = results_dir.name
    asked = {(page.page, experiment.name) for page in plans for experiment in page.experiments}

    def having(parts: Mapping[str, Sequence[Comparison]], experiment: Experiment) -> str:
        return " ".join(
            name
            for name, comparisons in parts.items()
            if (name, experiment.name) in asked
            or any(entry_of(comparison, experiment, profile) for comparison in comparisons)
        )

    extra = {name: parts for name, parts in EXTRA.items() if part_profile(name) == profile}
    rows = []
    for folder in folders_in(results_dir / "runs"):
        run = Run(folder)
        if not (folder / "experiment.json").exists():
            continue
        experiment, metrics = run.experiment, run.metrics if run.status != "unfinished" else {}
        rows.append(
            {
                "run": folder.name,
                "page": having(PAGES, experiment),
                "part": having(extra, experiment),
                "dataset": experiment.dataset,
                "classes": len(run.classes),
                "model": experiment.variant,
                "fold": experiment.fold,
                "seed": experiment.seed,
                "epochs": experiment.recipe.epochs,
                "image_size": experiment.recipe.image_size,
                **{name: metrics.get(name, "") for name in MEASURED},
                "device": run.record["compute"]["device"],
                "status": run.status,
            }
        )
    return rows


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """``rows`` as CSV; fields that are not in ``columns`` are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
