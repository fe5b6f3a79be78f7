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
from texts import origin_of

from attn_book.analysis.plots import faults as plots
from attn_book.analysis.plots.faults import day_name, short_day_name
from attn_book.analysis.tables import DASH, setting, signed
from attn_book.analysis.words import (
    block_of,
    clauses,
    listed,
    percent,
    sentences,
    span,
)
from attn_book.language import N_, _, say
from attn_book.records import faults
from attn_book.records.faults import AS_TRAINED, BATCH_OF_ONE, FAULTS, LEVEL
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import runs_by_title
from attn_book.records.run import Run
from attn_book.study import design
from attn_book.study.claims import REPORTED
from attn_book.study.pages import NINE, RESNET, SE
from attn_book.study.recipes import PROFILES
from attn_book.study.write_ups import SHARED_LOG, WRITE_UPS, Day

from . import Lesson, page_texts

EQUAL = N_("as the study trains it")
NOT_TRAINED, NOT_MEASURED = N_("not trained yet"), N_("not measured yet")
NO_CURVE = N_("No run of the plain network by the study's recipe is published yet.")


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
        template = N_("fold {fold}")  # which is its seed too
        if not study:
            template = N_("pilot, {title}, fold {fold}, seed {seed}")
        return {
            say(template, title=title, fold=run.experiment.fold, seed=run.experiment.seed): run
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


def texts(records: Path, folder: Path = PUBLISHED / "study") -> dict[str, str]:
    """What ``why_05888.md`` includes; the figures are written to ``records``."""
    found = Found(folder)
    origin = origin_of(found.folder.name, found.runs) if found.curves else _(NO_CURVE)
    return page_texts("why_05888", origin, lessons(found), records)


def lessons(found: Found) -> dict[str, Lesson]:
    """Every part of the page, in its order."""
    made = (write_ups, curve, unequal, evaluation, rescue)
    if not found.curves:
        unknown = pd.DataFrame({_("Accuracy"): {RESNET.title: _(NOT_TRAINED)}})
        nothing = Lesson(None, "", _(NO_CURVE), unknown.rename_axis(_("Network")))
        return {make.__name__: nothing for make in made} | {"write_ups": write_ups(found)}
    return {make.__name__: make(found) for make in made}


def write_ups(found: Found) -> Lesson:
    """What the write-ups themselves give away."""
    sharing = [one for one in WRITE_UPS if RESNET.title in one.prints]
    (run_on,) = {one.prints[RESNET.title] for one in sharing}
    blocks = {
        one.name: [REPORTED[one.task, t] for t in one.prints if t != RESNET.title]
        for one in WRITE_UPS
        if one.task == "animals10"
    }
    within = listed(
        say("{points:.1f} ({write_up})", points=100 * np.ptp(values), write_up=name)
        for name, values in blocks.items()
        if len(values) > 1
    )
    top = max(blocks, key=lambda name: min(blocks[name]))
    rest = max(max(values) for name, values in blocks.items() if name != top)
    known, unsure = _by_days(run_on)
    values = {
        "sharing": listed(one.name for one in sharing),
        "network": RESNET.title,
        "level": LEVEL,
        "day": day_name(run_on[0]),
        "order": known,
        "levels": clauses(
            say("{levels} in {write_up}", levels=span(values, ".4f"), write_up=name)
            for name, values in blocks.items()
        ),
    }
    return Lesson(
        plots.write_ups(WRITE_UPS, REPORTED),
        say(
            "Days of the logs: {network} {level:.4f} on {day}, the same run in {sharing}; then "
            "{order}; {unsure}. Levels with a block: {levels}.",
            **values,
            unsure=unsure,
        ),
        say(
            "{sharing} print one and the same evaluation of {network}: both logs read {stamp} and "
            "process {process}, with a loss of {loss} and an accuracy of {accuracy}. It was run "
            "once, on {day}; then came, by the days of their logs, {order}. {others} prints no "
            "plain network at all. With a block the write-ups report {levels}: inside one of them "
            "the networks differ by at most {within} points, and the lowest of {top} lies "
            "{above:.1f} above the highest of the others.",
            **values,
            **SHARED_LOG,
            others=listed(one.name for one in WRITE_UPS if one.logs and one not in sharing),
            within=within,
            top=top,
            above=100 * (min(blocks[top]) - rest),
        ),
        _write_ups_table(),
    )


def _by_days(run_on: tuple[Day, ...]) -> tuple[str, str]:
    """Blocks by the days of their logs: those of one day other than ``run_on``, those of two."""
    by_days: dict[tuple[Day, ...], list[str]] = {}
    for one in WRITE_UPS:
        for title, days in one.prints.items():
            if days not in ((), run_on):
                by_days.setdefault(days, []).append(block_of(title))
    known, unsure = (
        clauses(
            say("{blocks} on {day}", blocks=listed(blocks), day=day_name(_one_of(days)))
            for days, blocks in by_days.items()
            if (len(days) > 1) == is_unsure
        )
        for is_unsure in (False, True)
    )
    return known, unsure


def _write_ups_table() -> pd.DataFrame:
    rows = {}
    for one in WRITE_UPS:
        printed = clauses(
            f"{block_of(title)} {REPORTED[one.task, title]:.4f}" + _logged(days)
            for title, days in one.prints.items()
        )
        prints = _("yes") if RESNET.title in one.prints else _("no")
        rows[one.name] = {
            _("Page dated"): one.dated or _("no date"),
            _("Logs of"): listed(map(day_name, one.logs)) if one.logs else _("no date"),
            _("Accuracy printed"): printed or _("none, curves alone"),
            say("{level:.4f} for {network}", level=LEVEL, network=RESNET.title): prints,
        }
    return pd.DataFrame(rows).T.rename_axis(_("Write-up"))


def curve(found: Found) -> Lesson:
    """Where the plain network passes the level, when nothing is wrong with its training."""
    passed = {label: (run, faults.epoch_of(run)) for label, run in found.curves.items()}
    rows = {
        label: {
            _("Epochs"): str(len(run.history["epoch"])),
            _passing_epoch(): DASH if epoch is None else str(epoch),
            _("Accuracy there"): DASH
            if epoch is None
            else percent(run.history["val_acc"][epoch - 1]),
            _("Accuracy at the end"): percent(run.metrics["final_val_acc"]),
        }
        for label, (run, epoch) in passed.items()
    }
    each = listed(
        say(
            N_("never in {epochs} ({run})") if epoch is None else N_("{epoch} of {epochs} ({run})"),
            epoch=epoch,
            epochs=len(run.history["epoch"]),
            run=label,
        )
        for label, (run, epoch) in passed.items()
    )
    name, share, images = found.guessing
    values = {
        "network": RESNET.title,
        "level": LEVEL,
        "each": each,
        "ends": span([run.metrics["final_val_acc"] for run in found.curves.values()], ".1%"),
    }
    return Lesson(
        plots.passing(passed, LEVEL),
        say(
            "Validation accuracy of {network} by epoch, with a line at {level:.4f}, which it "
            "passes after epoch {each}; at the end it has {ends}.",
            **values,
        ),
        say(
            "{network} passes {level:.4f} after epoch {each}, and ends at {ends}: a training that "
            "stops about there reports that number. It says less here than on the ten classes of "
            "the write-ups: of our {images:,} validation images {share:.1%} are of one class "
            "({name}), so that always naming it gives that much.",
            **values,
            images=images,
            share=share,
            name=name,
        ),
        pd.DataFrame(rows).T.rename_axis(_("Run")),
    )


def unequal(found: Found) -> Lesson:
    """What unequal training does to the plain network."""
    runs = {EQUAL: found.equal[RESNET.title], **found.unequal}
    entries = {entry.title: entry for entry in design.UNEQUAL.entries}
    rows = {
        _(title): {
            _("Changed"): _changes(found, entries[title].changes["study"])
            if title != EQUAL
            else DASH,
            _("Accuracy"): _accuracy(run),
            say("Points from {level:.4f}", level=LEVEL): _away(run),
            _passing_epoch(): _passes(run),
        }
        for title, run in runs.items()
    }
    values = {
        title: _value(run) if run is not None and not run.diverged else _accuracy(run)
        for title, run in runs.items()
    }
    there = {t: v for t, v in values.items() if t != EQUAL and isinstance(v, float)}
    ended = [run for run in found.unequal.values() if run is not None]
    each = clauses(f"{_(title)} {percent(value)}" for title, value in there.items())
    figure = plots.under_faults(values, LEVEL, found.guessing[1], EQUAL) if there else None
    return Lesson(
        figure,
        say(
            "Accuracy of {network} under each fault of training, with a line at {level:.4f}: "
            "{each}; {equal}: {accuracy}.",
            network=RESNET.title,
            level=LEVEL,
            each=each,
            equal=_(EQUAL),
            accuracy=_accuracy(runs[EQUAL]),
        ),
        _unequal_finding(found, there, len(ended), each),
        pd.DataFrame(rows).T.rename_axis(_("Fault")),
    )


def _passing_epoch() -> str:
    return say("Passes {level:.4f} after epoch", level=LEVEL)


def _unequal_finding(found: Found, there: dict[str, float], ended: int, each: str) -> str:
    count = len(found.unequal)
    if not ended:
        return say("None of the {number} runs is trained yet.", number=count)
    parts = [say("{text}.", text=each)] if there else []
    diverged = [_(t) for t, run in found.unequal.items() if run is not None and run.diverged]
    if diverged:
        parts.append(say("Diverged: {faults}.", faults=listed(diverged)))
    if found.nearest is None:
        return say(
            "Trained so far are {ended} of {number}: {text} Which fault lands nearest is open.",
            ended=ended,
            number=count,
            text=sentences(parts),
        )
    nearest = there[found.nearest]
    equal = found.equal[RESNET.title]
    if equal is not None:
        template = N_("As the study trains it: {accuracy}.")
        parts.append(say(template, accuracy=_accuracy(equal)))
    lead = say(
        "{network} under each fault of training: {text}",
        network=RESNET.title,
        text=sentences(parts),
    )
    lands = say(
        "Nearest to {level:.4f} lands “{fault}” with {accuracy}, {apart:+.1f} points.",
        level=LEVEL,
        fault=_(found.nearest),
        accuracy=percent(nearest),
        apart=100 * (nearest - LEVEL),
    )
    return sentences([lead, lands, _close(found, there)])


def _close(found: Found, there: dict[str, float]) -> str:
    """Which faults lie so near the level that the images alone could be the reason."""
    close = [_(title) for title, v in there.items() if abs(100 * (v - LEVEL)) < found.noise]
    none = N_(
        "None lies within {noise:.1f} points of it, two standard errors of an accuracy on so many "
        "images."
    )
    one = N_(
        "{close} of the {number} ({faults}) lies within {noise:.1f} points of it, two standard "
        "errors of an accuracy on so many images."
    )
    several = N_(
        "{close} of the {number} ({faults}) lie within {noise:.1f} points of it, two standard "
        "errors of an accuracy on so many images."
    )
    return say(
        (none, one)[len(close)] if len(close) < 2 else several,
        noise=found.noise,
        close=len(close),
        number=len(found.unequal),
        faults=clauses(close),
    )


WHAT = {
    AS_TRAINED: DASH,
    faults.NOT_NORMALISED: N_("pixels from 0 to 1 go in as they are"),
    faults.REVERSED: N_("blue where the network expects red"),
    faults.SQUEEZED: N_("the whole image as a square, not its middle"),
    BATCH_OF_ONE: N_("statistics of the one image in place of those from training"),
}


def evaluation(found: Found) -> Lesson:
    """The finished network, seen wrongly."""
    seen = {title: found.seen.get(title) for title in (AS_TRAINED, *FAULTS)}
    rows = {
        _(title): {
            _("What the network gets"): _(WHAT[title]),
            _("Accuracy"): _(NOT_MEASURED) if value is None else percent(value),
            say("Points from {level:.4f}", level=LEVEL): DASH if value is None else _points(value),
        }
        for title, value in seen.items()
    }
    table = pd.DataFrame(rows).T.rename_axis(_("Seen"))
    values = {title: value for title, value in seen.items() if value is not None}
    if not values:
        return Lesson(None, "", _why_not_measured(found), table)
    right = values.pop(AS_TRAINED)
    said = {
        "as_trained": _(AS_TRAINED),
        "right": right,
        "each": clauses(
            say(
                "{fault} {accuracy:.1%} ({change:+.1f})",
                fault=_(title),
                accuracy=value,
                change=100 * (value - right),
            )
            for title, value in values.items()
        ),
    }
    return Lesson(
        plots.under_faults({AS_TRAINED: right, **values}, LEVEL, found.guessing[1], AS_TRAINED),
        say(
            "Accuracy of the finished {network} under each fault of evaluation, with a line at "
            "{level:.4f}: {as_trained} {right:.1%}; {each}.",
            network=RESNET.title,
            level=LEVEL,
            **said,
        ),
        say(
            "The finished network, from its published weights in half precision, gets {right:.1%} "
            "of the validation images {as_trained}, and with the same weights and a fault, in "
            "points beside that: {each}.",
            **said,
        ),
        table,
    )


def _why_not_measured(found: Found) -> str:
    if faults.subject(found.folder) is not None:
        return _("Not measured yet: publishing the study measures it where the images are.")
    return say(
        "Not measured yet: the network that this is measured on, {network} of fold 0, is not "
        "published yet.",
        network=RESNET.title,
    )


def rescue(found: Found) -> Lesson:
    """Does a block rescue a badly trained network?"""
    fault = found.nearest or N_("the nearest fault")
    runs = {
        EQUAL: {RESNET.title: found.equal[RESNET.title], SE.title: found.equal[SE.title]},
        fault: {
            RESNET.title: found.unequal.get(fault),
            SE.title: found.rescued,
        },
    }
    table = pd.DataFrame(
        {_(training): {t: _accuracy(run) for t, run in of.items()} for training, of in runs.items()}
    ).T.rename_axis(_("Training"))
    if found.nearest is None:
        text = _("Which fault it is shows once all of them are trained.")
        return Lesson(None, "", text, table)
    if found.rescued is None or found.rescued.diverged:
        template = N_("{network} with “{fault}” {outcome}.")
        if found.rescued is None:
            template = N_("{network} with “{fault}” is {outcome}.")
        outcome = _accuracy(found.rescued)
        text = say(template, network=SE.title, fault=_(fault), outcome=outcome)
        return Lesson(None, "", text, table)
    values = {
        training: {t: _value(run) for t, run in of.items() if run and not run.diverged}
        for training, of in runs.items()
    }
    shown = {training: of for training, of in values.items() if of}
    said = clauses(
        say(
            "{lead}: {text}",
            lead=_(training),
            text=listed(f"{t} {percent(value)}" for t, value in of.items()),
        )
        for training, of in shown.items()
    )
    alt = say(
        "Accuracies of {plain} and {block}, with a line at {level:.4f}: {said}.",
        plain=RESNET.title,
        block=SE.title,
        level=LEVEL,
        said=said,
    )
    return Lesson(plots.rescue(shown, LEVEL), alt, _rescued(fault, values), table)


def _rescued(fault: str, values: dict[str, dict[str, float]]) -> str:
    """What SE adds with the fault, and beside it as the study trains both where it has."""
    gains = {
        training: 100 * (of[SE.title] - of[RESNET.title])
        for training, of in values.items()
        if len(of) == 2
    }
    above = N_(
        "With “{fault}” {block} ends at {block_accuracy}, {gain:.1f} points above {network}'s "
        "{accuracy}."
    )
    below = N_(
        "With “{fault}” {block} ends at {block_accuracy}, {gain:.1f} points below {network}'s "
        "{accuracy}."
    )
    text = say(
        above if gains[fault] > 0 else below,
        fault=_(fault),
        block=SE.title,
        block_accuracy=percent(values[fault][SE.title]),
        gain=abs(gains[fault]),
        network=RESNET.title,
        accuracy=percent(values[fault][RESNET.title]),
    )
    if EQUAL not in gains:
        return text
    equal = say(
        "As the study trains both, the difference on the same images is {equal:+.1f}; the "
        "fault itself takes {lost:.1f} points from {network}, and the reported difference is "
        "{reported:+.1f}.",
        equal=gains[EQUAL],
        lost=100 * (values[EQUAL][RESNET.title] - values[fault][RESNET.title]),
        network=RESNET.title,
        reported=100 * (REPORTED["animals10", SE.title] - LEVEL),
    )
    return sentences([text, equal])


def _changes(found: Found, changes: dict[str, object]) -> str:
    known = asdict(found.recipe)
    return clauses(f"{setting(name)} {known[name]} → {value}" for name, value in changes.items())


def _value(run: Run) -> float:
    return run.metrics["final_val_acc"]


def _accuracy(run: Run | None) -> str:
    if run is None:
        return _(NOT_TRAINED)
    if run.diverged:
        return say("diverged in epoch {epoch}", epoch=run.metrics["epoch"])
    return percent(_value(run))


def _away(run: Run | None) -> str:
    return DASH if run is None or run.diverged else _points(_value(run))


def _passes(run: Run | None) -> str:
    epoch = None if run is None or run.diverged else faults.epoch_of(run)
    if epoch is None:
        return DASH
    return say("{done} of {wanted}", done=epoch, wanted=len(run.history["epoch"]))


def _points(value: float) -> str:
    return signed(100 * (value - LEVEL), "+.1f")


def _logged(days: Sequence[Day]) -> str:
    """The days of a log in brackets, all of one month: " (13 or 22 Feb)"; empty without one."""
    return say(" ({days})", days=short_day_name(_one_of(days))) if days else ""


def _one_of(days: Sequence[Day]) -> tuple[int, str]:
    """Days of one month, of which a log has one, as a day: the month, and "13 or 22"."""
    return days[-1][0], _(" or ").join(str(number) for _month, number in days)
