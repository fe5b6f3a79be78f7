"""``summary.csv`` with every run and ``verdicts.csv`` with every claim."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attn_blocks.files import atomic_write
from attn_book.analysis import verdicts
from attn_book.language import ENGLISH, speaking
from attn_book.records.run import Run
from attn_book.study.claims import CLAIMS
from attn_book.study.plan import Plan


def write_summary(folder: Path, plans: Sequence[Plan]) -> None:
    """Write ``summary.csv`` (every run) and ``verdicts.csv`` (every claim that the plans cover).

    Both in English, whatever language is spoken.
    """
    pages: dict[str, list[str]] = {}
    for page in plans:
        for experiment in page.experiments:
            pages.setdefault(experiment.name, []).append(page.page)
    write_csv(folder / "summary.csv", SUMMARY_COLUMNS, summary_rows(folder, pages))
    with speaking(ENGLISH):
        judged = {v.claim: verdicts.row(v) for page in plans for v in verdicts.verdicts(page)}
    rows = [judged[claim] for claim in CLAIMS if claim in judged]
    write_csv(folder / "verdicts.csv", verdicts.VERDICT_COLUMNS, rows)


SUMMARY_COLUMNS = (
    "page",
    "dataset",
    "classes",
    "model",
    "fold",
    "seed",
    "epochs",
    "image_size",
    "params",
    "macs",
    "final_val_acc",
    "best_val_acc",
    "best_epoch",
    "seconds",
    "images_per_second",
    "device",
    "status",
)


def summary_rows(results_dir: Path, pages: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One row of ``SUMMARY_COLUMNS`` for every run folder below ``results_dir``.

    Args:
        pages: run name -> the pages that show it.
    """
    rows = []
    for folder in sorted((results_dir / "runs").glob("*/")):
        run = Run(folder)
        if not (folder / "experiment.json").exists():
            continue
        experiment, metrics = run.experiment, run.metrics if run.status != "unfinished" else {}
        rows.append(
            {
                "page": " ".join(pages.get(folder.name, ())),
                "dataset": experiment.dataset,
                "classes": len(run.classes),
                "model": experiment.variant,
                "fold": experiment.fold,
                "seed": experiment.seed,
                "epochs": experiment.recipe.epochs,
                "image_size": experiment.recipe.image_size,
                **{name: metrics.get(name, "") for name in SUMMARY_COLUMNS[8:15]},
                "device": run.record["compute"]["device"],
                "status": run.status,
            }
        )
    return rows


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV, atomically; fields that are not in ``columns`` are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue())
