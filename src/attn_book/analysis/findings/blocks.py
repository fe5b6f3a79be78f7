"""Did the blocks learn, and how far does a network depend on their decisions about images?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import paddle

from attn_blocks import models
from attn_book.analysis.evidence import CONSTANT, Evidence, on_record
from attn_book.analysis.findings.compared import (
    NO_RUN,
    Compared,
    accuracy,
    compared,
    gain,
    over,
)
from attn_book.analysis.first_study import decay_limit
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.verdicts import verdicts
from attn_book.analysis.words import (
    Finding,
    clauses,
    counted,
    listed,
    place,
    points,
    sentences,
    span,
)
from attn_book.language import N_, _, say
from attn_book.records import attention
from attn_book.records.published import PUBLISHED
from attn_book.records.run import Run
from attn_book.study.experiment import Recipe
from attn_book.study.pages import NINE
from attn_book.study.plan import Plan
from attn_book.training.build import decayed_parameters

STILL = 1e-6  # of a parameter's size: rounding, of what gets no gradient
NOT_MEASURED = N_(
    "Its records say nothing of its blocks, which were not measured when they were made: train it "
    "again."
)


def learned(plan: Plan, task: str, *titles: str) -> Finding:
    """How far the blocks' parameters moved beside decay alone, and what their modulation does.

    Movements are medians over blocks and runs of root mean squares. A modulation is a factor, or a
    summand that is measured against what it is added to; its spread is a standard deviation.
    """
    found = compared(plan, task, titles)
    judged = [verdict for verdict in verdicts(plan) if verdict.claim.task == task]
    constant = constant_titles(on_record(plan)[task], judged)
    return Finding(tuple((t, _learned(found.of(t), t in constant)) for t in found.blocks))


def constant_titles(evidence: Evidence, judged: Iterable[Verdict]) -> set[str]:
    """The networks of a task whose blocks the protocol calls constant, once anything is decided."""
    if not any(verdict.is_decided for verdict in judged):
        return set()
    return {title for title in evidence.wanted if evidence.is_constant(title)}


def _learned(runs: Sequence[Run], is_constant: bool) -> str:
    if not runs:
        return _(NO_RUN)
    measured = [run for run in runs if run.metrics.get("blocks")]
    if not measured:
        return _(NOT_MEASURED)
    return sentences([_movement(measured), *_modulations(measured), _rule(measured, is_constant)])


# Parameters --------------------------------------------------------------------------------------


def _movement(runs: Sequence[Run]) -> str:
    """What became of the parameters, those that decay acts on apart from the others."""
    kinds: dict[str, list[dict[str, float]]] = {}
    decayed_kinds = set()
    for run in runs:
        decayed = _decayed(run)
        for block, seen in run.metrics["blocks"].items():
            for kind, moved in seen.get("parameters", {}).items():
                kinds.setdefault(kind, []).append(moved)
                if f"{block}.{kind}" in decayed:
                    decayed_kinds.add(kind)
    if not kinds:
        return _("Its blocks have no parameters.")
    still = {
        kind
        for kind, rows in kinds.items()
        if all(row["moved"] <= STILL * max(row["start"], 1) for row in rows)
    }
    moved = {kind: rows for kind, rows in kinds.items() if kind not in still}
    begun = {k: _median(rows, _relative) for k, rows in moved.items() if rows[0]["start"] > 0}
    from_zero = {k: _median(rows, _end) for k, rows in moved.items() if rows[0]["start"] == 0}
    under_decay = {k: v for k, v in begun.items() if k in decayed_kinds}
    others = {k: v for k, v in begun.items() if k not in decayed_kinds}
    parts = []
    if under_decay:
        alone = np.mean([1 - decay_limit(run.experiment.recipe, _steps(run)) for run in runs])
        moved_so = N_(
            "the weights that decay acts on moved by {sizes} of their first size, where decay "
            "alone moves them by {alone:.1%}"
        )
        if round(max(under_decay.values()), 3) <= round(float(alone), 3):
            moved_so = N_(
                "the weights that decay acts on moved by {sizes} of their first size, which is no "
                "more than decay alone moves them ({alone:.1%}): they have learnt next to nothing"
            )
        parts.append(say(moved_so, sizes=_extremes(under_decay, ".1%"), alone=alone))
    if others:
        sizes = _extremes(others, ".1%")
        parts.append(
            say("parameters without weight decay moved by {sizes} of their first size", sizes=sizes)
        )
    if from_zero:
        sizes = _extremes(from_zero, ".3g")
        parts.append(say("what began at 0 ended at a size of {sizes}", sizes=sizes))
    if still:
        parts.append(say("{kinds} did not move", kinds=_naming(sorted(still))))
    text = clauses(parts)
    return say("{text}.", text=f"{text[0].upper()}{text[1:]}")


def _naming(kinds: Sequence[str]) -> str:
    if len(kinds) < 4:
        return listed(kinds)
    return say("{number} kinds such as {first}", number=len(kinds), first=kinds[0])


def _extremes(sizes: dict[str, float], form: str) -> str:
    """The parameters with the smallest and the largest number, and both."""
    low, high = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    smallest, largest = (
        say("{size} ({kind})", size=f"{sizes[kind]:{form}}", kind=kind) for kind in (low, high)
    )
    return smallest if low == high else say("{low} to {high}", low=smallest, high=largest)


def _median(rows: Sequence[dict[str, float]], of: Callable[[dict[str, float]], float]) -> float:
    return float(np.median([of(row) for row in rows]))


def _relative(row: dict[str, float]) -> float:
    return row["moved"] / row["start"] if row["start"] > 0 else math.nan


def _end(row: dict[str, float]) -> float:
    return row["end"]


def _steps(run: Run) -> int:
    """Steps of an epoch."""
    recipe, images = run.experiment.recipe, run.record["data"]["train_images"]
    return (math.floor if recipe.drop_last else math.ceil)(images / recipe.batch_size)


def _decayed(run: Run) -> frozenset[str]:
    """The names of the parameters of a run's network that decay acted on."""
    experiment = run.experiment
    options = tuple(sorted(experiment.options.items()))
    return _decayed_of(experiment.model, len(run.classes), experiment.recipe, options)


@lru_cache(maxsize=32)
def _decayed_of(
    model: str, classes: int, recipe: Recipe, options: tuple[tuple[str, Any], ...]
) -> frozenset[str]:
    size = recipe.width, recipe.stem, recipe.image_size
    with paddle.LazyGuard():  # names and shapes, without values
        network = models.create_model(model, classes, *size, **dict(options))
    return frozenset(decayed_parameters(network, recipe.decay))


# Modulation --------------------------------------------------------------------------------------


def _modulations(runs: Sequence[Run]) -> list[str]:
    """What the blocks multiply with and add, over the images and over the means of classes."""
    parts = []
    blocks = runs[0].metrics["blocks"]
    number = counted(len(blocks), "block")
    if any("factor" in seen for seen in blocks.values()):
        means, images, classes = (
            _by_block(runs, "factor", name) for name in ("mean", "images", "classes")
        )
        parts.append(
            say(
                "The factor of its {blocks} is {means} on average; over the validation images it "
                "varies by {images}, and over the means of classes by {classes}.",
                blocks=number,
                means=span([*means.values()], ".3f"),
                images=_most(images, ".3f"),
                classes=span([*classes.values()], ".3f"),
            )
        )
    if any("summand" in seen for seen in blocks.values()):
        images, classes = (_by_block(runs, "summand", name) for name in ("images", "classes"))
        added = say(
            N_("What its {blocks} adds") if len(blocks) == 1 else N_("What its {blocks} add"),
            blocks=number,
        )
        parts.append(
            say(
                "{added} varies over the validation images by {images} of the size of what it is "
                "added to, and over the means of classes by {classes}.",
                added=added,
                images=_most(images, ".1%"),
                classes=span([*classes.values()], ".1%"),
            )
        )
    return parts


def _by_block(runs: Sequence[Run], part: str, name: str) -> dict[str, float]:
    """Block -> the mean over the runs of a number of its factor or summand."""
    found = {}
    for block, first in runs[0].metrics["blocks"].items():
        if part in first:
            seen = [run.metrics["blocks"][block] for run in runs]
            found[block] = float(np.mean([spread(one, part, name) for one in seen]))
    return found


def spread(report: Mapping[str, Any], part: str, name: str) -> float:
    """A number of a block's factor or summand, as a run's metrics have it under ``blocks``.

    A summand's is the share of the size of what it is added to, 0 where that is 0.
    """
    size = report["input"] if part == "summand" else 1.0
    return report[part][name] / size if size else 0.0


def _most(values: dict[str, float], form: str) -> str:
    """The span, and the block where it is widest."""
    shown = span([*values.values()], form)
    if len({f"{value:{form}}" for value in values.values()}) == 1:
        return shown
    most = place(max(values, key=values.__getitem__))
    return say("{span} (most in {place})", span=shown, place=most)


# Frozen ------------------------------------------------------------------------------------------


def _rule(runs: Sequence[Run], is_constant: bool) -> str:
    """The share of predictions that the protocol looks at, and its word once there is one."""
    changed = [run.metrics["frozen"]["changed"] for run in runs if "frozen" in run.metrics]
    if not changed:
        return _("No record says what replacing the modulation by its mean would change.")
    text = say(
        "Replacing it by its mean over these images changes {changed:.1%} of the predictions"
        "{over}, {beside} the {line:.1%} under which the protocol calls a block constant",
        changed=np.mean(changed),
        over=over(changed),
        beside=_("below") if np.mean(changed) < CONSTANT else _("not below"),
        line=CONSTANT,
    )
    return say("{text}: this one is.", text=text) if is_constant else say("{text}.", text=text)


def frozen(plan: Plan, task: str, *titles: str) -> Finding:
    """How far trained networks depend on their blocks' decisions about single images.

    Accuracy with every modulation frozen at its mean, and nothing trained again. What a block is
    worth it does not say: a network that is trained without the block learns to do without it.
    """
    found = compared(plan, task, titles)
    held = attention.read(PUBLISHED / plan.profile) if task == NINE.task else {}
    return Finding(
        tuple(
            (
                title,
                sentences([_frozen(found, title), _held_still(found.of(title), held.get(title))]),
            )
            for title in found.blocks
        )
    )


def _held_still(runs: Sequence[Run], held: Mapping[str, Any] | None) -> str:
    """What becomes of the published run's predictions once its attention alone is held still."""
    if held is None or held["run"] not in [run.folder.name for run in runs]:
        return ""
    return say(
        "With the attention alone held at its mean, and features still the image's own, "
        "{changed:.1%} of the predictions change, and the accuracy from {whole:.4f} to {left:.4f} "
        "(one run).",
        changed=held["changed"] / held["images"],
        whole=held["as_trained"] / held["images"],
        left=held["right"] / held["images"],
    )


def _frozen(found: Compared, title: str) -> str:
    runs = [run for run in found.of(title) if "frozen" in run.metrics]
    if not found.of(title):
        return _(NO_RUN)
    if not runs:
        return _(NOT_MEASURED)
    text = say(
        "With every modulation replaced by its mean over the validation images, and nothing "
        "trained again, the accuracy changes by {change}, from {whole:.4f} to {left:.4f}{over}. "
        "That measures how far the later layers of the trained network depend on what its blocks "
        "decide image by image.",
        change=points(frozen_change(runs)),
        whole=accuracy(runs),
        left=np.mean([run.metrics["frozen"]["accuracy"] for run in runs]),
        over=over(runs),
    )
    pairs = found.pairs(title)
    if not pairs:
        return text
    worth = say(
        "What the blocks are worth is read beside {plain}, which was trained without them: the "
        "network with them stands at {whole} against it.",
        plain=found.plain,
        whole=points(gain(pairs)),
    )
    return sentences([text, worth])


def frozen_change(runs: Sequence[Run]) -> float:
    """By how many points freezing changes the accuracy of runs that measured it, on average."""
    return 100 * float(
        np.mean([run.metrics["frozen"]["accuracy"] for run in runs]) - accuracy(runs)
    )
