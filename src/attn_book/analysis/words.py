"""Numbers in sentences: how findings, readings and alternative texts are worded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attn_book.language import ENGLISH, N_, _, language, say
from attn_book.study.pages import RESNET

# What Markdown and HTML take for more than text.
MARKUP = re.compile(r"[\\`*_{}\[\]<>&|$~]")
INSIDE = re.compile(r"layer(\d+)\.(\d+)\.attn")
AFTER = re.compile(r"layer(\d+)\.nl(\d+)")
IN_ROW = re.compile(r"blocks\.(\d+)\.attn")
# Titles and labels that pages give.
GIVEN = (
    N_("weight"),
    N_("weight / largest weight"),
    N_("published"),
    N_("intended"),
    N_("weight of the mean"),
    N_("weight of the deviation"),
    N_("share of the deviation"),
)
NUMBERED = re.compile(r"(channel|group) (\d+)")


@dataclass(frozen=True)
class Finding:
    """What was found, as sentences that a notebook shows as a list.

    Attributes:
        lines: what a line is about (empty for nothing in particular), and its sentences, both as
            plain text.
    """

    lines: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str) -> Finding:
        """Sentences about nothing in particular."""
        return cls((("", text),))

    def __str__(self) -> str:
        return "\n".join(
            say("{lead}: {text}", lead=lead, text=text) if lead else text
            for lead, text in self.lines
        )

    def _repr_markdown_(self) -> str:
        marked = [
            say("**{lead}:** {text}", lead=plain(lead), text=plain(text)) if lead else plain(text)
            for lead, text in self.lines
        ]
        return "\n".join(f"* {line}" for line in marked) if len(marked) > 1 else "".join(marked)


def plain(value: object) -> str:
    """A value as text that Markdown shows as it is: a class may be called ``<b>`` or ``$x$``."""
    return MARKUP.sub(r"\\\g<0>", str(value))


def listed(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = [*items] or [""]
    return say("{first} and {last}", first=_(", ").join(first), last=last) if first else last


def joined(items: Iterable[str]) -> str:
    """ "a, b, c"."""
    return _(", ").join(items)


def phrases(items: Iterable[str]) -> str:
    """ "a, b, c": parts of a sentence rather than names."""
    first, *more = items
    return first + "".join(say(", {phrase}", phrase=phrase) for phrase in more)


def clauses(items: Iterable[str]) -> str:
    """ "a; b; c": parts of a sentence that have commas of their own."""
    return _("; ").join(items)


def sentences(items: Iterable[str]) -> str:
    """Whole sentences one after the other, without those that are empty."""
    return (" " if language() == ENGLISH else "").join(item for item in items if item)


def counted(number: int, unit: str) -> str:
    """ "1 run", "2 runs", "1,412 images"."""
    several = "s" if number != 1 and language() == ENGLISH else ""
    return f"{number:,} {_(unit)}{several}"


def span(values: Sequence[float], form: str) -> str:
    """The lowest and the highest value, or one of them where both print alike."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else say("{low} to {high}", low=low, high=high)


def percent(share: float) -> str:
    """A share of 1 in percent, "83.4%"."""
    return f"{share:.1%}"


def block_of(title: str) -> str:
    """The block of a network's title: "SE" of "SE-ResNet-50"."""
    return title.removesuffix(f"-{RESNET.title}")


def points(value: float) -> str:
    """A difference in points of accuracy, with its sign; never -0.0."""
    return say("{points:+.1f} points", points=round(value, 1) + 0.0)


def place(name: str) -> str:
    """Where an attention block stands, blocks counted from 1.

    ``layer1.0.attn`` is "stage 1, block 1", ``layer2.nl1`` "stage 2, after block 2", and
    ``blocks.0.attn`` "block 1"; any other name stays as it is.
    """
    if found := INSIDE.fullmatch(name):
        return say("stage {stage}, block {block}", stage=found[1], block=int(found[2]) + 1)
    if found := AFTER.fullmatch(name):
        return say("stage {stage}, after block {block}", stage=found[1], block=int(found[2]) + 1)
    if found := IN_ROW.fullmatch(name):
        return say("block {block}", block=int(found[1]) + 1)
    return name


def short_place(name: str) -> str:
    """The same for the ticks of an axis: "1.1", "after 2.2", "1"."""
    if found := INSIDE.fullmatch(name):
        return f"{found[1]}.{int(found[2]) + 1}"
    if found := AFTER.fullmatch(name):
        return say("after {place}", place=f"{found[1]}.{int(found[2]) + 1}")
    return f"{int(found[1]) + 1}" if (found := IN_ROW.fullmatch(name)) else name


def named(title: str) -> str:
    """A title that ``explain.View`` or a page gives, in today's language, as far as known."""
    whole = _(title)
    return whole if whole != title else phrases(map(_part, title.split(", ")))


def _part(title: str) -> str:
    if found := NUMBERED.fullmatch(title):
        template = N_("channel {number}") if found[1] == "channel" else N_("group {number}")
        return say(template, number=found[2])
    return _(title)
