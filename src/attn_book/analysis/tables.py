"""The tables of the pages: accuracy, recipe, precision and recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from attn_book.analysis.statistics import effect
from attn_book.records.planned import run_of, runs_of
from attn_book.records.run import Run
from attn_book.study.claims import REPORTED
from attn_book.study.pages import TASK_TITLES
from attn_book.study.plan import Plan


def accuracy_table(plan: Plan, task: str) -> pd.DataFrame:
    """Each model of a comparison: cost, final accuracy over seeds, best epoch, reported figure."""
    rows = []
    failed = {
        entry.title
        for entry, experiment in plan.comparison(task).experiments
        if run_of(plan, experiment).status == "failed"
    }
    for title, runs in runs_of(plan, task).items():
        reported = REPORTED.get((task, title))
        row = {
            "Model": title,
            "Reported": "–" if reported is None else f"{reported:.4f}",
            "Final accuracy": "failed" if title in failed else "not trained",
            "95% interval": "–",
            "Best epoch (chosen on validation)": "–",
            "Seeds": len(runs),
            "Parameters": "–",
            "MMACs": "–",
            "Images/s": "–",
        }
        if runs:
            found = effect([run.metrics["final_val_acc"] for run in runs])
            metrics = runs[0].metrics
            row |= {
                "Final accuracy": f"{found.mean:.4f}",
                "95% interval": interval(found.low, found.high, ".3f"),
                "Best epoch (chosen on validation)": (
                    f"{np.mean([run.metrics['best_val_acc'] for run in runs]):.4f}"
                ),
                "Parameters": f"{metrics['params']:,}",
                "MMACs": f"{metrics['macs'] / 1e6:,.1f}",
                "Images/s": f"{np.median([run.images_per_second for run in runs]):,.0f}",
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index("Model")


def recipe_table(plan: Plan) -> pd.DataFrame:
    """How each comparison of a page was trained: a column a task, a row a setting."""
    columns = {}
    for comparison in plan.comparisons:
        images, recipe = comparison.images, comparison.recipe
        columns[TASK_TITLES[comparison.task]] = {
            "images": images.title,
            "training / validation images": f"{len(images.train):,} / {len(images.val):,}",
            "classes": f"{len(images.classes)} of {images.class_total}",
            **{
                name.replace("_", " "): value
                for name, value in asdict(recipe).items()
                if name not in ("train_images", "validation_images")
            },
            "seeds": " ".join(map(str, plan.seeds)),
            "device": plan.device,
        }
    return pd.DataFrame(columns).rename_axis("setting").astype(str)


def class_report(runs: Sequence[Run]) -> pd.DataFrame:
    """Precision, recall and F1 of each class over the validation images of all ``runs``."""
    from sklearn.metrics import classification_report

    confusion = np.sum([run.confusion for run in runs], axis=0)
    labels = np.arange(len(confusion))
    true = np.repeat(labels, confusion.sum(axis=1))
    predicted = np.concatenate([np.repeat(labels, row) for row in confusion])
    report = classification_report(
        true,
        predicted,
        labels=labels,
        target_names=runs[0].classes,
        output_dict=True,
        zero_division=0,
    )
    rows = {name: report[name] for name in [*runs[0].classes, "macro avg"]}
    frame = pd.DataFrame(rows).T[["precision", "recall", "f1-score", "support"]]
    return frame.round(3).astype({"support": int}).rename_axis("class")


def signed(value: float | None, form: str = "+.2f") -> str:
    """A difference with its sign; a dash for None."""
    return "–" if value is None else f"{value:{form}}"


def interval(low: float | None, high: float | None, form: str = "+.2f") -> str:
    """``[low, high]``; a dash for None and NaN, as of a single seed."""
    if low is None or high is None or math.isnan(low):
        return "–"
    return f"[{low:{form}}, {high:{form}}]"
