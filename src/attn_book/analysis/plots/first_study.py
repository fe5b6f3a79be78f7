"""What was wrong with the first study: a figure for each lesson of ``book/first_study.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from attn_book.analysis import first_study
from attn_book.analysis.first_study import CONVOLUTIONS, UNDECIDED, Learned, OldVerdict
from attn_book.analysis.plots.style import (
    DARK,
    GROUND,
    HOLLOW,
    NOTE,
    PALE,
    STRONG,
    WIDTH,
    book_style,
    colour,
)
from attn_book.analysis.statistics import Difference, Values
from attn_book.analysis.tables import interval, signed
from attn_book.language import _, say
from attn_book.study.pages import RESNET, SRM, TASK_TITLES


def gains_under_decay(courses: Mapping[str, np.ndarray], values: Values) -> Figure:
    """Left, what decay alone makes of a gain of 1; right, every run's accuracy, best mean first.

    Args:
        courses: label -> the gain before the first epoch and after each, the highest first.
    """
    with book_style():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(WIDTH, 3.4), layout="constrained", width_ratios=(1, 1.15)
        )
        for (label, course), style in zip(courses.items(), ("-", "--", ":"), strict=True):
            left.plot(course, style, color=DARK, linewidth=2)
            text = say("{lead}: {text}", lead=label, text=f"{course[-1]:.2f}")
            end = (len(course) - 1, course[-1])
            left.annotate(text, end, (0, 10 if course[-1] == 1 else -10), ha="right", **NOTE)
        left.set(xlabel=_("epochs"), ylabel=_("a gain without gradient"), ylim=(0, 1.15))
        ranked = sorted(values, key=lambda title: -np.mean([*values[title].values()]))
        for place, title in enumerate(ranked):
            runs = [*values[title].values()]
            right.plot(runs, [place] * len(runs), "o", color=colour(title), alpha=0.7)
            right.plot(np.mean(runs), place, "|", color=colour(title), markersize=16, mew=3)
        right.set_yticks(range(len(ranked)), ranked)
        where = min(values[SRM.title].values()), ranked.index(SRM.title)
        right.annotate(_("gains not decayed"), where, (-10, 0), ha="right", **NOTE)
        right.set_xlabel(_("validation accuracy (%); bars: means"))
        right.invert_yaxis()
    return figure


def seeds_beside_networks(values: Values, equal_starts: Mapping[str, int]) -> Figure:
    """How far each run lies from its network's mean, and with how much of ResNet-50 it began."""
    titles = list(values)
    seeds = sorted(values[RESNET.title])
    table = np.array([[values[title][seed] for seed in seeds] for title in titles])
    table -= table.mean(axis=1, keepdims=True)
    table = np.vstack([table, table.mean(axis=0)])
    reach = np.abs(table).max()
    starts = [
        say("{done} of {wanted}", done=equal_starts[t], wanted=CONVOLUTIONS)
        if t in equal_starts
        else ""
        for t in titles
    ]
    with book_style({"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
        image = axis.imshow(table, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            ink = "white" if abs(value) > 0.7 * reach else "black"
            axis.text(column, row, f"{value:+.2f}", ha="center", va="center", color=ink)
        axis.axhline(len(titles) - 0.5, color="white", linewidth=6)
        axis.set_xticks(range(len(seeds)), [say("seed {seed}", seed=seed) for seed in seeds])
        axis.set_yticks(range(len(table)), [*titles, _("mean")])
        beside = axis.secondary_yaxis("right")
        beside.set_yticks(range(len(table)), [*starts, ""])
        label = say("convolutions that began as {network}'s", network=RESNET.title)
        beside.set_ylabel(label)
        axis.spines[:].set_visible(False)
        beside.spines[:].set_visible(False)
        for one in (axis, beside):
            one.tick_params(length=0)
        figure.colorbar(image, ax=axis, shrink=0.8, label=_("points above the network's mean"))
    return figure


def matched_seeds(verdicts: Sequence[OldVerdict]) -> Figure:
    """Each claim's 95% intervals for each way to match its runs, the study's own at the top."""
    with book_style():
        figure, axis = plt.subplots(
            figsize=(WIDTH, 0.9 + 0.72 * len(verdicts)), layout="constrained"
        )
        for place, verdict in enumerate(verdicts):
            for i, (found, word) in enumerate(zip(verdict.matches, verdict.words, strict=True)):
                y = place + 0.12 * (i - (len(verdict.matches) - 1) / 2)
                ink, width = (PALE, 1.6) if word == UNDECIDED else (STRONG, 2.2)
                axis.plot(first_study.interval(found), [y, y], color=ink, linewidth=width)
                axis.plot(found.value, y, "o" if i == 0 else "|", color=ink, markersize=5)
            high = max(first_study.interval(found)[1] for found in verdict.matches)
            text = say(
                "{outcome}: {stands} of {matches}",
                outcome=_(verdict.word),
                stands=verdict.stands,
                matches=len(verdict.matches),
            )
            axis.annotate(text, (high, place), (6, 0), ha="left", bbox=GROUND, **NOTE)
        axis.axvline(0, color="black", linewidth=1)
        names = [
            say("{better}\nabove {worse}", better=v.claim.better, worse=v.claim.worse)
            for v in verdicts
        ]
        axis.set_yticks(range(len(verdicts)), names)
        axis.set_xlabel(_("points of validation accuracy, 95% interval"))
        axis.set_ylim(len(verdicts) - 0.5, -0.5)
        axis.margins(x=0.12)
        handles = [
            plt.Line2D([], [], color=STRONG, linewidth=2.2, label=_("decides")),
            plt.Line2D([], [], color=PALE, linewidth=1.6, label=_("undecided")),
            plt.Line2D([], [], color=DARK, marker="o", ls="", label=_("equal seeds, as published")),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def one_by_one_and_together(
    alone: Mapping[str, Difference], together: Mapping[str, tuple[float, float]]
) -> Figure:
    """Each block less ResNet-50: the interval from its own three pairs, and that from all runs."""
    with book_style():
        figure, axis = plt.subplots(
            figsize=(WIDTH, 1.2 + 0.42 * len(together)), layout="constrained"
        )
        for place, (title, bounds) in enumerate(together.items()):
            decides = bounds[0] > 0 or bounds[1] < 0
            own = first_study.interval(alone[title])
            axis.plot(own, [place - 0.16] * 2, "--", color=PALE, linewidth=1.6)
            axis.plot(bounds, [place + 0.12] * 2, color=STRONG if decides else DARK, linewidth=3.5)
            axis.plot(alone[title].value, place + 0.12, "o", color="white", mec="black", zorder=3)
            text = f"{signed(alone[title].value)} {interval(bounds)}"
            where = (max(*own, *bounds), place), (6, 0)
            axis.annotate(text, *where, ha="left", bbox=GROUND, **NOTE)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_yticks(range(len(together)), list(together))
        axis.set_xlabel(say("points above {network}", network=RESNET.title))
        axis.set_ylim(len(together) - 0.5, -0.5)
        axis.margins(x=0.16)
        handles = [
            plt.Line2D([], [], color=PALE, ls="--", label=_("its own pairs of runs alone")),
            plt.Line2D([], [], color=DARK, linewidth=3.5, label=_("all runs, all blocks at once")),
            plt.Line2D([], [], color=STRONG, linewidth=3.5, label=_("the same, off zero")),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def gains_beyond_all(baseline: float, reported: Mapping[str, float]) -> Figure:
    """The reported gains (points) put on top of ResNet-50's accuracy, which leaves less than that.

    Args:
        baseline: ResNet-50's accuracy, in percent.
    """
    with book_style():
        figure, axis = plt.subplots(
            figsize=(WIDTH, 1.2 + 0.5 * len(reported)), layout="constrained"
        )
        for place, (title, gain) in enumerate(reported.items()):
            axis.barh(place, baseline, color="#d0d0d0", height=0.6)
            axis.barh(
                place, gain, left=baseline, color="white", ec=colour(title), hatch="///", height=0.6
            )
            axis.annotate(f"+{gain:.1f}", (baseline + gain, place), (5, 0), ha="left", **NOTE)
        axis.axvline(100, color="black", linewidth=2)
        axis.annotate(_("every image right"), (100, -0.7), (0, 7), ha="center", **NOTE)
        middle = {"ha": "center", "va": "center"}
        for place in range(len(reported)):
            text = say("{lead}: {text}", lead=RESNET.title, text=f"{baseline:.1f}")
            axis.text(baseline / 2, place, text, **middle)
        axis.set_yticks(range(len(reported)), list(reported))
        axis.set_xlabel(_("validation accuracy (%)"))
        axis.set(xlim=(0, 128), ylim=(len(reported) - 0.5, -0.7))
    return figure


def training_and_validation(found: Mapping[str, Mapping[str, Learned]]) -> Figure:
    """What each network got right in its last epoch: training images hollow, validation full.

    Args:
        found: task -> network -> accuracies.
    """
    rows = [len(of_task) for of_task in found.values()]
    with book_style():
        figure, axes = plt.subplots(
            len(found),
            1,
            figsize=(WIDTH, 1.6 + 0.27 * sum(rows)),
            sharex=True,
            height_ratios=rows,
            layout="constrained",
        )
        for axis, (task, of_task) in zip(axes, found.items(), strict=True):
            for place, (title, one) in enumerate(of_task.items()):
                ink = colour(title)
                axis.plot([one.training, one.validation], [place] * 2, color=ink, linewidth=2)
                axis.plot(one.training, place, mec=ink, **HOLLOW)
                axis.plot(one.validation, place, "o", color=ink)
                right = max(one.training, one.validation), place
                axis.annotate(f"{one.gap:+.1f}", right, (8, 0), ha="left", **NOTE)
            axis.set_yticks(range(len(of_task)), list(of_task))
            axis.set_ylim(len(of_task) - 0.5, -0.5)
            axis.set_title(TASK_TITLES[task], loc="left")
        label = _("accuracy in the last epoch (%); numbers: training less validation")
        axes[-1].set_xlabel(label)
        handles = [
            plt.Line2D([], [], mec=DARK, label=_("training, while the weights moved"), **HOLLOW),
            plt.Line2D([], [], ls="", marker="o", color=DARK, label=_("validation, after it")),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure
