"""The networks at full width, for ``full_size.md``: figures, findings and tables.

All of it is made from the records of one GPU; the study's own runs stand beside them where they are
published, and are never put into one comparison with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from attn_blocks.files import PROJECT
from attn_book.analysis.full_size import (
    ANIMALS,
    CALTECH,
    CIFAR,
    RECORDS,
    STUDY,
    Found,
    mean_course,
    standard_error,
)
from attn_book.analysis.plots import full_size as plots
from attn_book.analysis.statistics import difference, mcnemar
from attn_book.analysis.tables import DASH, setting, signed
from attn_book.analysis.words import block_of, clauses, joined, listed, percent, sentences
from attn_book.language import N_, _, say
from attn_book.records.full_size import FullSize
from attn_book.study.pages import RESNET, TASK_TITLES
from attn_book.study.recipes import PROFILES

from . import Lesson, page_texts

NOT_YET = N_("not yet")
PROCESSOR = PROJECT / "benchmarks" / "results" / "models.csv"  # training at full width


def texts(records: Path, study: Path = STUDY) -> dict[str, str]:
    """What ``full_size.md`` includes; the figures are written to ``records``."""
    found = Found(RECORDS, study)
    return page_texts("full_size", origin(found), lessons(found), records)


def lessons(found: Found) -> dict[str, Lesson]:
    """Every part of the page, in its order."""
    made = (animals, course, small, others, cost, recipe)
    return {make.__name__: make(found) for make in made}


def origin(found: Found) -> str:
    """Device, framework, precision, data and seeds in one line."""
    devices, versions, precisions = (
        clauses(sorted({r.compute[name] for r in found.records}))
        for name in ("device", "torch", "precision")
    )
    return say(
        "full width · {number} trainings, seeds {seeds} · {devices} · PyTorch {versions} · "
        "{precisions}",
        number=len(found.records),
        seeds=joined(map(str, sorted({r.seed for r in found.records}))),
        devices=devices,
        versions=versions,
        precisions=precisions,
    )


def animals(found: Found) -> Lesson:
    """What the nine networks reach, in each training and on average."""
    gains = {title: found.gains(ANIMALS, title) for title in found.blocks}
    each = clauses(
        say(
            "{block} {mean} ({each})",
            block=block_of(title),
            mean=_sign(found.gain(ANIMALS, title)),
            each=_signs(of),
        )
        for title, of in gains.items()
    )
    return Lesson(
        plots.gains_of_trainings(gains, {title: found.errors(title) for title in gains}),
        say(
            "Points above {network} after {epochs} epochs, the mean and each of {trainings} "
            "trainings: {each}.",
            network=RESNET.title,
            epochs=len(found.plain[0].history),
            trainings=len(found.plain),
            each=each,
        ),
        _animals_finding(found, gains, each),
        _animals_table(found),
    )


def _animals_finding(found: Found, gains: Mapping[str, list[float]], each: str) -> str:
    errors = {title: found.error(title) for title in gains}
    beyond = [t for t in gains if abs(found.gain(ANIMALS, t)) > 2 * errors[t]]
    turned = [t for t, of in gains.items() if min(of) < 0 < max(of)]
    widest = max(gains, key=lambda title: np.ptp(gains[title]))
    trainings = len(found.plain)
    return say(
        "Each network was trained {times}, from other initial values and with other images held "
        "out. After {epochs} epochs {network} is right on {accuracies} of its validation images. "
        "Points above it on average, and in each training: {each}. By the images alone two "
        "standard errors of such a mean are {low:.1f} to {high:.1f} points; beyond that lie "
        "{beyond}, not adjusted for their number. But images are not all that moves a difference: "
        "{turned} are above {network} in one training and below it in another, and {widest} is at "
        "{first} and at {last}. So few trainings do not say how far the next one would go.",
        times=_("twice") if trainings == 2 else say("{number} times", number=trainings),
        epochs=len(found.plain[0].history),
        network=RESNET.title,
        accuracies=listed(percent(one.accuracy) for one in found.plain),
        each=each,
        low=2 * min(errors.values()),
        high=2 * max(errors.values()),
        beyond=listed(map(block_of, beyond)),
        turned=listed(map(block_of, turned)),
        widest=block_of(widest),
        first=_sign(gains[widest][0]),
        last=_sign(gains[widest][-1]),
    )


def _animals_table(found: Found) -> pd.DataFrame:
    rows = {
        title: {
            _("Parameters"): f"{of[0].params:,}",
            _("Training"): _accuracies(of, lambda one: one.history[-1]["train_acc"]),
            _("Validation"): _accuracies(of, lambda one: one.accuracy),
            **_against_plain(found, title),
            _("Gain in the small networks"): _small(found, ANIMALS, title),
        }
        for title, of in {RESNET.title: found.plain, **found.blocks}.items()
    }
    return pd.DataFrame(rows).T.rename_axis(_("Network"))


def course(found: Found) -> Lesson:
    """When a block is ahead: a quarter, half, three quarters and all of the epochs."""
    plain = mean_course(found.plain)
    at = [len(plain) * part // 4 for part in (1, 2, 3, 4)]
    gains = found.gains_after(at)
    rows = {
        title: {
            say("Epoch {epoch}", epoch=epoch): signed(gain)
            for epoch, gain in zip(at, of, strict=True)
        }
        for title, of in gains.items()
    }
    shrunk = [t for t, of in gains.items() if of[0] > of[-1]]
    rise = 100 * float(plain[-1] - plain[at[2] - 1])
    largest = max(gains, key=lambda title: gains[title][0])
    first, last = gains[largest][0], gains[largest][-1]
    each = clauses(f"{block_of(t)} {_signs(of)}" for t, of in gains.items())
    return Lesson(
        plots.gains_in_time(gains, at),
        say(
            "Points above {network} after {epochs} epochs: {each}.",
            network=RESNET.title,
            epochs=listed(map(str, at)),
            each=each,
        ),
        say(
            "On average {number} of {blocks} blocks are further ahead after a quarter of the "
            "epochs than at the end ({shrunk}): {largest} by {first:.1f} points after epoch "
            "{early} and by {last:.1f} after epoch {end}. What a block adds is here in part that "
            "it learns faster, and {network} itself gains {rise:.1f} points in the last quarter: "
            "where longer training would take the difference is open.",
            number=len(shrunk),
            blocks=len(gains),
            shrunk=listed(map(block_of, shrunk)),
            largest=block_of(largest),
            first=first,
            early=at[0],
            last=last,
            end=at[-1],
            network=RESNET.title,
            rise=rise,
        ),
        pd.DataFrame(rows).T.rename_axis(_("Network")),
    )


def small(found: Found) -> Lesson:
    """The same blocks in networks of a quarter of the width."""
    study = found.small[ANIMALS]
    ended = [t for t, seeds in study.wanted.items() if study.has_ended(t, seeds)]
    there = {
        title: (one.value, found.gain(ANIMALS, title))
        for title in found.blocks
        if RESNET.title in ended and title in ended
        if (one := difference(study.accuracies, title, RESNET.title)) is not None
    }
    rows = {
        title: {
            _("Full width, mean of the trainings"): signed(found.gain(ANIMALS, title)),
            _("Small, mean of the folds"): _small(found, ANIMALS, title),
        }
        for title in found.blocks
    }
    table = pd.DataFrame(rows).T.rename_axis(_("Network"))
    if len(there) < len(found.blocks):
        missing = listed(block_of(title) for title in found.blocks if title not in there)
        text = say(
            "The study's runs of {blocks} are not all published yet: what they change is open.",
            blocks=missing,
        )
        return Lesson(None, "", text, table)
    each = clauses(f"{block_of(t)} {listed(map(_sign, pair))}" for t, pair in there.items())
    alt = say(
        "Points above {network}, small and at full width: {each}.",
        network=RESNET.title,
        each=each,
    )
    return Lesson(plots.small_and_full(there), alt, _in_both_sizes(there), table)


def _in_both_sizes(there: dict[str, tuple[float, float]]) -> str:
    """Which differences keep their sign, and how many are smaller in the small network."""
    turned = [t for t, (little, full) in there.items() if (little > 0) != (full > 0)]
    # As they are shown: nobody sees which of two that print alike is the smaller.
    smaller = [
        t for t, (little, full) in there.items() if abs(round(little, 1)) < abs(round(full, 1))
    ]
    sides = [
        say(
            "{number} of {blocks} blocks lie on the same side of {network} in both sizes",
            number=len(there) - len(turned),
            blocks=len(there),
            network=RESNET.title,
        )
    ]
    if turned:
        sides.append(say("{blocks} on different ones", blocks=listed(map(block_of, turned))))
    shrunk = say(
        "For {number} of the {blocks} the difference, whatever its sign, is smaller in the small "
        "network.",
        number=len(smaller),
        blocks=len(there),
    )
    return sentences([say("{text}.", text=clauses(sides)), shrunk])


def others(found: Found) -> Lesson:
    """The other two tasks."""
    tasks = {task: found.networks(task) for task in (CALTECH, CIFAR)}
    said = {
        task: joined(f"{title} {percent(one.accuracy)}" for title, one in networks.items())
        for task, networks in tasks.items()
    }
    swings = [np.ptp(one.accuracies[-5:]) for one in tasks[CIFAR].values()]
    stopped = [title for title, one in tasks[CIFAR].items() if not one.is_finished]
    trained = [one.history[-1]["train_acc"] for one in tasks[CALTECH].values()]
    ends = {
        "caltech": TASK_TITLES[CALTECH],
        "caltech_ends": said[CALTECH],
        "cifar": TASK_TITLES[CIFAR],
        "cifar_ends": said[CIFAR],
    }
    curves = {
        TASK_TITLES[task]: {title: one.accuracies for title, one in networks.items()}
        for task, networks in tasks.items()
    }
    return Lesson(
        plots.curves(curves, 3.2),
        say(
            "Validation accuracy by epoch. {caltech}: {caltech_ends}. {cifar}: {cifar_ends}.",
            **ends,
        ),
        say(
            "{caltech}: {caltech_ends}, and each is right on {trained:.1%} of the training images "
            "by then. {cifar}: {cifar_ends}; at a constant rate an accuracy moves by {low:.1f} to "
            "{high:.1f} points within the last five epochs, and {stopped} were stopped early: "
            "these are not told apart.",
            **ends,
            trained=min(trained),
            low=100 * min(swings),
            high=100 * max(swings),
            stopped=listed(stopped),
        ),
        _others_table(found, tasks),
    )


def _others_table(found: Found, tasks: Mapping[str, Mapping[str, FullSize]]) -> pd.DataFrame:
    rows = {
        (TASK_TITLES[task], title): {
            _("Network"): title,
            _("Epochs"): say(
                "{done} of {wanted}", done=len(one.history), wanted=one.recipe["epochs"]
            ),
            _("Validation"): percent(one.accuracy),
            **_against(one, networks[found.baseline(task)]),
            _("In the small networks"): _small(found, task, title),
        }
        for task, networks in tasks.items()
        for title, one in networks.items()
    }
    return pd.DataFrame(rows.values(), [key[0] for key in rows]).rename_axis(_("Task"))


def cost(found: Found) -> Lesson:
    """What a block costs in time, as measured on a processor."""
    networks = found.networks(ANIMALS)
    plain = networks[RESNET.title]
    processor = pd.read_csv(PROCESSOR, comment="#")
    same = processor[(processor.width == 1) & (processor.batch == plain.recipe["batch_size"])]
    speeds = dict(zip(same.model, same.train, strict=True))
    ratios = {title: speeds[plain.model] / speeds[one.model] for title, one in networks.items()}
    rows = {t: {_("Training step, in ResNet-50's"): f"{of:.2f}"} for t, of in ratios.items()}
    step = {title: one.compute["step_ms_alone"] for title, one in networks.items()}
    odd = [title for title in found.blocks if step[title] < step[RESNET.title]]
    cheapest = sorted((t for t in ratios if t != RESNET.title), key=lambda t: ratios[t])
    text = say(
        "Measured in turns on a processor, at full width and {pixels} pixels, a training step "
        "takes so many of {network}'s: {each}. The GPU's step times are in the records and left "
        "out here, because the networks were timed in groups, and what else the card did then is "
        "not on record: {odd} do all that {network} does and more, and show a shorter step.",
        network=RESNET.title,
        odd=listed(map(block_of, odd)),
        pixels=int(same.image_size.iloc[0]),
        each=joined(f"{block_of(title)} {ratios[title]:.2f}" for title in cheapest),
    )
    return Lesson(None, "", text, pd.DataFrame(rows).T.rename_axis(_("Network")))


def recipe(found: Found) -> Lesson:
    """What differs from the study beside the width."""
    study = asdict(PROFILES["study"].recipes[ANIMALS])
    full = found.plain[-1].recipe  # the first trainings' records lack some of its settings
    rows = {
        setting(name): {_("Here"): str(full[name]), _("In the study"): str(study[name])}
        for name in full
        if full[name] != study[name]
    }
    text = say(
        "{number} settings differ from the study's: {settings}. So nothing here is the effect of "
        "the width alone. The study trains {network}, SE and SRM at half the width too, with all "
        "else its own.",
        number=len(rows),
        settings=listed(rows),
        network=RESNET.title,
    )
    return Lesson(None, "", text, pd.DataFrame(rows).T.rename_axis(_("Setting")))


def _against(one: FullSize, baseline: FullSize) -> dict[str, str]:
    """Difference, and the images that one of the two alone gets right."""
    if one is baseline:
        return {_("Gain"): DASH, _("Images won, lost"): DASH, _("Standard error"): DASH}
    won, lost = mcnemar(one.right, baseline.right)
    return {
        _("Gain"): signed(100 * (one.accuracy - baseline.accuracy)),
        _("Images won, lost"): f"{won}, {lost}",
        _("Standard error"): f"{standard_error(one.right, baseline.right):.2f}",
    }


def _against_plain(found: Found, title: str) -> dict[str, str]:
    """The same of all trainings on Animals-10: the mean difference, and the images of all."""
    if title == RESNET.title:
        columns = _("Gain"), _("Each"), _("Images won, lost"), _("Standard error")
        return dict.fromkeys(columns, DASH)
    pairs = zip(found.all_of(title), found.plain, strict=True)
    won, lost = np.sum([mcnemar(one.right, plain.right) for one, plain in pairs], axis=0)
    return {
        _("Gain"): signed(found.gain(ANIMALS, title)),
        _("Each"): joined(map(signed, found.gains(ANIMALS, title))),
        _("Images won, lost"): f"{won}, {lost}",
        _("Standard error"): f"{found.error(title):.2f}",
    }


def _small(found: Found, task: str, title: str) -> str:
    study, baseline = found.small[task], found.baseline(task)
    if title == baseline:
        return DASH
    one = difference(study.accuracies, title, baseline)
    if one is None:
        return _(NOT_YET)
    runs = study.progress(title, baseline)
    return say("{gain} ({runs})", gain=signed(one.value), runs=runs)


def _accuracies(of: Iterable[FullSize], value: Callable[[FullSize], float]) -> str:
    return joined(percent(value(one)) for one in of)


def _signs(values: Iterable[float]) -> str:
    return joined(map(_sign, values))


def _sign(value: float) -> str:
    return signed(value, "+.1f")
