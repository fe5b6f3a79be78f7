"""What the write-ups report, and the claims that the book tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from attn_blocks.errors import choose
from attn_blocks.files import read_json
from attn_book.study.pages import (
    BAT,
    GC,
    GE,
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


@dataclass(frozen=True)
class Claim:
    """A statement of a write-up or a paper: ``better`` beats ``worse`` on a task.

    Attributes:
        page: where it is discussed.
        better, worse: titles of entries; ``worse`` None makes it a claim that ``better`` reaches
            the accuracy ``target``, in percent, with the write-up's own settings: the paper
            profile alone can test that.
        reported: the write-up's difference in points, or its accuracy in percent; None where it
            reports no number.
        paper: the paper's own gain, in points.
        by_size: whether the claim is the size of the gain and not only its sign.
    """

    page: str
    task: str
    better: str
    worse: str | None
    reported: float | None = None
    paper: float | None = None
    by_size: bool = False
    target: float | None = None

    @property
    def text(self) -> str:
        """The claim as one line of a table."""
        if self.worse is None:
            return f"{self.better} reaches {self.target:.0f}% on {TASK_TITLES[self.task]}"
        size = f" by {self.reported:.1f} points" if self.by_size else ""
        return f"{self.better} > {self.worse}{size} on {TASK_TITLES[self.task]}"


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


def _gain(
    page: str,
    better: Entry,
    worse: Entry,
    paper: float | None = None,
    task: str = "animals10",
    one_write_up: bool = True,
) -> tuple[Claim, ...]:
    """The claim that one model beats another and, where a large gain is reported, that it is so
    large: below two points a write-up's single run says at most which model won.

    Accuracies of two write-ups (``one_write_up`` False) have no difference that anybody reports.
    """
    high, low = (REPORTED.get((task, entry.title)) for entry in (better, worse))
    reported = None
    if one_write_up and high is not None and low is not None:
        reported = round(100 * (high - low), 2)
    claim = Claim(page, task, better.title, worse.title, reported, paper)
    return (claim, replace(claim, by_size=True)) if (reported or 0) > 2 else (claim,)


# What the book tests. Gains named by a paper are top-1 points on ImageNet with ResNet-50.
CLAIMS: tuple[Claim, ...] = (
    Claim("01_se", "cifar10", SENET_PUBLISHED.title, None, 87.21, target=87.0),
    *_gain("01_se", SENET_INTENDED, SENET_PUBLISHED, task="cifar10"),
    *_gain("01_se", SENET_PUBLISHED, SENET_WITHOUT, task="cifar10"),
    *_gain("01_se", SE, RESNET, paper=1.15),
    *_gain("02_ge", GE, RESNET, paper=0.9),
    *_gain("03_srm", SRM, RESNET, paper=1.24),
    *_gain("03_srm", SRM, SE),
    *_gain("03_srm", SE, GE),
    *_gain("04_sge", SGE, RESNET, paper=1.2),
    *_gain("05_sa", SA_INCEPTION, RESNET, task="caltech16"),
    *_gain("05_sa", SA_INCEPTION, VGG, task="caltech16"),
    *_gain("05_sa", SA_INCEPTION, MOBILENET, task="caltech16"),
    *_gain("05_sa", SA, RESNET, paper=1.3),
    *_gain("06_nl", NL, RESNET, one_write_up=False),
    *_gain("07_gc", GC, RESNET, paper=0.8, one_write_up=False),
    *_gain("07_gc", GC, NL),
    *_gain("08_bat", BAT, RESNET, one_write_up=False),
    *_gain("08_bat", BAT, GC),
    *_gain("08_bat", BAT, NL),
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
