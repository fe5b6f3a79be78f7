"""What decides a run's numbers, as a version for each part.

A record stores the versions of its parts and is current while they are today's. Whoever changes
what a part computes raises its version here and records the golden curves anew (``tests/golden``):
a change of numbers without a new version fails there, and so does a new version without new curves.
What changes no number (a message, a progress bar, a faster operator within rounding) changes no
version.
"""

from __future__ import annotations

from collections.abc import Mapping

from attn_blocks import models
from attn_book.study.experiment import Experiment

# The loop, the optimiser and its decay, the schedules, and what a seed decides.
TRAINING = 2  # decay on mixing weights, and initial values by seed and name
# Which images there are, their order and split, how they are decoded and augmented.
DATA = {"animals10": 1, "caltech16": 1, "cifar10": 1, "shapes": 1}
# Layers, initial values, and how width, stem and image size decide them.
MODELS_BY_FAMILY = {"resnet": 1, "senet_cifar": 1, "sa_inception": 1, "vgg19": 1, "mobilenet_v2": 1}
BLOCKS = {"se": 1, "ge": 1, "srm": 1, "sge": 1, "sa": 1, "nl": 1, "gc": 1, "bat": 1}
FIRST = 1  # of what is not listed: a data set, network or block of the reader's own


def current() -> dict[str, int]:
    """Every part with its version: ``{"training": 1, "data/shapes": 1, "block/se": 1, ...}``."""
    parts = {"training": TRAINING}
    for kind, versions in (("data", DATA), ("model", MODELS_BY_FAMILY), ("block", BLOCKS)):
        parts |= {f"{kind}/{name}": version for name, version in versions.items()}
    return parts


def versions_of(experiment: Experiment) -> dict[str, int]:
    """The parts that decide an experiment's numbers, with their versions."""
    model = models.find(experiment.model)
    parts = ["training", f"data/{experiment.dataset}", f"model/{model.family}"]
    attn = experiment.options.get("attn", True)
    attns = (attn,) if isinstance(attn, str) else model.attns if attn else ()
    parts += [f"block/{attn}" for attn in attns]
    return {part: current().get(part, FIRST) for part in parts}


def changed_parts(recorded: Mapping[str, int], experiment: Experiment) -> list[str]:
    """The parts of a record whose version is not today's, as ``model/resnet (1, now 2)``.

    Parts that decide the experiment's numbers and are not in its record are among them.

    Raises:
        SettingError: the experiment's model is not known here.
    """
    today = current()
    return [
        f"{part} ({recorded.get(part, 'not recorded')}, now {today.get(part, FIRST)})"
        for part in dict.fromkeys([*recorded, *versions_of(experiment)])
        if recorded.get(part) != today.get(part, FIRST)
    ]
