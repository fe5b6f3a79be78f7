"""The networks at full width, for ``full_size.md``: figures, findings and tables.

All of it is made from the records of one GPU; the study's own runs stand beside them where they are
published, and are never put into one comparison with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    """

    def __init__(self, folder: Path, study: Path) -> None:
        self.records = full_size.records(folder)
        self.study = study
        self.networks = {
            task: _titled(comparison, [r for r in self.records if r.task == task])
            for task, comparison in COMPARISONS.items()
        }

    @property
    def animals(self) -> dict[str, FullSize]:
        return self.networks[ANIMALS]

    @property
    def plain(self) -> FullSize:
        return self.animals[RESNET.title]

    @cached_property
    def blocks(self) -> dict[str, FullSize]:
        """The networks with a block on Animals-10, the best first."""
        ranked = sorted(self.animals, key=lambda title: -self.animals[title].accuracy)
        return {title: self.animals[title] for title in ranked if title != RESNET.title}

    def gain(self, task: str, title: str) -> float:
        """Points above the task's baseline in the last epoch that both have."""
        baseline, one = self.networks[task][BASELINES[task]], self.networks[task][title]
        return 100 * (one.accuracy - baseline.accuracy)

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
    seeds = ", ".join(map(str, sorted({r.seed for r in found.records})))
    return (
        f"full width · {len(found.records)} trainings, seed {seeds} · {devices} · "
        f"PyTorch {versions} · {precisions}"
    )


def animals(found: Found) -> Lesson:
    """What the nine networks reach."""
    plain, images = found.plain, found.plain.data["val"]
    rows = {
        title: {
            "Parameters": f"{one.params:,}",
            "Training": percent(one.history[-1]["train_acc"]),
            "Validation": percent(one.accuracy),
            **_against(one, plain),
            "Gain in the small networks": _small(found, ANIMALS, title),
        }
        for title, one in found.animals.items()
    }
    gains = {title: found.gain(ANIMALS, title) for title in found.blocks}
    ends = ", ".join(f"{block_of(t)} {percent(one.accuracy)}" for t, one in found.blocks.items())
    above = [t for t, gain in gains.items() if gain > 0]
    below = [t for t, gain in gains.items() if gain <= 0]
    errors = [_error(one, plain) for one in found.blocks.values()]
    beyond = [t for t in gains if abs(gains[t]) > 2 * _error(found.blocks[t], plain)]
    return Lesson(
        plots.curves(
            {TASK_TITLES[ANIMALS]: {t: one.accuracies for t, one in found.animals.items()}}, 4.2
        ),
        f"Validation accuracy by epoch of {len(found.animals)} networks, after "
        f"{len(plain.history)} epochs: {ends}, {RESNET.title} {percent(plain.accuracy)}.",
        f"After {len(plain.history)} epochs {RESNET.title} is right on {percent(plain.accuracy)} "
        f"of {images:,} validation images. {len(above)} of {len(gains)} blocks end above it: "
        f"{_gains(gains, above)}; below: {_gains(gains, below)}. By the images alone two standard "
        f"errors of a difference are {2 * min(errors):.1f} to {2 * max(errors):.1f} points; beyond "
        f"that lie {listed(map(block_of, beyond))}, not adjusted for their number. How far another "
        f"seed would move them is not on record.",
        pd.DataFrame(rows).T.rename_axis("Network"),
    )


def course(found: Found) -> Lesson:
    """When a block is ahead: a quarter, half, three quarters and all of the epochs."""
    epochs = len(found.plain.history)
    at = [epochs * part // 4 for part in (1, 2, 3, 4)]
    gains = {
        title: [100 * float(one.accuracies[e - 1] - found.plain.accuracies[e - 1]) for e in at]
        for title, one in found.blocks.items()
    }
    rows = {
        title: {f"Epoch {epoch}": signed(gain) for epoch, gain in zip(at, of, strict=True)}
        for title, of in gains.items()
    }
    shrunk = [t for t, of in gains.items() if of[0] > of[-1]]
    rise = 100 * (found.plain.accuracy - found.plain.accuracies[at[2] - 1])
    largest = max(gains, key=lambda title: gains[title][0])
    first, last = gains[largest][0], gains[largest][-1]
    return Lesson(
        plots.gains_in_time(gains, at),
        f"Points above {RESNET.title} after {listed(map(str, at))} epochs: "
        + "; ".join(f"{block_of(t)} {', '.join(map(_sign, of))}" for t, of in gains.items())
        + ".",
        f"{len(shrunk)} of {len(gains)} blocks are further ahead after a quarter of the epochs "
        f"than at the end ({listed(map(block_of, shrunk))}): {block_of(largest)} by {first:.1f} "
        f"points after epoch {at[0]} and by {last:.1f} after epoch {at[-1]}. What a block adds is "
        f"here in part that it learns faster, and {RESNET.title} itself gains {rise:.1f} points in "
        f"the last quarter: where longer training would take the difference is open.",
        pd.DataFrame(rows).T.rename_axis("Network"),
    )


def small(found: Found) -> Lesson:
    """The same blocks in networks of a quarter of the width."""
    beside = {title: found.small(ANIMALS, title) for title in found.blocks}
    there = {t: (one[0], found.gain(ANIMALS, t)) for t, one in beside.items() if one is not None}
    rows = {
        title: {
            "Full width, one seed": signed(found.gain(ANIMALS, title)),
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
    tasks = {task: found.networks[task] for task in (CALTECH, CIFAR)}
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
    groups: dict[tuple[str, ...], list[str]] = {}
    for title, one in found.animals.items():
        groups.setdefault(tuple(one.compute["group"]), []).append(title)
    letters = {title: "AB"[i] for i, titles in enumerate(groups.values()) for title in titles}
    processor = pd.read_csv(PROCESSOR, comment="#")
    same = processor[(processor.width == 1) & (processor.batch == found.plain.recipe["batch_size"])]
    speeds = dict(zip(same.model, same.train, strict=True))
    ratios = {
        title: speeds[found.plain.model] / speeds[one.model] for title, one in found.animals.items()
    }
    rows = {
        title: {
            "Group": letters[title],
            "Step on the GPU, alone": f"{one.compute['step_ms_alone']:.1f} ms",
            "Epoch of the whole group": f"{np.median([r['seconds'] for r in one.history]):.1f} s",
            "Step on a processor, in ResNet-50's": f"{ratios[title]:.2f}",
        }
        for title, one in found.animals.items()
    }
    step = {title: one.compute["step_ms_alone"] for title, one in found.animals.items()}
    beside = [t for t in groups[tuple(found.plain.compute["group"])] if t != RESNET.title]
    within = ", ".join(f"{block_of(t)} {step[t] / step[RESNET.title]:.2f}" for t in beside)
    odd = [title for title in found.blocks if step[title] < step[RESNET.title]]
    slowest = sorted((t for t in ratios if t != RESNET.title), key=lambda t: ratios[t])
    each = ", ".join(f"{block_of(title)} {ratios[title]:.2f}" for title in slowest)
    return Lesson(
        None,
        "",
        f"On the GPU the networks were trained in two groups, each by steps in turn; what else the "
        f"card did then is not on record. Beside {RESNET.title} in its group a step takes so many "
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
    full = found.plain.recipe
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


def _gains(gains: Mapping[str, float], titles: Iterable[str]) -> str:
    return ", ".join(f"{block_of(title)} {_sign(gains[title])}" for title in titles) or "none"


def _sign(value: float) -> str:
    return signed(value, "+.1f")
