"""What the write-ups report, and the claims that the book tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from attn_blocks.errors import choose
from attn_blocks.files import read_json
from attn_book.language import N_, say
from attn_book.study.gains import Gain, published_gain
from attn_book.study.pages import (
    BAT,
    GC,
    GE,
    INCEPTION,
    MOBILENET,
    NL,
    RESNET,
    SA,
    SA_INCEPTION,
    SE,
    SENET_INTENDED,
    SENET_PUBLISHED,
    SENET_WITHOUT,
    SGE,
    SRM,
    TASK_TITLES,
    VGG,
    Entry,
)

PRIMARY, SECONDARY = N_("primary"), N_("secondary")
BETTER, SIZE, REACH = "better", "size", "reach"


@dataclass(frozen=True)
class Claim:
    """A statement of a write-up or a paper: ``better`` beats ``worse`` on a task.

    ``book/protocol.md`` lists them all and says how each is decided.

    Attributes:
        page: where it is discussed.
        family: PRIMARY or SECONDARY, the claims that are corrected for their number together.
        kind: BETTER, that the one beats the other; SIZE, that it does so by what is reported;
            REACH, that ``better`` reaches the accuracy ``target`` with the write-up's own settings.
        better, worse: titles of entries; ``worse`` is None for REACH.
        paper: what the block's own authors publish for it, on ImageNet; None if nothing was read.
        of_one: whether one write-up trained both; accuracies of two have no difference that
            anybody reports.
        target: in percent.
    """

    page: str
    task: str
    family: str
    kind: str
    better: str
    worse: str | None
    paper: Gain | None = None
    of_one: bool = True
    target: float | None = None

    @property
    def text(self) -> str:
        """The claim as one line of a table."""
        if self.kind == REACH:
            template = N_("{better} reaches {target:.0f}% on {task}")
        elif self.kind == SIZE:
            template = N_("{better} > {worse} by {reported:.1f} points on {task}")
        else:
            template = N_("{better} > {worse} on {task}")
        return say(
            template,
            better=self.better,
            worse=self.worse,
            target=self.target,
            reported=self.reported,
            task=TASK_TITLES[self.task],
        )

    @property
    def accuracies(self) -> tuple[float, float] | None:
        """What is reported for ``better`` and for ``worse``, from 0 to 1; None if nothing is."""
        if self.worse is None or not self.of_one:
            return None
        pair = REPORTED.get((self.task, self.better)), REPORTED.get((self.task, self.worse))
        return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])

    @property
    def reported(self) -> float | None:
        """The write-up's difference in points, or its accuracy in percent; None without one."""
        if self.kind == REACH:
            return round(100 * REPORTED[self.task, self.better], 2)
        pair = self.accuracies
        return None if pair is None else round(100 * (pair[0] - pair[1]), 2)


# Final accuracies as the write-ups report them; the one on Caltech-101 shows curves only.
REPORTED: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("cifar10", SENET_PUBLISHED.title): 0.8721,
        ("animals10", RESNET.title): 0.5888,
        ("animals10", SE.title): 0.8730,
        ("animals10", GE.title): 0.8614,
        ("animals10", SRM.title): 0.8736,
        ("animals10", SGE.title): 0.8056,
        ("animals10", NL.title): 0.7976,
        ("animals10", GC.title): 0.8040,
        ("animals10", BAT.title): 0.8159,
    }
)


def _block(page: str, block: Entry, of_one: bool = True) -> Claim:
    """Of the primary family: a block makes ResNet-50 better."""
    names = block.title, RESNET.title
    paper = published_gain(block.title)
    return Claim(page, "animals10", PRIMARY, BETTER, *names, paper, of_one)


def _size(block: Claim) -> Claim:
    """That a block's gain is as large as its write-up reports."""
    return replace(block, family=SECONDARY, kind=SIZE)


def _order(page: str, better: Entry, worse: Entry, task: str = "animals10") -> Claim:
    """Of the secondary family: one network is better than another."""
    return Claim(page, task, SECONDARY, BETTER, better.title, worse.title)


# The names of book/protocol.md, in the order of the pages.
_SE = _block("01_se", SE)
_GE = _block("02_ge", GE)
_SRM = _block("03_srm", SRM)
_SGE = _block("04_sge", SGE)
CLAIMS: tuple[Claim, ...] = (
    Claim("01_se", "cifar10", SECONDARY, REACH, SENET_PUBLISHED.title, None, target=87.0),
    _order("01_se", SENET_INTENDED, SENET_PUBLISHED, "cifar10"),
    _order("01_se", SENET_PUBLISHED, SENET_WITHOUT, "cifar10"),
    _SE,
    _size(_SE),
    _GE,
    _size(_GE),
    _SRM,
    _size(_SRM),
    _order("03_srm", SRM, SE),
    _order("03_srm", SE, GE),
    _SGE,
    _size(_SGE),
    _order("05_sa", SA_INCEPTION, RESNET, "caltech16"),
    _order("05_sa", SA_INCEPTION, VGG, "caltech16"),
    _order("05_sa", SA_INCEPTION, MOBILENET, "caltech16"),
    _order("05_sa", SA_INCEPTION, INCEPTION, "caltech16"),
    _block("05_sa", SA),
    _block("06_nl", NL, of_one=False),
    _block("07_gc", GC, of_one=False),
    _order("07_gc", GC, NL),
    _block("08_bat", BAT, of_one=False),
    _order("08_bat", BAT, GC),
    _order("08_bat", BAT, NL),
)


def reported_history(name: str) -> dict[str, np.ndarray]:
    """A write-up's own numbers, epoch by epoch: columns as arrays.

    Args:
        name: "senet_cifar10", with epoch, train_loss, train_acc, test_loss, test_acc, seconds.
    """
    folder = Path(__file__).parent / "reported"
    choose("reported history", name, sorted(path.stem for path in folder.glob("*.json")))
    columns = read_json(folder / f"{name}.json")
    return {key: np.array(values) for key, values in columns.items() if isinstance(values, list)}
