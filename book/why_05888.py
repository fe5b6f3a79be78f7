"""Why the write-ups report 0.5888, for ``why_05888.md``: figures, findings and tables.

The write-ups' own evidence is in ``study.write_ups``; all else is made from the published records
of the study, and says "not trained yet" of a run that is not among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from lessons import Lesson

from attn_book.analysis.plots import faults as plots
from attn_book.analysis.plots.faults import day_name
from attn_book.analysis.tables import DASH, signed
from attn_book.analysis.words import block_of, listed, percent, span
from attn_book.records import faults
from attn_book.records.faults import AS_TRAINED, BATCH_OF_ONE, FAULTS, LEVEL
from attn_book.records.recorded import runs_by_title
from attn_book.records.run import Run
from attn_book.study import design
from attn_book.study.claims import REPORTED
from attn_book.study.pages import NINE, RESNET, SE
from attn_book.study.recipes import PROFILES
from attn_book.study.write_ups import SHARED_LOG, WRITE_UPS

EQUAL = "as the study trains it"
NOT_TRAINED, NOT_MEASURED = "not trained yet", "not measured yet"


class Found:
    """What is on record, and what follows from it.

    Args:
        folder: the published folder of the profile "study".
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = PROFILES[folder.name].recipes["animals10"]
        self.equal = faults.equally_trained(folder)
        self.unequal = faults.trained(folder)
        self.seen = faults.accuracies(folder)
        self.nearest = faults.nearest(self.unequal)

    @cached_property
    def rescued(self) -> Run | None:
        """SE trained with the nearest fault."""
        if self.nearest is None:
            return None
        comparison = design.rescued(design.UNEQUAL.entry(self.nearest))
        (run,) = faults.trained(self.folder, comparison).values()
        return run

    @cached_property
    def curves(self) -> dict[str, Run]:
        """Label -> finished runs of the plain network: the study's, until then the pilot's.

        Of the pilot's trials those of the study's recipe.
        """
        study = runs_by_title(self.folder, NINE)[RESNET.title]
        trials = [
            (title, run)
            for step in design.PILOT
            for title, of in runs_by_title(self.folder, step).items()
            for run in of
            if run.experiment.recipe == self.recipe
        ]
        pairs = [(RESNET.title, run) for run in study] or trials
        return {
            ("" if study else f"pilot, {title}, ")
            + f"fold {run.experiment.fold}, seed {run.experiment.seed}": run
            for title, run in pairs
            if run.status == "finished"
        }

    @property
    def runs(self) -> list[Run]:
        """Every run that the page shows a number of."""
        shown = [*self.equal.values(), *self.unequal.values(), *self.curves.values(), self.rescued]
        return list({run.folder.name: run for run in shown if run is not None}.values())

    @property
    def guessing(self) -> tuple[str, float, int]:
        """(the most frequent class, its share of the validation images, number of images)."""
        run = next(iter(self.curves.values()))
        counts = run.confusion.sum(axis=1)
        return run.classes[int(counts.argmax())], counts.max() / counts.sum(), int(counts.sum())

    @property
    def noise(self) -> float:
        """Two standard errors of an accuracy of 0.5888 on so many images, in points."""
        return 200 * math.sqrt(LEVEL * (1 - LEVEL) / self.guessing[2])


def lessons(found: Found) -> dict[str, Lesson]:
    """Every part of the page, in its order."""
    made = (write_ups, curve, unequal, evaluation, rescue)
    return {make.__name__: make(found) for make in made}


def origin(found: Found) -> str:
    """Data, sizes, runs, device and dates in one line."""
    runs = found.runs
    label = runs[0].record["data"]["label"]
    days = sorted(run.metrics["finished"][:10] for run in runs if run.status == "finished")
    size, width = found.recipe.image_size, found.recipe.width
    number = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    trained = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return (
        f"profile {found.folder.name} · {label}, {size} px, width {width:g} · "
        f"{number} · trained {trained}"
    )


def write_ups(_: Found) -> Lesson:
    """What the write-ups themselves give away."""
    rows = {}
    for one in WRITE_UPS:
        printed = "; ".join(
            f"{block_of(title)} {REPORTED[one.task, title]:.4f}" + _logged(days)
            for title, days in one.prints.items()
        )
        rows[one.name] = {
            "Page dated": one.dated or "no date",
            "Logs of": listed(map(day_name, one.logs)) if one.logs else "no date",
            "Accuracy printed": printed or "none, curves alone",
            f"{LEVEL:.4f} for {RESNET.title}": "yes" if RESNET.title in one.prints else "no",
        }
    sharing = [one for one in WRITE_UPS if RESNET.title in one.prints]
    (run_on,) = {one.prints[RESNET.title] for one in sharing}
    later = {
        title: days
        for one in WRITE_UPS
        for title, days in one.prints.items()
        if len(days) == 1 and days != run_on
    }
    by_day = {days: [t for t, of in later.items() if of == days] for days in later.values()}
    order = "; ".join(
        f"{listed(block_of(title) for title in titles)} on {day_name(days[0])}"
        for days, titles in by_day.items()
    )
    blocks = {
        one.name: [REPORTED[one.task, t] for t in one.prints if t != RESNET.title]
        for one in WRITE_UPS
        if one.task == "animals10"
    }
    levels = "; ".join(f"{span(values, '.4f')} in {name}" for name, values in blocks.items())
    within = listed(
        f"{100 * np.ptp(values):.1f} ({name})" for name, values in blocks.items() if len(values) > 1
    )
    top = max(blocks, key=lambda name: min(blocks[name]))
    rest = max(max(values) for name, values in blocks.items() if name != top)
    others = listed(one.name for one in WRITE_UPS if one.logs and one not in sharing)
    return Lesson(
        plots.write_ups(WRITE_UPS, REPORTED),
        f"Days of the logs: {RESNET.title} {LEVEL:.4f} on {day_name(run_on[0])}, the same run in "
        f"{listed(one.name for one in sharing)}; then {order}. SRM and GE are of 13 or 22 February."
        f" Levels with a block: {levels}.",
        f"{listed(one.name for one in sharing)} print one and the same evaluation of "
        f"{RESNET.title}: both logs read {SHARED_LOG['stamp']} and process "
        f"{SHARED_LOG['process']}, with a loss of {SHARED_LOG['loss']} and an accuracy of "
        f"{SHARED_LOG['accuracy']}. It was run once, on {day_name(run_on[0])}; then came, by "
        f"the days of their logs, {order}. {others} prints no plain network at all. With a block "
        f"the write-ups report {levels}: inside one of them the networks differ by at most "
        f"{within} points, and the lowest of {top} lies {100 * (min(blocks[top]) - rest):.1f} "
        f"above the highest of the others.",
        pd.DataFrame(rows).T.rename_axis("Write-up"),
    )


def curve(found: Found) -> Lesson:
    """Where the plain network passes the level, when nothing is wrong with its training."""
    passed = {label: (run, faults.epoch_of(run)) for label, run in found.curves.items()}
    rows = {
        label: {
            "Epochs": str(len(run.history["epoch"])),
            f"Passes {LEVEL:.4f} after epoch": DASH if epoch is None else str(epoch),
            "Accuracy there": DASH if epoch is None else percent(run.history["val_acc"][epoch - 1]),
            "Accuracy at the end": percent(run.metrics["final_val_acc"]),
        }
        for label, (run, epoch) in passed.items()
    }
    each = listed(
        f"{'never in' if epoch is None else f'{epoch} of'} {len(run.history['epoch'])} ({label})"
        for label, (run, epoch) in passed.items()
    )
    ends = [run.metrics["final_val_acc"] for run, _ in passed.values()]
    name, share, images = found.guessing
    return Lesson(
        plots.passing(passed, LEVEL),
        f"Validation accuracy of {RESNET.title} by epoch, with a line at {LEVEL:.4f}, which it "
        f"passes after epoch {each}; at the end it has {span(ends, '.1%')}.",
        f"{RESNET.title} passes {LEVEL:.4f} after epoch {each}, and ends at "
        f"{span(ends, '.1%')}: a training that stops about there reports that number. It "
        f"says less here than on the ten classes of the write-ups: of our {images:,} validation "
        f"images {percent(share)} are of one class ({name}), so that always naming it gives that "
        f"much.",
        pd.DataFrame(rows).T.rename_axis("Run"),
    )


def unequal(found: Found) -> Lesson:
    """What unequal training does to the plain network."""
    runs = {EQUAL: found.equal[RESNET.title], **found.unequal}
    entries = {entry.title: entry for entry in design.UNEQUAL.entries}
    rows = {
        title: {
            "Changed": _changes(found, entries[title].changes["study"]) if title != EQUAL else DASH,
            "Accuracy": _accuracy(run),
            f"Above {LEVEL:.4f}": _away(run),
            f"Passes {LEVEL:.4f} after epoch": _passes(run),
        }
        for title, run in runs.items()
    }
    values = {
        title: _value(run) if run is not None and not run.diverged else _accuracy(run)
        for title, run in runs.items()
    }
    there = {t: v for t, v in values.items() if t != EQUAL and isinstance(v, float)}
    ended = [run for run in found.unequal.values() if run is not None]
    each = "; ".join(f"{title} {percent(value)}" for title, value in there.items())
    figure = plots.under_faults(values, LEVEL, found.guessing[1], EQUAL) if there else None
    return Lesson(
        figure,
        f"Accuracy of {RESNET.title} under each fault of training, with a line at {LEVEL:.4f}: "
        f"{each}; {EQUAL}: {_accuracy(runs[EQUAL])}.",
        _unequal_finding(found, there, len(ended), each),
        pd.DataFrame(rows).T.rename_axis("Fault"),
    )


def _unequal_finding(found: Found, there: dict[str, float], ended: int, each: str) -> str:
    count = len(found.unequal)
    if not ended:
        return f"None of the {count} runs is trained yet."
    text = f"{each}." if there else ""
    diverged = [t for t, run in found.unequal.items() if run is not None and run.diverged]
    if diverged:
        text += f" {listed(diverged)} diverged."
    if found.nearest is None:
        return f"{ended} of {count} runs are trained: {text} Which fault lands nearest is open."
    nearest = there[found.nearest]
    close = [title for title, value in there.items() if abs(100 * (value - LEVEL)) < found.noise]
    others = f"{len(close)} of the {count} ({'; '.join(close)})" if close else "None"
    equal = found.equal[RESNET.title]
    reference = "" if equal is None else f" {EQUAL.capitalize()}: {_accuracy(equal)}."
    return (
        f"{RESNET.title} under each fault of training: {text}{reference} Nearest to "
        f"{LEVEL:.4f} lands “{found.nearest}” with {percent(nearest)}, "
        f"{signed(100 * (nearest - LEVEL), '+.1f')} points. {others} "
        f"{'lies' if len(close) < 2 else 'lie'} within {found.noise:.1f} points of it, two "
        f"standard errors that the images alone leave."
    )


WHAT = {
    AS_TRAINED: DASH,
    faults.NOT_NORMALISED: "pixels from 0 to 1 go in as they are",
    faults.REVERSED: "blue where the network expects red",
    faults.SQUEEZED: "the whole image as a square, not its middle",
    BATCH_OF_ONE: "statistics of the one image in place of those from training",
}


def evaluation(found: Found) -> Lesson:
    """The finished network, seen wrongly."""
    seen = {title: found.seen.get(title) for title in (AS_TRAINED, *FAULTS)}
    rows = {
        title: {
            "What the network gets": WHAT[title],
            "Accuracy": NOT_MEASURED if value is None else percent(value),
            f"Above {LEVEL:.4f}": DASH if value is None else _points(value),
        }
        for title, value in seen.items()
    }
    values = {title: value for title, value in seen.items() if value is not None}
    figure, alt = None, ""
    finding = (
        f"{NOT_MEASURED.capitalize()}: the network that this is measured on, {RESNET.title} of "
        "fold 0, is not published yet."
    )
    if values:
        right = values.pop(AS_TRAINED)
        each = "; ".join(
            f"{title} {percent(v)} ({signed(100 * (v - right), '+.1f')})"
            for title, v in values.items()
        )
        figure = plots.under_faults(
            {AS_TRAINED: right, **values}, LEVEL, found.guessing[1], AS_TRAINED
        )
        alt = (
            f"Accuracy of the finished {RESNET.title} under each fault of evaluation, with a line "
            f"at {LEVEL:.4f}: {AS_TRAINED} {percent(right)}; {each}."
        )
        finding = (
            f"The finished network, whose weights did not change, gets {percent(right)} of the "
            f"validation images {AS_TRAINED}, and with a fault, in points beside that: {each}."
        )
    return Lesson(figure, alt, finding, pd.DataFrame(rows).T.rename_axis("Seen"))


def rescue(found: Found) -> Lesson:
    """Does a block rescue a badly trained network?"""
    fault = found.nearest or "the nearest fault"
    runs = {
        EQUAL: {RESNET.title: found.equal[RESNET.title], SE.title: found.equal[SE.title]},
        fault: {
            RESNET.title: found.unequal.get(fault),
            SE.title: found.rescued,
        },
    }
    table = pd.DataFrame(
        {training: {t: _accuracy(run) for t, run in of.items()} for training, of in runs.items()}
    ).T.rename_axis("Training")
    values = {
        training: {t: _value(run) for t, run in of.items() if run and not run.diverged}
        for training, of in runs.items()
    }
    shown = {training: of for training, of in values.items() if of}
    if found.nearest is None:
        text = "Which fault it is shows once all of them are trained."
        return Lesson(None, "", text, table)
    if found.rescued is None:
        return Lesson(None, "", f"{SE.title} with “{fault}” is {NOT_TRAINED}.", table)
    if found.rescued.diverged:
        return Lesson(None, "", f"{SE.title} with “{fault}” {_accuracy(found.rescued)}.", table)
    said = "; ".join(
        f"{training}: " + listed(f"{t} {percent(value)}" for t, value in of.items())
        for training, of in shown.items()
    )
    gains = {
        training: 100 * (of[SE.title] - of[RESNET.title])
        for training, of in values.items()
        if len(of) == 2
    }
    text = (
        f"With “{fault}” {SE.title} ends at {percent(values[fault][SE.title])}, "
        f"{abs(gains[fault]):.1f} points {'above' if gains[fault] > 0 else 'below'} "
        f"{RESNET.title}'s {percent(values[fault][RESNET.title])}."
    )
    if EQUAL in gains:
        lost = 100 * (values[EQUAL][RESNET.title] - values[fault][RESNET.title])
        text += (
            f" As the study trains both, the difference on the same images is "
            f"{signed(gains[EQUAL], '+.1f')}; the fault itself takes {lost:.1f} points from "
            f"{RESNET.title}, and the reported difference is "
            f"{signed(100 * (REPORTED['animals10', SE.title] - LEVEL), '+.1f')}."
        )
    return Lesson(
        plots.rescue(shown, LEVEL),
        f"Accuracies of {RESNET.title} and {SE.title}, with a line at {LEVEL:.4f}: {said}.",
        text,
        table,
    )


def _changes(found: Found, changes: dict[str, object]) -> str:
    known = asdict(found.recipe)
    return "; ".join(
        f"{name.replace('_', ' ')} {known[name]} → {value}" for name, value in changes.items()
    )


def _value(run: Run) -> float:
    return run.metrics["final_val_acc"]


def _accuracy(run: Run | None) -> str:
    if run is None:
        return NOT_TRAINED
    return f"diverged in epoch {run.metrics['epoch']}" if run.diverged else percent(_value(run))


def _away(run: Run | None) -> str:
    return DASH if run is None or run.diverged else _points(_value(run))


def _passes(run: Run | None) -> str:
    epoch = None if run is None or run.diverged else faults.epoch_of(run)
    return DASH if epoch is None else f"{epoch} of {len(run.history['epoch'])}"


def _points(value: float) -> str:
    return signed(100 * (value - LEVEL), "+.1f")


def _logged(days: Sequence[tuple[int, int]]) -> str:
    """The days of a log in brackets, all of one month: " (13 or 22 Feb)"; empty without one."""
    if not days:
        return ""
    number, month = day_name(days[-1]).split()
    first = "".join(f"{day} or " for _, day in days[:-1])
    return f" ({first}{number} {month[:3]})"
