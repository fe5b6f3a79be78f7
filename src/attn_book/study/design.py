"""What the second study trains beside the pages' comparisons, and in which order.

``book/protocol.md`` says why, and what each comparison decides. They are trained by name, such as
``attn-book train pilot --profile study``; no page executes them. ``annealed`` is of the profile
``paper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from attn_book.study.pages import CLASSICS, RESNET, SRM, Comparison, Entry

PILOT_SEEDS = (100, 101)  # no other run has these


def _changed(entry: Entry, title: str, **changes: Any) -> Entry:
    """The same network, trained otherwise in the study."""
    return Entry(entry.model, title, entry.options, {"study": changes})


def _pilot(rate: float, crop: float, epochs: int) -> Entry:
    title = f"rate {rate:g}, crop from {crop:g}, {epochs} epochs"
    return _changed(RESNET, title, learning_rate=rate, smallest_crop=crop, epochs=epochs)


# The first step decides the rate, the second (with the rate that it decided) crop and epochs.
PILOT = (
    Comparison(
        "animals10",
        tuple(_pilot(rate, 0.35, 20) for rate in (0.05, 0.1, 0.2)),
        seeds=PILOT_SEEDS,
    ),
)
# What an untrained gate does, and what the decay of gains does.
HALVED = Entry("resnet50", "ResNet-50, branches x 0.5", {"attn": 0.5})
SRM_DECAYED = _changed(SRM, "SRM-ResNet-50, gains decayed", decay="gains")
CONTROLS = (Comparison("animals10", (HALVED, SRM_DECAYED), runs=3),)

# The paper profile's recipe on Caltech-101 as the write-up's prose reads: annealed once an epoch.
_AS_IN_PROSE = {
    "schedule": "cosine",
    "augmentation": "rotate",
    "drop_last": True,
    "reversed_statistics": False,
}
ANNEALED = (
    Comparison(
        "caltech16",
        tuple(
            replace(entry, changes={"paper": {**entry.changes.get("paper", {}), **_AS_IN_PROSE}})
            for entry in CLASSICS.entries
        ),
    ),
)

EXTRA: Mapping[str, tuple[Comparison, ...]] = MappingProxyType(
    {"pilot": PILOT, "controls": CONTROLS, "annealed": ANNEALED}
)
