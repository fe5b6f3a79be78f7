"""Numbers in sentences: how findings, readings and alternative texts are worded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attn_book.study.pages import RESNET

# What Markdown and HTML take for more than text.
MARKUP = re.compile(r"[\\`*_{}\[\]<>&|$~]")
INSIDE = re.compile(r"layer(\d+)\.(\d+)\.attn")
AFTER = re.compile(r"layer(\d+)\.nl(\d+)")
IN_ROW = re.compile(r"blocks\.(\d+)\.attn")


@dataclass(frozen=True)
class Finding:
    """What was found, as sentences that a notebook shows as a list.

    Attributes:
        lines: what a line is about (empty for nothing in particular), and its sentences, both as
            plain text.
    """

    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n".join(f"{lead}: {text}" if lead else text for lead, text in self.lines)

    def _repr_markdown_(self) -> str:
        marked = [
            f"**{plain(lead)}:** {plain(text)}" if lead else plain(text)
            for lead, text in self.lines
        ]
        return "\n".join(f"* {line}" for line in marked) if len(marked) > 1 else "".join(marked)


def plain(value: object) -> str:
    """A value as text that Markdown shows as it is: a class may be called ``<b>`` or ``$x$``."""
    return MARKUP.sub(r"\\\g<0>", str(value))


def listed(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = [*items] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def counted(number: int, unit: str) -> str:
    """ "1 run", "2 runs", "1,412 images"."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def span(values: Sequence[float], form: str, to: str = " to ") -> str:
    """The lowest and the highest value, or one of them where both print alike."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low}{to}{high}"


def percent(share: float) -> str:
    """A share of 1 in percent, "83.4%"."""
    return f"{share:.1%}"


def block_of(title: str) -> str:
    """The block of a network's title: "SE" of "SE-ResNet-50"."""
    return title.removesuffix(f"-{RESNET.title}")


def points(value: float) -> str:
    """A difference in points of accuracy, with its sign; never -0.0."""
    return f"{round(value, 1) + 0.0:+.1f} points"


def place(name: str) -> str:
    """Where an attention block stands, blocks counted from 1.

    ``layer1.0.attn`` is "stage 1, block 1", ``layer2.nl1`` "stage 2, after block 2", and
    ``blocks.0.attn`` "block 1"; any other name stays as it is.
    """
    if found := INSIDE.fullmatch(name):
        return f"stage {found[1]}, block {int(found[2]) + 1}"
    if found := AFTER.fullmatch(name):
        return f"stage {found[1]}, after block {int(found[2]) + 1}"
    if found := IN_ROW.fullmatch(name):
        return f"block {int(found[1]) + 1}"
    return name


def short_place(name: str) -> str:
    """The same for the ticks of an axis: "1.1", "after 2.2", "1"."""
    if found := INSIDE.fullmatch(name):
        return f"{found[1]}.{int(found[2]) + 1}"
    if found := AFTER.fullmatch(name):
        return f"after {found[1]}.{int(found[2]) + 1}"
    return place(name).removeprefix("block ")
