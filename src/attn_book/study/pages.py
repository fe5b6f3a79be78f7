"""Which networks each page compares, and on which task.

A *task* is a data set together with the way the write-ups train on it. All networks of a comparison
follow the same recipe, so that only the network differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from attn_blocks.errors import SettingError, choose
from attn_book.study import own
from attn_book.study.experiment import Experiment


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model, its options, and how the page calls it.

    Attributes:
        model: a name of ``attn_blocks.list_models()``.
        title: what pages call it.
        options: the model's keywords.
        changes: what its recipe has otherwise than the profile's, by profile: in ``paper`` what a
            write-up set differently for this model alone.
        runs: how many of a profile's seeds are trained; None for as many as the comparison has.
    """

    model: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Models that are trained equally on one task, and shown in one plot.

    ``runs`` is how many of a profile's seeds are trained, None for all; ``seeds`` are seeds of its
    own in place of the profile's.
    """

    task: str
    entries: tuple[Entry, ...]
    runs: int | None = None
    seeds: tuple[int, ...] | None = None

    def entry(self, title: str) -> Entry:
        """The entry of that title."""
        choose("model", title, [entry.title for entry in self.entries])
        return next(entry for entry in self.entries if entry.title == title)


TASK_TITLES = {"animals10": "Animals-10", "caltech16": "Caltech-16", "cifar10": "CIFAR-10"}
RESNET = Entry("resnet50", "ResNet-50")
SE = Entry("se_resnet50", "SE-ResNet-50")
GE = Entry("ge_resnet50", "GE-ResNet-50")
SRM = Entry("srm_resnet50", "SRM-ResNet-50")
SGE = Entry("sge_resnet50", "SGE-ResNet-50")
SA = Entry("sa_resnet50", "SA-ResNet-50")
NL = Entry("nl_resnet50", "NL-ResNet-50")
GC = Entry("gc_resnet50", "GC-ResNet-50")
BAT = Entry("bat_resnet50", "BAT-ResNet-50")
SENET_PUBLISHED = Entry("senet_cifar", "SENet as published", {"squeeze": "none"})
SENET_INTENDED = Entry("senet_cifar", "SENet as intended", {"squeeze": "avg"})
SENET_WITHOUT = Entry("senet_cifar", "SENet without SE", {"attn": False})
_TWICE_THE_DECAY = {"paper": {"weight_decay": 2e-4}}
SA_INCEPTION = Entry("sa_inception", "SA-Residual-Inception", changes=_TWICE_THE_DECAY)
INCEPTION = Entry(
    "sa_inception", "Residual-Inception without SA", {"attn": False}, changes=_TWICE_THE_DECAY
)
VGG = Entry("vgg19", "VGG-19", runs=3)
MOBILENET = Entry("mobilenet_v2", "MobileNet-V2")


def _animals(*entries: Entry) -> Comparison:
    return Comparison("animals10", (RESNET, *entries))


SENETS = Comparison("cifar10", (SENET_PUBLISHED, SENET_INTENDED, SENET_WITHOUT), runs=3)
CLASSICS = Comparison("caltech16", (SA_INCEPTION, INCEPTION, RESNET, VGG, MOBILENET))
NINE = _animals(SE, GE, SRM, SGE, SA, NL, GC, BAT)
# The page of all comparisons shows their numbers alone; the others look into trained networks too.
OVERVIEW = "09_comparison"
PAGES: Mapping[str, tuple[Comparison, ...]] = MappingProxyType(
    {
        "01_se": (SENETS, _animals(SE)),
        "02_ge": (_animals(GE),),
        "03_srm": (_animals(SE, GE, SRM),),
        "04_sge": (_animals(SGE),),
        "05_sa": (CLASSICS, _animals(SA)),
        "06_nl": (_animals(NL),),
        "07_gc": (_animals(NL, GC),),
        "08_bat": (_animals(NL, GC, BAT),),
        OVERVIEW: (NINE, SENETS, CLASSICS),
    }
)

# Pages that compare nothing: how the blocks are used. Notebooks as the others, in seconds.
GUIDES: Mapping[str, tuple[Comparison, ...]] = MappingProxyType({"own_network": (), "export": ()})


def seeds_of(comparison: Comparison, entry: Entry, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds that an entry is trained with in a profile that has ``seeds``."""
    return (comparison.seeds or seeds)[: entry.runs or comparison.runs]


def title_of(experiment: Experiment) -> str:
    """What pages call an experiment's model; its name where none shows it."""
    return title_for(experiment.model, experiment.options) or experiment.variant


def title_for(model: str, options: Mapping[str, Any]) -> str | None:
    """What pages call a model with these options; None where none shows it."""
    entries = [entry for page in PAGES.values() for part in page for entry in part.entries]
    known = (model, dict(options))
    found = (e.title for e in entries if (e.model, dict(e.options)) == known)
    return next(found, own.title_of(options))


def page_name(name: str) -> str:
    """``"sge"``, ``"04"`` or ``"04_sge"`` as the page's full name."""
    pages = [*PAGES, *GUIDES]
    matches = [page for page in pages if name == page or name in page.split("_")]
    if len(matches) != 1:
        raise SettingError(f"unknown page {name!r}; choose one of: {', '.join(pages)}")
    return matches[0]
