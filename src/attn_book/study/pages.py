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


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model, its options, and how the page calls it.

    ``paper_recipe`` holds what the write-up set differently for this model alone; only the paper
    profile follows it.
    """

    model: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper_recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Models that are trained equally on one task, and shown in one plot."""

    task: str
    entries: tuple[Entry, ...]

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
SA_INCEPTION = Entry("sa_inception", "SA-Residual-Inception", paper_recipe={"weight_decay": 2e-4})
VGG = Entry("vgg19", "VGG-19")
MOBILENET = Entry("mobilenet_v2", "MobileNet-V2")


def _animals(*entries: Entry) -> Comparison:
    return Comparison("animals10", (RESNET, *entries))


SENETS = Comparison("cifar10", (SENET_PUBLISHED, SENET_INTENDED, SENET_WITHOUT))
CLASSICS = Comparison("caltech16", (SA_INCEPTION, RESNET, VGG, MOBILENET))
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
        OVERVIEW: (_animals(SE, GE, SRM, SGE, SA, NL, GC, BAT), SENETS, CLASSICS),
    }
)


def page_name(name: str) -> str:
    """``"sge"``, ``"04"`` or ``"04_sge"`` as the page's full name."""
    matches = [page for page in PAGES if name == page or name in page.split("_")]
    if len(matches) != 1:
        raise SettingError(f"unknown page {name!r}; choose one of: {', '.join(PAGES)}")
    return matches[0]
