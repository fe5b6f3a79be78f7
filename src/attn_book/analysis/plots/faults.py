"""Why the write-ups report 0.5888 for ResNet-50: the figures of ``book/why_05888.md``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attn_book.analysis.plots.style import (
    DARK,
    DASHES,
    GROUND,
    NOTE,
    PALE,
    STRONG,
    WIDTH,
    book_style,
    colour,
    marker,
)
from attn_book.analysis.words import block_of
from attn_book.language import N_, _, say
from attn_book.records.run import Run
from attn_book.study.pages import RESNET, TASK_TITLES
from attn_book.study.write_ups import Day, WriteUp

# Its days and its name, on an axis in short; and the days before it. The logs have no year.
MONTHS = {
    2: (N_("{day} February"), N_("{day} Feb"), 0),
    3: (N_("{day} March"), N_("{day} Mar"), 28),
}


def day_name(day: Day) -> str:
    """``(2, 13)`` as "13 February"."""
    month, number = day
    return say(MONTHS[month][0], day=number)


def short_day_name(day: tuple[int, int | str]) -> str:
    """The same as "13 Feb"; the number may be several, such as "13 or 22"."""
    month, number = day
    return say(MONTHS[month][1], day=number)


def _place(day: Day) -> int:
    month, number = day
    return MONTHS[month][2] + number


def write_ups(found: Sequence[WriteUp], reported: Mapping[tuple[str, str], float]) -> Figure:
    """What each write-up prints, at the day of its log: a row a write-up, a marker a network.

    Networks whose day is not told apart lie on all that are possible, joined by a line.

    Args:
        reported: task and title -> accuracy.
    """
    days = sorted({day for one in found for day in one.logs}, key=_place)
    first, last = _place(days[0]), _place(days[-1])
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 1 + 0.85 * len(found)), layout="constrained")
        shared = []
        for row, one in enumerate(found):
            lines = sorted(one.prints.items(), key=lambda pair: [*map(_place, pair[1])][-1:])
            for line, (title, when) in enumerate(lines):
                y = row + 0.24 * (line - (len(lines) - 1) / 2)
                text = f"{block_of(title)} {reported[one.task, title]:.4f}"
                at = [_place(day) for day in when] or [first - 1]
                if when:
                    look = {"color": colour(title), "marker": marker(title), "markersize": 7}
                    axis.plot(at, [y] * len(at), ls=":", linewidth=1.5, zorder=3, **look)
                else:
                    text = say(
                        "{text} ({task}; its log has no date)",
                        text=text,
                        task=TASK_TITLES[one.task],
                    )
                axis.annotate(text, (at[-1], y), (8, 0), ha="left", bbox=GROUND, **NOTE)
                shared += [y] if title == RESNET.title else []
            if not lines:
                text = say("curves without numbers ({task})", task=TASK_TITLES[one.task])
                axis.annotate(text, (first - 1, row), (8, 0), ha="left", bbox=GROUND, **NOTE)
        axis.plot([first] * len(shared), shared, color=colour(RESNET.title), linewidth=5)
        middle = (first, sum(shared) / len(shared))
        axis.annotate(_("one log"), middle, (8, 0), ha="left", bbox=GROUND, **NOTE)
        names = [f"{w.name}\n{w.dated or _('no date')}" for w in found]
        axis.set_yticks(range(len(found)), names)
        axis.set_xticks([_place(day) for day in days], [short_day_name(day) for day in days])
        axis.set(xlim=(first - 1, last + 5), ylim=(len(found) - 0.4, -0.6))
        axis.set_xlabel(_("day of the log (left: the date on the page)"))
    return figure


def passing(runs: Mapping[str, tuple[Run, int | None]], level: float) -> Figure:
    """The plain network's validation accuracy epoch by epoch, and where it passes a level.

    Args:
        runs: label -> a run, and the first epoch at the level.
    """
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
        axis.axhline(level, color=STRONG, linewidth=1.5)
        for number, (label, (run, epoch)) in enumerate(runs.items()):
            ink = PALE if number else DARK
            epochs, values = run.history["epoch"], run.history["val_acc"]
            style = DASHES[number % len(DASHES)]
            when = _("never") if epoch is None else say("epoch {epoch}", epoch=epoch)
            text = say("{lead}: {text}", lead=label, text=when)
            axis.plot(epochs, values, style, color=ink, linewidth=2, label=text)
            if epoch is not None:
                axis.plot(epoch, values[epoch - 1], "o", color=ink, mec="black", zorder=4)
        axis.annotate(f"{level:.4f}", (1, level), (0, 8), ha="right", xycoords=_RIGHT, **NOTE)
        axis.set(xlabel=_("epochs"), ylabel=_("validation accuracy"))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = say("{network} passes {level:.4f}", network=RESNET.title, level=level)
        axis.legend(title=title, loc="lower right", fontsize=9)
    return figure


_RIGHT = ("axes fraction", "data")


def under_faults(
    found: Mapping[str, float | str], level: float, guessing: float, first: str
) -> Figure:
    """The accuracy under each fault, with the level that is looked for.

    Args:
        found: title -> accuracy, or what to say in its place.
        guessing: the accuracy of always naming the most frequent class.
        first: the title of what has no fault.
    """
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.4 * len(found)), layout="constrained")
        for place, (title, value) in enumerate(found.items()):
            if isinstance(value, str):
                axis.annotate(value, (0, place), (6, 0), ha="left", color="#666666", **NOTE)
                continue
            look = "D" if title == first else "o"
            axis.plot([0, 100 * value], [place] * 2, color=PALE, linewidth=1.5)
            axis.plot(100 * value, place, look, color=DARK, markersize=8)
            text = f"{100 * value:.1f}"
            axis.annotate(text, (100 * value, place), (8, 0), ha="left", bbox=GROUND, **NOTE)
        axis.axvline(100 * level, color=STRONG, linewidth=2)
        right, left = (100 * level, -0.6), (100 * guessing, -0.6)
        axis.annotate(f"{level:.4f}", right, (0, 8), ha="left", color=STRONG, **NOTE)
        axis.axvline(100 * guessing, color=DARK, linewidth=1, ls=":")
        axis.annotate(_("always one class"), left, (0, 8), ha="right", **NOTE)
        axis.set_yticks(range(len(found)), [_broken(title) for title in found])
        axis.set_xlabel(_("validation accuracy (%)"))
        axis.set(xlim=(0, 100), ylim=(len(found) - 0.5, -0.6))
    return figure


def rescue(found: Mapping[str, Mapping[str, float]], level: float) -> Figure:
    """Networks trained equally and with a fault: accuracies by training, then by title."""
    with book_style():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.6 * len(found)), layout="constrained")
        for place, values in enumerate(found.values()):
            shares = [100 * value for value in values.values()]
            axis.plot([min(shares), max(shares)], [place] * 2, color=PALE, linewidth=2)
            for title, share in zip(values, shares, strict=True):
                axis.plot(share, place, marker(title), color=colour(title), markersize=9)
                side = -1 if share == min(shares) else 1
                where = {"ha": "right" if side < 0 else "left", **NOTE}
                text = f"{block_of(title)} {share:.1f}"
                axis.annotate(text, (share, place), (8 * side, 0), bbox=GROUND, **where)
        axis.axvline(100 * level, color=STRONG, linewidth=2)
        top = (100 * level, -0.6), (0, 8)
        axis.annotate(f"{level:.4f}", *top, ha="center", color=STRONG, **NOTE)
        axis.set_yticks(range(len(found)), [_broken(title) for title in found])
        axis.set_xlabel(_("validation accuracy (%)"))
        axis.set(xlim=(0, 100), ylim=(len(found) - 0.4, -0.6))
    return figure


def _broken(title: str) -> str:
    """The title of a training or a fault, a line for each of its parts."""
    return re.sub(r", |(?<=，)", lambda found: found[0].rstrip() + "\n", _(title))
