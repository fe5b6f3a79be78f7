"""What is on record for "Why do they report 0.5888?": the plain network, trained and seen wrongly.

Faults of training are runs of their own (``design.UNEQUAL``). Faults of evaluation are measured on
the finished network (``analysis.faults``) and kept in ``faults.json`` beside the runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json, sha256_of
from attn_book.language import N_
from attn_book.records.recorded import runs_by_title
from attn_book.records.run import Run
from attn_book.study import design
from attn_book.study.claims import REPORTED
from attn_book.study.pages import NINE, RESNET, SE, Comparison
from attn_book.study.recipes import PROFILES

FILE = "faults.json"  # in the folder of a profile
LEVEL = REPORTED["animals10", RESNET.title]
AS_TRAINED = N_("seen as it was trained")
NOT_NORMALISED = N_("images not normalised")
REVERSED = N_("channels in reverse order")
SQUEEZED = N_("squeezed instead of cropped")
BATCH_OF_ONE = N_("batch norms in training mode, one image at a time")
FAULTS = (NOT_NORMALISED, REVERSED, SQUEEZED, BATCH_OF_ONE)
# Of the images that a network sees as it was trained: how many may be judged otherwise than on
# record by weights that were rounded to float16, or on another processor.
ROUNDING = 0.005


def trained(folder: Path, comparison: Comparison = design.UNEQUAL) -> dict[str, Run | None]:
    """Title -> the first of a comparison's runs that ended, None where there is none yet."""
    return {
        title: runs[0] if runs else None
        for title, runs in runs_by_title(folder, comparison).items()
    }


def equally_trained(folder: Path) -> dict[str, Run | None]:
    """ResNet-50 and SE as the study trains them, on the fold of ``design.UNEQUAL``."""
    found = runs_by_title(folder, NINE)
    first = PROFILES[folder.name].seeds[0]
    return {
        title: next((run for run in found[title] if run.experiment.seed == first), None)
        for title in (RESNET.title, SE.title)
    }


def nearest(runs: Mapping[str, Run | None]) -> str | None:
    """The fault of training whose accuracy lies nearest to 0.5888; None until all are there.

    One that diverged has ended, and is never the nearest.
    """
    there = {title: run for title, run in runs.items() if run is not None}
    accuracies = {
        title: run.metrics["final_val_acc"] for title, run in there.items() if not run.diverged
    }
    if len(there) < len(runs) or not accuracies:
        return None
    return min(accuracies, key=lambda title: abs(accuracies[title] - LEVEL))


def epoch_of(run: Run, level: float = LEVEL) -> int | None:
    """The first epoch after which a run reaches an accuracy; None if it never does."""
    reached = run.history["val_acc"] >= level
    return int(reached.argmax()) + 1 if reached.any() else None


def subject(folder: Path) -> Run | None:
    """The network that is evaluated wrongly: ResNet-50 of fold 0, whose weights are published."""
    run = equally_trained(folder)[RESNET.title]
    return run if run is not None and run.status == "finished" else None


def record_of(run: Run, right: Mapping[str, int]) -> dict[str, Any]:
    """The contents of ``faults.json``.

    Args:
        right: each of ``FAULTS`` and ``AS_TRAINED`` -> how many validation images are right.
    """
    return {
        "run": run.folder.name,
        "metrics": sha256_of(run.folder / "metrics.json"),
        "fingerprint": run.experiment.fingerprint,
        "weights": "the last ones, in float16",
        "images": run.record["data"]["validation_images"],
        "right": dict(right),
    }


def accuracies(folder: Path) -> dict[str, float]:
    """Accuracy as trained and under each fault of evaluation; empty while it is not measured."""
    if not (folder / FILE).exists():
        return {}
    record = read_json(folder / FILE)
    return {title: count / record["images"] for title, count in record["right"].items()}


def problems(folder: Path) -> list[str]:
    """What is wrong with ``faults.json``: a line a problem; none if all is well or it is not there.

    It must be about the plain network that is published, hold every fault, and give about the
    accuracy of its record where nothing is wrong with how it is seen.
    """
    if not (folder / FILE).exists():
        return []
    run = subject(folder)
    if run is None:
        return [f"{FILE} is of a network that is not published"]
    try:
        record = read_json(folder / FILE)
        right, images = record["right"], record["images"]
        if record != record_of(run, right):
            return [f"{FILE} is not about {run.folder.name} as it is published"]
        if sorted(right) != sorted((AS_TRAINED, *FAULTS)):
            return [f"{FILE} has the faults {', '.join(right)}"]
        if not all(type(count) is int and 0 <= count <= images for count in right.values()):
            return [f"{FILE} holds something other than counts of {images} images"]
    except (CheckpointError, AttributeError, KeyError, TypeError) as error:
        return [f"{FILE} cannot be read ({error})"]
    if abs(right[AS_TRAINED] / images - run.metrics["final_val_acc"]) > ROUNDING:
        return [f"{FILE}: seen as trained, the network has another accuracy than on record"]
    return []
