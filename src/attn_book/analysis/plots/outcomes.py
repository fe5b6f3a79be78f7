"""What came of a comparison: confusion, accuracy against cost, gains against the claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from attn_blocks.errors import SettingError
from attn_book.analysis import cost, readings, verdicts
from attn_book.analysis.findings.scores import by_confidence, confidence_of
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.plots.style import DARK, book_style, colour, marker
from attn_book.analysis.words import block_of, listed, points, sentences
from attn_book.language import N_, _, say
from attn_book.records.run import Run
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

WHITE = {"markerfacecolor": "white", "markeredgecolor": "black"}
MOST_NUMBERED = 16  # classes of a confusion matrix whose cells have room for a number
THICK, THIN = 3.5, 1.2


def confusion_matrices(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Confusion matrices on the validation images, summed over seeds.

    The colour is the share of the true class, the number how many images there are.

    Raises:
        SettingError: no run is finished.
    """
    shown = {title: title_runs for title, title_runs in runs.items() if title_runs}
    if not shown:
        raise SettingError("no run is finished, so that there is no confusion matrix")
    classes = next(iter(shown.values()))[0].classes
    columns = 2 if len(shown) == 4 else min(len(shown), 3)  # four as two by two
    rows = math.ceil(len(shown) / columns)
    with book_style({"axes.grid": False}):
        figure, axes = plt.subplots(
            rows, columns, figsize=(4.2 * columns, 4 * rows), layout="constrained", squeeze=False
        )
        for axis in axes.flat[len(shown) :]:
            axis.axis("off")
        for axis, (title, title_runs) in zip(axes.flat, shown.items(), strict=False):
            confusion = np.sum([run.confusion for run in title_runs], axis=0)
            share = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
            image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
            axis.set_title(title)
            axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
            axis.set_yticks(range(len(classes)), classes, fontsize=7)
            axis.set(xlabel=_("predicted"), ylabel=_("true"))
            if len(classes) <= MOST_NUMBERED:
                _write_counts(axis, confusion, share)
        figure.colorbar(image, ax=axes, shrink=0.6, label=_("share of the true class"))
    read = str(readings.confusion_matrices(runs))
    figure.set_label(sentences([_("Confusion matrices."), read]))
    return figure


def _write_counts(axis: plt.Axes, confusion: np.ndarray, share: np.ndarray) -> None:
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            place = {"ha": "center", "va": "center"}
            ink = "white" if share[i, j] > 0.5 else "black"
            axis.text(j, i, f"{count}", fontsize=6 if len(share) <= 10 else 5, color=ink, **place)


def reliability(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Accuracy against confidence, a point a bin: below the diagonal a network is too sure.

    The images of all runs of a network together, in the bins of ``findings.calibration``; a point
    is the larger the more of the images are in its bin.
    """
    with book_style():
        figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
        axis.plot((0, 1), (0, 1), color="black", linewidth=1, linestyle=":")
        for title, of_title in runs.items():
            if of_title:
                sure, share, images = by_confidence(*confidence_of(*of_title))
                look = {"color": colour(title), "marker": marker(title)}
                axis.plot(sure, share, linewidth=1, color=look["color"])
                axis.scatter(sure, share, s=10 + 300 * images / images.sum(), alpha=0.8, **look)
                axis.plot([], [], label=title, **look)
        axis.set(xlabel=_("probability of the predicted class"), ylabel=_("share that is right"))
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axis.legend(fontsize=8)
    what = _("How often the predicted class is right, by the probability that it is given.")
    figure.set_label(sentences([what, str(readings.reliability(runs))]))
    return figure


def accuracy_against_cost(
    runs: Mapping[str, Sequence[Run]], measured: pd.DataFrame | None = None
) -> Figure:
    """Final accuracy against parameters, multiply-adds and, where it was measured, step time.

    Bars reach a standard deviation over the runs to each side.

    Args:
        measured: the table of ``cost.table``. The times of the runs themselves are not drawn: they
            were not taken in turn, nor always on one machine.
    """
    costs: dict[str, Callable[[str, Run], float]] = {
        N_("parameters (millions)"): lambda title, run: run.metrics["params"] / 1e6,
        N_("multiply-adds an image (millions)"): lambda title, run: run.metrics["macs"] / 1e6,
    }
    if measured is not None:
        steps, label = measured[_(cost.STEP)], N_("training step (times the plain network's)")
        costs[label] = lambda title, run: float(steps[title])
    with book_style():
        figure, axes = plt.subplots(
            1, len(costs), figsize=(3.7 * len(costs), 3.6), sharey=True, layout="constrained"
        )
        for axis, (label, cost_of) in zip(axes, costs.items(), strict=True):
            for title, title_runs in runs.items():
                if not title_runs:
                    continue
                accuracies = [run.metrics["final_val_acc"] for run in title_runs]
                axis.errorbar(
                    cost_of(title, title_runs[0]),
                    np.mean(accuracies),
                    yerr=np.std(accuracies, ddof=1) if len(accuracies) > 1 else None,
                    fmt=marker(title),
                    color=colour(title),
                    capsize=3,
                )
            axis.set_xlabel(_(label))
        axes[0].set_ylabel(_("final validation accuracy"))
        figure.legend(
            handles=[
                plt.Line2D([], [], ls="", color=colour(title), marker=marker(title), label=title)
                for title in runs
            ],
            loc="outside lower center",
            ncols=min(2 * len(costs) - 1, len(runs)),
            fontsize=8,
        )
    read = str(readings.accuracy_against_cost(runs))
    figure.set_label(sentences([_("Accuracy against cost."), read]))
    return figure


def gain_forest(plan: Plan, task: str = "animals10") -> Figure:
    """What each block adds to ResNet-50: ours with its intervals, the published, the reported.

    In points of accuracy; what a block's authors publish is top-1 on ImageNet, not on this data,
    and has its source beside it. The thick line is the simultaneous 95% interval, the thin one
    allows for the training images that folds share; there are none until the family is complete.
    What others found stands a little below ours, so that neither hides the other, and is left out
    beside images that it is not about.
    """
    found = verdicts.against_resnet(plan, task)
    with book_style():
        handles = [plt.Line2D([], [], label=_("ours"), marker="o", ls="", color=DARK)]
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.48 * len(found)), layout="constrained")
        for place, verdict in enumerate(found):
            if verdict.is_own:
                _others(axis, place + 0.25, verdict)
        gains(axis, found)
        handles += _handles_of_intervals(found)
        if any(verdict.is_own for verdict in found):
            handles += [
                plt.Line2D([], [], label=label, marker=mark, ls="", **WHITE)
                for label, mark in (
                    (_("the authors', on ImageNet"), "D"),
                    (_("as reported by the write-up"), "X"),
                )
            ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    figure.set_label(_gains_in_words(found))
    return figure


def _handles_of_intervals(found: Sequence[Verdict]) -> list[plt.Line2D]:
    if not any(verdict.interval for verdict in found):
        return []
    intervals = {_("simultaneous 95% interval"): THICK, _("allowing for shared images"): THIN}
    return [
        plt.Line2D([], [], label=label, color=DARK, linewidth=width)
        for label, width in intervals.items()
    ]


def _gains_in_words(found: Sequence[Verdict]) -> str:
    what = _("What each block adds, in points of accuracy.")
    return sentences([what, str(readings.gains(found))])


def gains_at_both_widths(plan: Plan, full_size: Mapping[str, float]) -> Figure:
    """What each block adds to ResNet-50 on Animals-10, in points: here, and at full width.

    Lines are as in ``gain_forest``. Small enough to stand beside a table.

    Args:
        full_size: title -> mean points above ResNet-50 at the published width.
    """
    found = verdicts.against_resnet(plan, "animals10")
    with book_style():
        figure, axis = plt.subplots(figsize=(4.8, 0.9 + 0.42 * len(found)), layout="constrained")
        for place, verdict in enumerate(found):
            if verdict.claim.better in full_size:
                axis.plot(full_size[verdict.claim.better], place + 0.25, "*", ms=10, **WHITE)
        gains(axis, found)
        names = [block_of(verdict.claim.better) for verdict in found]
        axis.set_yticks(range(len(found)), names)
        handles = [plt.Line2D([], [], label=_("here"), marker="o", ls="", color=DARK)]
        if full_size:
            star = {"marker": "*", "ls": "", "ms": 10, **WHITE}
            handles.append(plt.Line2D([], [], label=_("at full width, on average"), **star))
        handles += _handles_of_intervals(found)
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    words = [_gains_in_words(found)]
    if full_size:
        beside = [
            f"{verdict.claim.better} {points(full_size[verdict.claim.better])}"
            for verdict in found
            if verdict.claim.better in full_size
        ]
        words.append(say("At full width, on average: {gains}.", gains=listed(beside)))
    figure.set_label(sentences(words))
    return figure


def gains(axis: plt.Axes, found: Sequence[Verdict]) -> None:
    """A line for each network's difference from the plain one, with its intervals if there are."""
    for place, verdict in enumerate(found):
        _ours(axis, place, colour(verdict.claim.better), verdict)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(found)), [verdict.claim.better for verdict in found])
    label = say("points above {network}", network=RESNET.title)
    axis.set(xlabel=label, ylim=(len(found) - 0.4, -0.6))
    axis.margins(x=0.06)


def _others(axis: plt.Axes, place: float, verdict: Verdict) -> None:
    """What the block's authors publish, with its source, and what the write-up reports."""
    paper, reported = verdict.claim.paper, verdict.claim.reported
    if paper is not None:
        axis.plot(paper.points, place, "D", markersize=7, zorder=4, **WHITE)
        where = (paper.points, place), (8, 0)
        style = {"textcoords": "offset points", "va": "center", "fontsize": 7}
        axis.annotate(paper.source, *where, color="#555555", **style)
    if reported is not None:
        axis.plot(reported, place, "X", markersize=7, zorder=4, **WHITE)


def _ours(axis: plt.Axes, place: float, ink: str, verdict: Verdict) -> None:
    """One line of the forest: our difference with its intervals, or that there is none."""
    style = {"textcoords": "offset points", "fontsize": 8}
    if verdict.value is None:
        axis.annotate(_("no finished run"), (0, place), (6, 4), color="#666666", **style)
        return
    for bounds, width in ((verdict.corrected, THIN), (verdict.interval, THICK)):
        if bounds is not None and math.isfinite(bounds[0]):
            axis.plot(bounds, [place] * 2, color=ink, linewidth=width, solid_capstyle="butt")
    axis.plot(verdict.value, place, "o", color=ink, markersize=8, zorder=3)
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides the axis behind it
    where = (verdict.value, place), (0, 7)
    axis.annotate(f"{verdict.value:+.1f}", *where, ha="center", color=ink, bbox=white, **style)
