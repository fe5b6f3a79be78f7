"""The tables of the pages: accuracy, recipe, precision and recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from attn_blocks import datasets
from attn_book.analysis.evidence import on_record, share_of_runs
from attn_book.language import N_, _, say
from attn_book.records.planned import run_of, runs_of
from attn_book.records.run import Run
from attn_book.study.claims import REPORTED
from attn_book.study.pages import TASK_TITLES, seeds_of
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

DASH = "–"  # what is not known
# The fields of a recipe, as ``setting`` shows them.
SETTINGS = (
    N_("width"),
    N_("stem"),
    N_("image size"),
    N_("augmentation"),
    N_("epochs"),
    N_("batch size"),
    N_("learning rate"),
    N_("schedule"),
    N_("momentum"),
    N_("nesterov"),
    N_("weight decay"),
    N_("decay"),
    N_("smallest crop"),
    N_("drop last"),
    N_("reversed statistics"),
    N_("train images"),
    N_("validation images"),
)


def accuracy_table(plan: Plan, task: str) -> pd.DataFrame:
    """Each model of a comparison: accuracy with its spread over the runs, best epoch, cost.

    The standard deviation over folds holds the folds' own difficulty as well; intervals are those
    of differences, in ``verdicts``.
    """
    comparison, rows = plan.comparison(task), []
    evidence = on_record(plan)[task]
    is_own = comparison.images.name == task
    failed = {
        entry.title
        for entry, experiment in comparison.experiments
        if run_of(plan, experiment).status == "failed"
    }
    for title, runs in runs_of(plan, task).items():
        reported = REPORTED.get((task, title)) if is_own else None
        row = {
            _("Model"): title,
            _("Reported"): DASH if reported is None else f"{reported:.4f}",
            _("Final accuracy"): _("failed")
            if title in failed or evidence.diverged.get(title)
            else _("not trained"),
            _("Standard deviation"): DASH,
            _("Runs"): run_count(plan, task, title, runs) + evidence.ended_early(title),
            _("Best epoch (chosen on validation)"): DASH,
            _("Parameters"): DASH,
            "MMACs": DASH,
        }
        if runs:
            accuracies, best = (
                [run.metrics[name] for run in runs] for name in ("final_val_acc", "best_val_acc")
            )
            metrics = runs[0].metrics
            row |= {
                _("Final accuracy"): f"{np.mean(accuracies):.4f}",
                _("Standard deviation"): f"{np.std(accuracies, ddof=1):.4f}"
                if len(runs) > 1
                else DASH,
                _("Best epoch (chosen on validation)"): f"{np.mean(best):.4f}",
                _("Parameters"): f"{metrics['params']:,}",
                "MMACs": f"{metrics['macs'] / 1e6:,.1f}",
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index(_("Model"))


def run_count(plan: Plan, task: str, title: str, runs: Sequence[Run]) -> str:
    """How many of a model's runs there are: "3 of 5 folds", "1 of 1 seed"."""
    comparison, settings = plan.comparison(task), PROFILES[plan.profile]
    seeds = settings.seeds if settings.folds else plan.seeds
    wanted = {*seeds_of(comparison.comparison, comparison.comparison.entry(title), seeds)}
    wanted |= {run.experiment.seed for run in runs}
    by_folds = settings.folds and not datasets.DATASETS[comparison.images.name].own_split
    return share_of_runs(len(runs), len(wanted), bool(by_folds))


def recipe_table(plan: Plan) -> pd.DataFrame:
    """How each comparison of a page was trained: a column a task, a row a setting."""
    columns = {}
    for comparison in plan.comparisons:
        images = comparison.images
        runs = [experiment for _, experiment in comparison.experiments]
        recipes = [run.recipe for run in runs] or [comparison.recipe]
        columns[TASK_TITLES[comparison.task]] = {
            _("images"): images.title,
            _("training / validation images"): f"{len(images.train):,} / {len(images.val):,}",
            _("classes"): say(
                "{done} of {wanted}", done=len(images.classes), wanted=images.class_total
            ),
            **{
                # One value, but for what a write-up gives its own network alone.
                setting(name): " / ".join(dict.fromkeys(str(getattr(r, name)) for r in recipes))
                for name in asdict(comparison.recipe)
                if name not in ("train_images", "validation_images")
            },
            _("seeds"): " ".join(map(str, sorted({run.seed for run in runs}))),
            _("validated on"): (
                _("the fold of the seed's number")
                if any(run.fold for run in runs)
                else _("one split")
            ),
            _("device"): plan.device,
        }
    return pd.DataFrame(columns).rename_axis(_("setting")).astype(str)


def setting(name: str) -> str:
    """The name of a recipe's field in words."""
    return _(name.replace("_", " "))


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
    frame = frame.round(3).astype({"support": int})
    shown = {
        "precision": _("precision"),
        "recall": _("recall"),
        "f1-score": _("f1-score"),
        "support": _("support"),
    }
    frame = frame.rename(columns=shown, index={"macro avg": _("macro avg")})
    return frame.rename_axis(_("class"))


def known(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that hold nothing but dashes."""
    return frame[[name for name in frame if set(frame[name]) != {DASH}]]


def signed(value: float | None, form: str = "+.2f") -> str:
    """A difference with its sign; a dash for None."""
    return DASH if value is None else f"{value:{form}}"


def interval(bounds: tuple[float, float] | None, form: str = "+.2f") -> str:
    """``[low, high]``; a dash for None and NaN, as of a single seed."""
    low, high = bounds or (math.nan, math.nan)
    if math.isnan(low):
        return DASH
    return f"[{low:{form}}, {high:{form}}]"
