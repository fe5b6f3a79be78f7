"""The networks at full width, for ``full_size.md``: figures, findings and tables.

All of it is made from the records of one GPU; the study's own runs stand beside them where they are
published, and are never put into one comparison with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from lessons import Lesson

from attn_blocks.files import PROJECT
from attn_book.analysis.plots import full_size as plots
from attn_book.analysis.statistics import mcnemar
from attn_book.analysis.tables import DASH, signed
from attn_book.analysis.words import block_of, listed, percent
from attn_book.records import full_size
from attn_book.records.full_size import FullSize
from attn_book.records.recorded import runs_by_title
from attn_book.study.pages import (
    CLASSICS,
    NINE,
    RESNET,
    SENET_WITHOUT,
    SENETS,
    TASK_TITLES,
    Comparison,
    title_for,
)
from attn_book.study.recipes import PROFILES

ANIMALS, CALTECH, CIFAR = "animals10", "caltech16", "cifar10"
COMPARISONS = {ANIMALS: NINE, CALTECH: CLASSICS, CIFAR: SENETS}
BASELINES = {ANIMALS: RESNET.title, CALTECH: RESNET.title, CIFAR: SENET_WITHOUT.title}
NOT_YET = "not yet"
PROCESSOR = PROJECT / "benchmarks" / "results" / "models.csv"  # training at full width


class Found:
    """The records of the GPU, and the study's runs that stand beside them.

    Args:
        folder: ``book/published/full_size``.
        study: the published folder of the profile "study".

    Attributes:
        trainings: task -> seed -> title -> record. The networks of one seed share their images.
    """

    def __init__(self, folder: Path, study: Path) -> None:
        self.records = full_size.records(folder)
        self.study = study
        self.trainings = {
            task: {
                seed: _titled(
                    comparison, [r for r in self.records if (r.task, r.seed) == (task, seed)]
                )
                for seed in sorted({r.seed for r in self.records if r.task == task})
            }
            for task, comparison in COMPARISONS.items()
        }

    def networks(self, task: str) -> dict[str, FullSize]:
        """The first training of each network of a task."""
        return next(iter(self.trainings[task].values()))

    @property
    def animals(self) -> dict[int, dict[str, FullSize]]:
        return self.trainings[ANIMALS]

    def all_of(self, title: str) -> list[FullSize]:
        """The trainings of a network on Animals-10."""
        return [networks[title] for networks in self.animals.values()]

    @property
    def plain(self) -> list[FullSize]:
        return self.all_of(RESNET.title)

    @cached_property
    def blocks(self) -> dict[str, list[FullSize]]:
        """The trainings of the networks with a block on Animals-10, the best mean first."""
        titles = [title for title in self.networks(ANIMALS) if title != RESNET.title]
        ranked = sorted(titles, key=lambda title: -self.gain(ANIMALS, title))
        return {title: self.all_of(title) for title in ranked}

    def gains(self, task: str, title: str) -> list[float]:
        """Points above the task's baseline after the last epoch of each training."""
        return [
            100 * (networks[title].accuracy - networks[BASELINES[task]].accuracy)
            for networks in self.trainings[task].values()
        ]

    def gain(self, task: str, title: str) -> float:
        """The mean of ``gains``."""
        return float(np.mean(self.gains(task, title)))

    def errors(self, title: str) -> list[float]:
        """Of each training's gain on Animals-10, what the images alone leave, in points."""
        return [_error(*pair) for pair in zip(self.all_of(title), self.plain, strict=True)]

    def error(self, title: str) -> float:
        """Of the mean gain, the same; each training has validation images of its own."""
        errors = self.errors(title)
        return math.hypot(*errors) / len(errors)

    def small(self, task: str, title: str) -> tuple[float, int, int] | None:
        """The study's mean gain over the same baseline: (points, folds done, folds wanted)."""
        runs = runs_by_title(self.study, COMPARISONS[task])
        ours, plain = (
            {r.experiment.seed: r.metrics["final_val_acc"] for r in of if r.status == "finished"}
            for of in (runs[title], runs[BASELINES[task]])
        )
        both = sorted(ours.keys() & plain.keys())
        if not both:
            return None
        entry = COMPARISONS[task].entry(title)
        wanted = entry.runs or COMPARISONS[task].runs or len(PROFILES["study"].seeds)
        return 100 * float(np.mean([ours[s] - plain[s] for s in both])), len(both), wanted


def _titled(comparison: Comparison, records: Iterable[FullSize]) -> dict[str, FullSize]:
    known = {title_for(record.model, record.options): record for record in records}
    return {e.title: known[e.title] for e in comparison.entries if e.title in known}


def lessons(found: Found) -> dict[str, Lesson]:
    """Every part of the page, in its order."""
    made = (animals, course, small, others, cost, recipe)
    return {make.__name__: make(found) for make in made}


def origin(found: Found) -> str:
    """Device, framework, precision, data and seeds in one line."""
    devices, versions, precisions = (
        "; ".join(sorted({r.compute[name] for r in found.records}))
        for name in ("device", "torch", "precision")
    )
    seeds = sorted({r.seed for r in found.records})
    return (
        f"full width · {len(found.records)} trainings, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))} · {devices} · PyTorch {versions} · {precisions}"
    )


def animals(found: Found) -> Lesson:
    """What the nine networks reach, in each training and on average."""
    plain = found.plain
    rows = {
        title: {
            "Parameters": f"{of[0].params:,}",
            "Training": _accuracies(of, lambda one: one.history[-1]["train_acc"]),
            "Validation": _accuracies(of, lambda one: one.accuracy),
            **_against_plain(found, title),
            "Gain in the small networks": _small(found, ANIMALS, title),
        }
        for title, of in {RESNET.title: plain, **found.blocks}.items()
    }
    gains = {title: found.gains(ANIMALS, title) for title in found.blocks}
    errors = {title: found.error(title) for title in gains}
    means = {title: float(np.mean(of)) for title, of in gains.items()}
    beyond = [t for t in gains if abs(means[t]) > 2 * errors[t]]
    turned = [t for t, of in gains.items() if min(of) < 0 < max(of)]
    widest = max(gains, key=lambda title: np.ptp(gains[title]))
    each = "; ".join(f"{block_of(t)} {_sign(means[t])} ({_signs(of)})" for t, of in gains.items())
    return Lesson(
        plots.gains_of_trainings(gains, {title: found.errors(title) for title in gains}),
        f"Points above {RESNET.title} after {len(plain[0].history)} epochs, the mean and each of "
        f"{len(plain)} trainings: {each}.",
        f"Each network was trained {len(plain)} times, from other initial values and with other "
        f"images held out. After {len(plain[0].history)} epochs {RESNET.title} is right on "
        f"{listed(percent(one.accuracy) for one in plain)} of its validation images. Points above "
        f"it on average, and in each training: {each}. By the images alone two standard errors of "
        f"such a mean are {2 * min(errors.values()):.1f} to {2 * max(errors.values()):.1f} points; "
        f"beyond that lie {listed(map(block_of, beyond))}, not adjusted for their number. But "
        f"images are not all that moves a difference: {listed(map(block_of, turned))} are above "
        f"{RESNET.title} in one training and below it in another, and {block_of(widest)} is at "
        f"{_sign(gains[widest][0])} and at {_sign(gains[widest][-1])}. So "
        f"few trainings do not say how far the next one would go.",
        pd.DataFrame(rows).T.rename_axis("Network"),
    )


def course(found: Found) -> Lesson:
    """When a block is ahead: a quarter, half, three quarters and all of the epochs."""
    plain, epochs = (
        np.mean([one.accuracies for one in found.plain], axis=0),
        len(found.plain[0].history),
    )
    at = [epochs * part // 4 for part in (1, 2, 3, 4)]
    means = {t: np.mean([one.accuracies for one in of], axis=0) for t, of in found.blocks.items()}
    gains = {t: [100 * float(of[e - 1] - plain[e - 1]) for e in at] for t, of in means.items()}
    rows = {
        title: {f"Epoch {epoch}": signed(gain) for epoch, gain in zip(at, of, strict=True)}
        for title, of in gains.items()
    }
    shrunk = [t for t, of in gains.items() if of[0] > of[-1]]
    rise = 100 * float(plain[-1] - plain[at[2] - 1])
    largest = max(gains, key=lambda title: gains[title][0])
    first, last = gains[largest][0], gains[largest][-1]
    return Lesson(
        plots.gains_in_time(gains, at),
        f"Points above {RESNET.title} after {listed(map(str, at))} epochs: "
        + "; ".join(f"{block_of(t)} {_signs(of)}" for t, of in gains.items())
        + ".",
        f"On average {len(shrunk)} of {len(gains)} blocks are further ahead after a quarter of the "
        f"epochs than at the end ({listed(map(block_of, shrunk))}): {block_of(largest)} by "
        f"{first:.1f} points after epoch {at[0]} and by {last:.1f} after epoch {at[-1]}. What a "
        f"block adds is here in part that it learns faster, and {RESNET.title} itself gains "
        f"{rise:.1f} points in the last quarter: where longer training would take the difference "
        f"is open.",
        pd.DataFrame(rows).T.rename_axis("Network"),
    )


def small(found: Found) -> Lesson:
    """The same blocks in networks of a quarter of the width."""
    beside = {title: found.small(ANIMALS, title) for title in found.blocks}
    there = {t: (one[0], found.gain(ANIMALS, t)) for t, one in beside.items() if one is not None}
    rows = {
        title: {
            "Full width, mean of the trainings": signed(found.gain(ANIMALS, title)),
            "Small, mean of the folds": _small(found, ANIMALS, title),
        }
        for title in beside
    }
    table = pd.DataFrame(rows).T.rename_axis("Network")
    if len(there) < len(beside):
        missing = listed(block_of(title) for title in beside if title not in there)
        text = f"The study's runs of {missing} are not published yet: what they change is open."
        return Lesson(None, "", text, table)
    same = [t for t, (little, full) in there.items() if (little > 0) == (full > 0)]
    turned = [t for t in there if t not in same]
    smaller = [t for t, (little, full) in there.items() if abs(little) < abs(full)]
    return Lesson(
        plots.small_and_full(there),
        f"Points above {RESNET.title}, small and at full width: "
        + "; ".join(f"{block_of(t)} {_sign(a)} and {_sign(b)}" for t, (a, b) in there.items())
        + ".",
        f"{len(same)} of {len(there)} blocks lie on the same side of {RESNET.title} in both sizes"
        + (f"; {listed(map(block_of, turned))} on different ones" if turned else "")
        + f". For {len(smaller)} of them the difference is smaller in the small network.",
        table,
    )


def others(found: Found) -> Lesson:
    """The other two tasks."""
    tasks = {task: found.networks(task) for task in (CALTECH, CIFAR)}
    rows = {
        (TASK_TITLES[task], title): {
            "Network": title,
            "Epochs": f"{len(one.history)} of {one.recipe['epochs']}",
            "Validation": percent(one.accuracy),
            **_against(one, networks[BASELINES[task]]),
            "In the small networks": _small(found, task, title),
        }
        for task, networks in tasks.items()
        for title, one in networks.items()
    }
    said = {
        task: ", ".join(f"{title} {percent(one.accuracy)}" for title, one in networks.items())
        for task, networks in tasks.items()
    }
    swings = [np.ptp(one.accuracies[-5:]) for one in tasks[CIFAR].values()]
    stopped = [title for title, one in tasks[CIFAR].items() if not one.is_finished]
    trained = [one.history[-1]["train_acc"] for one in tasks[CALTECH].values()]
    return Lesson(
        plots.curves(
            {
                TASK_TITLES[task]: {title: one.accuracies for title, one in networks.items()}
                for task, networks in tasks.items()
            },
            3.2,
        ),
        f"Validation accuracy by epoch. {TASK_TITLES[CALTECH]}: {said[CALTECH]}. "
        f"{TASK_TITLES[CIFAR]}: {said[CIFAR]}.",
        f"{TASK_TITLES[CALTECH]}: {said[CALTECH]}, and each is right on "
        f"{percent(min(trained))} of the training images by then. {TASK_TITLES[CIFAR]}: "
        f"{said[CIFAR]}; at a constant rate an accuracy moves by "
        f"{100 * min(swings):.1f} to {100 * max(swings):.1f} points within the last five epochs, "
        f"and {listed(stopped)} were stopped early: these are not told apart.",
        pd.DataFrame(rows.values(), [task for task, _ in rows]).rename_axis("Task"),
    )


def cost(found: Found) -> Lesson:
    """What a block costs in measured time."""
    networks = found.networks(ANIMALS)  # whose steps were timed
    plain, groups = networks[RESNET.title], dict[tuple[str, ...], list[str]]()
    for title, one in networks.items():
        groups.setdefault(tuple(one.compute["group"]), []).append(title)
    letters = {title: "AB"[i] for i, titles in enumerate(groups.values()) for title in titles}
    processor = pd.read_csv(PROCESSOR, comment="#")
    same = processor[(processor.width == 1) & (processor.batch == plain.recipe["batch_size"])]
    speeds = dict(zip(same.model, same.train, strict=True))
    ratios = {title: speeds[plain.model] / speeds[one.model] for title, one in networks.items()}
    rows = {
        title: {
            "Group": letters[title],
            "Step on the GPU, alone": f"{one.compute['step_ms_alone']:.1f} ms",
            "Epoch of the whole group": f"{np.median([r['seconds'] for r in one.history]):.1f} s",
            "Step on a processor, in ResNet-50's": f"{ratios[title]:.2f}",
        }
        for title, one in networks.items()
    }
    step = {title: one.compute["step_ms_alone"] for title, one in networks.items()}
    beside = [t for t in groups[tuple(plain.compute["group"])] if t != RESNET.title]
    within = ", ".join(f"{block_of(t)} {step[t] / step[RESNET.title]:.2f}" for t in beside)
    odd = [title for title in found.blocks if step[title] < step[RESNET.title]]
    slowest = sorted((t for t in ratios if t != RESNET.title), key=lambda t: ratios[t])
    each = ", ".join(f"{block_of(title)} {ratios[title]:.2f}" for title in slowest)
    return Lesson(
        None,
        "",
        f"The first trainings came in two groups, each by steps in turn; what else the card did "
        f"then is not on record. Beside {RESNET.title} in its group a step takes so many "
        f"times as long: {within}. Between the groups the times say nothing: "
        f"{listed(map(block_of, odd))} do all that {RESNET.title} does and more, and show a "
        f"shorter step. Measured in turns on a processor, at full width and "
        f"{int(same.image_size.iloc[0])} pixels, a training step takes so many of "
        f"{RESNET.title}'s: {each}.",
        pd.DataFrame(rows).T.rename_axis("Network"),
    )


def recipe(found: Found) -> Lesson:
    """What differs from the study beside the width."""
    study = asdict(PROFILES["study"].recipes[ANIMALS])
    full = found.plain[0].recipe
    rows = {
        name.replace("_", " "): {"Here": str(full[name]), "In the study": str(study[name])}
        for name in full
        if full[name] != study[name]
    }
    return Lesson(
        None,
        "",
        f"{len(rows)} settings differ from the study's: {listed(rows)}. So nothing here is the "
        f"effect of the width alone. The study trains {RESNET.title}, SE and SRM at half the width "
        f"too, with all else its own.",
        pd.DataFrame(rows).T.rename_axis("Setting"),
    )


def _against(one: FullSize, baseline: FullSize) -> dict[str, str]:
    """Difference, and the images that one of the two alone gets right."""
    if one is baseline:
        return {"Gain": DASH, "Images won, lost": DASH, "Standard error": DASH}
    won, lost = mcnemar(one.right, baseline.right)
    return {
        "Gain": signed(100 * (one.accuracy - baseline.accuracy)),
        "Images won, lost": f"{won}, {lost}",
        "Standard error": f"{_error(one, baseline):.2f}",
    }


def _against_plain(found: Found, title: str) -> dict[str, str]:
    """The same of all trainings on Animals-10: the mean difference, and the images of all."""
    if title == RESNET.title:
        return {"Gain": DASH, "Each": DASH, "Images won, lost": DASH, "Standard error": DASH}
    pairs = zip(found.all_of(title), found.plain, strict=True)
    won, lost = np.sum([mcnemar(one.right, plain.right) for one, plain in pairs], axis=0)
    return {
        "Gain": signed(found.gain(ANIMALS, title)),
        "Each": ", ".join(map(signed, found.gains(ANIMALS, title))),
        "Images won, lost": f"{won}, {lost}",
        "Standard error": f"{found.error(title):.2f}",
    }


def _error(one: FullSize, baseline: FullSize) -> float:
    """Of the difference of two accuracies on the same images, in points; images alone."""
    won, lost = mcnemar(one.right, baseline.right)
    images = len(one.right)
    return 100 * math.sqrt(won + lost - (won - lost) ** 2 / images) / images


def _small(found: Found, task: str, title: str) -> str:
    if title == BASELINES[task]:
        return DASH
    one, unit = found.small(task, title), "seeds" if task == CIFAR else "folds"
    return NOT_YET if one is None else f"{signed(one[0])} ({one[1]} of {one[2]} {unit})"


def _accuracies(of: Iterable[FullSize], value: Callable[[FullSize], float]) -> str:
    return ", ".join(percent(value(one)) for one in of)


def _signs(values: Iterable[float]) -> str:
    return ", ".join(map(_sign, values))


def _sign(value: float) -> str:
    return signed(value, "+.1f")
