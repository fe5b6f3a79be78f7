"""The five write-ups' dates and prints. ``book/sources.md`` has their titles, authors and places.

``claims.REPORTED`` holds the accuracies that they print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from attn_book.study.pages import BAT, GC, GE, NL, RESNET, SE, SENET_PUBLISHED, SGE, SRM

Day = tuple[int, int]  # month and day: none of the logs has a year
FEBRUARY_13, FEBRUARY_19, FEBRUARY_22, MARCH_3 = (2, 13), (2, 19), (2, 22), (3, 3)


@dataclass(frozen=True)
class WriteUp:
    """A write-up as it can be read.

    Attributes:
        name: what ``book/sources.md`` calls it.
        task: what it trains on.
        dated: the date that its page prints, as ``2024-03-10``; None without one.
        logs: the days of the logs that it shows.
        prints: title of a network whose accuracy it prints -> the days of ``logs`` that the
            network's log can be of; none where no log of it is dated.
    """

    name: str
    task: str
    dated: str | None
    logs: tuple[Day, ...] = ()
    prints: Mapping[str, tuple[Day, ...]] = field(default_factory=dict)


WRITE_UPS = (
    WriteUp(
        "sge",
        "animals10",
        None,
        (FEBRUARY_13, FEBRUARY_19),
        {RESNET.title: (FEBRUARY_13,), SGE.title: (FEBRUARY_19,)},
    ),
    WriteUp(
        "srm",
        "animals10",
        "2025-07-25",
        (FEBRUARY_13, FEBRUARY_22),
        {
            RESNET.title: (FEBRUARY_13,),
            SE.title: (FEBRUARY_22,),
            # Which of its two days theirs are of was not noted.
            SRM.title: (FEBRUARY_13, FEBRUARY_22),
            GE.title: (FEBRUARY_13, FEBRUARY_22),
        },
    ),
    WriteUp(
        "nonlocal",
        "animals10",
        "2025-07-21",
        (MARCH_3,),
        {entry.title: (MARCH_3,) for entry in (NL, GC, BAT)},
    ),
    WriteUp("senet", "cifar10", "2024-03-10", prints={SENET_PUBLISHED.title: ()}),
    WriteUp("sa", "caltech16", "2025-07-18"),  # curves without numbers
)
# The evaluation that ``sge`` and ``srm`` both print: one run, by its log.
SHARED_LOG: Mapping[str, str] = MappingProxyType(
    {
        "stamp": "W0213 21:34:50.038996",
        "process": "12684",
        "loss": "1.4232028",
        "accuracy": "0.5888278",
    }
)
