"""What the second study trains beside the pages' comparisons, and in which order.

``book/protocol.md`` says why, and what each comparison decides. They are trained by name, such as
``attn-book train pilot --profile study``, and all of the study in its order by ``attn-book train
--profile study``; no page executes them. ``annealed`` is of the profile ``paper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from attn_book.language import N_
from attn_book.study.pages import (
    CLASSICS,
    NINE,
    RESNET,
    SE,
    SENETS,
    SRM,
    Comparison,
    Entry,
)
from attn_book.study.recipes import PROFILES

PILOT_SEEDS = (100, 101)  # no other run has these


def _changed(entry: Entry, title: str, **changes: Any) -> Entry:
    """The same network, trained otherwise in the study."""
    return Entry(entry.model, title, entry.options, {"study": changes})


def _title(entry: Entry, how: str) -> str:
    """A network's name with what is otherwise, as ``analysis.beside`` takes it apart again."""
    return f"{entry.title}, {how}"


def _pilot(rate: float, crop: float, epochs: int) -> Entry:
    title = f"rate {rate:g}, crop from {crop:g}, {epochs} epochs"
    return _changed(RESNET, title, learning_rate=rate, smallest_crop=crop, epochs=epochs)


# The first step decided the rate, 0.1; the second, with that rate, decided crop and epochs. Half as
# many epochs again are shown beside, and decide nothing.
_TRIALS = (
    *((rate, 0.35, 20) for rate in (0.05, 0.1, 0.2)),
    *((0.1, crop, 30) for crop in (0.35, 0.25)),
    (0.1, 0.25, 45),
)
PILOT = (Comparison("animals10", tuple(_pilot(*trial) for trial in _TRIALS), seeds=PILOT_SEEDS),)
# What an untrained gate does, and what the decay of gains does.
HALVED = Entry("resnet50", _title(RESNET, N_("branches x 0.5")), {"attn": 0.5})
SRM_DECAYED = _changed(SRM, _title(SRM, N_("gains decayed")), decay="gains")
CONTROLS = (Comparison("animals10", (HALVED, SRM_DECAYED), runs=3),)


def _arms(how: str, runs: int, **changes: Any) -> Comparison:
    """ResNet-50, SE and SRM, trained otherwise."""
    arms = tuple(_changed(entry, _title(entry, how), **changes) for entry in (RESNET, SE, SRM))
    return Comparison("animals10", arms, runs)


# Does a block raise the end of the curve, or only its beginning? Does it depend on the width?
_RECIPE = PROFILES["study"].recipes["animals10"]
HALF_THE_EPOCHS = _arms(N_("15 epochs"), runs=3, epochs=_RECIPE.epochs // 2)
TWICE_THE_EPOCHS = _arms(N_("60 epochs"), runs=3, epochs=2 * _RECIPE.epochs)
WIDER = _arms(N_("half width"), runs=1, width=0.5)
# Title -> the network that differs from it in nothing but the control or the block.
AGAINST: Mapping[str, Entry] = MappingProxyType(
    {
        HALVED.title: RESNET,
        SRM_DECAYED.title: SRM,
        **{
            entry.title: plain
            for plain, *others in (c.entries for c in (HALF_THE_EPOCHS, WIDER, TWICE_THE_EPOCHS))
            for entry in others
        },
    }
)
# What training the plain network unequally does to it.
UNEQUAL = Comparison(
    "animals10",
    (
        _changed(RESNET, N_("5 epochs"), epochs=5),
        _changed(RESNET, N_("10 epochs"), epochs=10),
        _changed(RESNET, N_("a tenth of the rate"), learning_rate=_RECIPE.learning_rate / 10),
        _changed(RESNET, N_("ten times the rate"), learning_rate=_RECIPE.learning_rate * 10),
        _changed(RESNET, N_("no augmentation"), augmentation="center_crop"),
        _changed(RESNET, N_("a cosine stepped once a batch"), schedule="cosine_by_batch"),
        _changed(RESNET, N_("steps, taken once a batch"), schedule="steps_by_batch"),
    ),
    runs=1,
)


def rescued(fault: Entry) -> Comparison:
    """SE trained as unequally as an entry of ``UNEQUAL``: does a block rescue the network?"""
    entry = Entry(SE.model, f"{SE.title}, {fault.title}", SE.options, fault.changes)
    return Comparison("animals10", (entry,), runs=1)


# The title of the entry of UNEQUAL that ends nearest to 0.5888 (``records.faults.nearest``). The
# records alone say which; it is None until all of them are published, and a test then asks for it.
NEAREST: str | None = None
RESCUED = () if NEAREST is None else (rescued(UNEQUAL.entry(NEAREST)),)

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
    {
        "pilot": PILOT,
        "nine": (NINE,),
        "unequal": (UNEQUAL,),
        **({"rescued": RESCUED} if RESCUED else {}),
        "caltech16": (CLASSICS,),
        "controls": CONTROLS,
        "cifar10": (SENETS,),
        "half_the_epochs": (HALF_THE_EPOCHS,),
        "wider": (WIDER,),
        "twice_the_epochs": (TWICE_THE_EPOCHS,),
        "annealed": ANNEALED,
    }
)
# The order in which the study is trained, with the seeds where they are not all of a comparison's.
# The nine go fold by fold, so that whenever it is stopped, each network has as many runs.
ORDER: tuple[tuple[str, tuple[int, ...] | None], ...] = (
    ("pilot", None),
    *(("nine", (fold,)) for fold in (0, 1, 2)),
    ("unequal", None),
    *((("rescued", None),) if RESCUED else ()),
    ("caltech16", None),
    ("controls", None),
    *(("nine", (fold,)) for fold in (3, 4)),
    ("cifar10", None),
    ("half_the_epochs", None),
    ("wider", None),
    ("twice_the_epochs", None),
)
