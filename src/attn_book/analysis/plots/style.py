"""How all figures look, and how they are stamped and saved."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from attn_blocks.files import atomic_write
from attn_book.analysis.lettering import lettering
from attn_book.language import in_language, language
from attn_book.study.plan import Plan

# A model has the same colour and marker on every page; the plain network is grey. The colours keep
# apart for readers who do not see red or green as others do, and stand out from white paper: the
# tests measure both.
LOOKS = {
    "ResNet-50": ("#7a7a7a", "o"),
    "SE-ResNet-50": ("#0024a8", "s"),
    "GE-ResNet-50": ("#0090fc", "^"),
    "SRM-ResNet-50": ("#3c9c54", "v"),
    "SGE-ResNet-50": ("#a81800", "D"),
    "SA-ResNet-50": ("#b43ca8", "P"),
    "NL-ResNet-50": ("#6c2430", "X"),
    "GC-ResNet-50": ("#c08400", "<"),
    "BAT-ResNet-50": ("#6000fc", ">"),
    "SENet as published": ("#0024a8", "D"),
    "SENet as intended": ("#a81800", "s"),
    "SENet without SE": ("#7a7a7a", "X"),
    "SA-Residual-Inception": ("#b43ca8", "s"),
    "Residual-Inception without SA": ("#6000fc", "D"),
    "VGG-19": ("#3c9c54", "^"),
    "MobileNet-V2": ("#c08400", "v"),
}
INKS = tuple(dict.fromkeys(ink for ink, _ in LOOKS.values()))  # for lines of anything else

# For models that have none of their own.
CYCLE = (
    ("#117733", "p"),
    ("#882255", "h"),
    ("#1c8a78", "H"),
    ("#7d7d1c", "d"),
    ("#aa4499", "8"),
    ("#332288", "*"),
)
# Together with ``INKS``.
DASHES = ("-", "--", "-.", ":")
DARK, PALE, STRONG = "#444444", "#a0a0a0", "#b2182b"  # of what is no model
NOTE = {"textcoords": "offset points", "fontsize": 9, "va": "center"}
GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # hides the axis behind a note
HOLLOW = {"ls": "", "marker": "o", "color": "white", "mew": 1.8}
DOT = " · "  # between the parts of a provenance
WIDTH = 7  # inches, of the figures of the pages of text
STYLE = {
    "text.parse_math": False,  # a class may be called "$x$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.facecolor": "white",
    "legend.frameon": False,
}


@contextmanager
def book_style(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in ``STYLE``, with ``more`` of matplotlib's settings, lettered in today's language."""
    with plt.rc_context({**STYLE, **(more or {})}), lettering():
        yield


def _look(title: str) -> tuple[str, str]:
    return LOOKS.get(title) or CYCLE[zlib.crc32(title.encode()) % len(CYCLE)]


def colour(title: str) -> str:
    """The colour of a model: its own, or one of ``CYCLE`` that is the same for the same title."""
    return _look(title)[0]


def marker(title: str) -> str:
    """The marker of a model, as its colour."""
    return _look(title)[1]


def show(plan: Plan, figure: Figure, name: str, shows: str | None = None) -> Figure:
    """Save a figure with its provenance as PNG under ``figures/`` and return it.

    The file stands alone and says what it shows. On the page, which says the same once, the figure
    comes without, unless it ``shows`` something else than the page's runs.

    A figure's label (``figure.set_label``) is its alternative text: it goes into the metadata of
    the notebook's output, where nbconvert and the site look for it.

    Args:
        name: what the figure shows; the file is ``<page>_<name>.png``, in a folder of its own for
            a language other than English.
        shows: its provenance where that is not the page's, which then stays under it.
    """
    folder = in_language(plan.results_dir / "figures", language())
    with lettering():
        stamp = save(figure, shows or plan.provenance, folder / f"{plan.page}_{name}.png")
    stamp.set_visible(shows is not None)
    if words := figure.get_label():
        # IPython asks an object for this; nothing in the figure's class can hold the metadata.
        figure._repr_mimebundle_ = partial(_with_words, str(words))
    return figure


def save(figure: Figure, provenance: str, path: Path) -> Text:
    """Stamp a figure with a line that says where it comes from, write it as PNG, and close it.

    Returns:
        The stamp, which stays on the figure.
    """
    _freeze_layout(figure)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    look = {"fontsize": 7, "color": "#666666", "va": "top", "parse_math": False}
    with lettering():
        place = max(0, box.x0 / width), (box.y0 - 0.06) / height
        stamp = figure.text(*place, "", **look)
        _wrap(stamp, provenance, figure.dpi * max(box.x1, width))
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", bbox_inches="tight", dpi=STYLE["savefig.dpi"])
    # A notebook shows the figure that it is given; an open one would be shown a second time.
    plt.close(figure)
    return stamp


def _wrap(stamp: Text, provenance: str, limit: float) -> None:
    """Write a line that is wider than ``limit`` pixels as several, broken at their dots."""
    lines = []
    for line in provenance.splitlines():
        shown, *parts = line.split(DOT)
        for part in parts:
            stamp.set_text(f"{shown}{DOT}{part}")
            if stamp.get_window_extent().x1 > limit:
                lines.append(shown)
                shown = part
            else:
                shown = stamp.get_text()
        lines.append(shown)
    stamp.set_text("\n".join(lines))


def _with_words(words: str, **_: object) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """No data beside what IPython makes of the figure, and the picture's alternative text."""
    return {}, {"image/png": {"alt": words}}


def _freeze_layout(figure: Figure) -> None:
    """Lay the figure out for good: saving it tightly would move legends that lie outside axes."""
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        legend.set_loc("lower left")
        legend.borderaxespad = 0
        legend.set_bbox_to_anchor((box.x0, box.y0), figure.transFigure)
    figure.set_layout_engine("none")
