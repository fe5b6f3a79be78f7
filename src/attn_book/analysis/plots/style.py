"""How all figures look, and how they are stamped and saved."""

from __future__ import annotations

import zlib
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from attn_blocks.files import atomic_write
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
    "SENet as published": ("#0024a8", "s"),
    "SENet as intended": ("#a81800", "D"),
    "SENet without SE": ("#7a7a7a", "o"),
    "SA-Residual-Inception": ("#b43ca8", "P"),
    "Residual-Inception without SA": ("#6000fc", ">"),
    "VGG-19": ("#3c9c54", "v"),
    "MobileNet-V2": ("#c08400", "<"),
}

# For models that have none of their own.
CYCLE = (
    ("#117733", "p"),
    ("#882255", "h"),
    ("#1c8a78", "H"),
    ("#7d7d1c", "d"),
    ("#aa4499", "8"),
    ("#332288", "*"),
)
# For lines of anything else, together with their colours.
DASHES = ("-", "--", "-.", ":")
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


def _look(title: str) -> tuple[str, str]:
    return LOOKS.get(title) or CYCLE[zlib.crc32(title.encode()) % len(CYCLE)]


def colour(title: str) -> str:
    """The colour of a model: its own, or one of ``CYCLE`` that is the same for the same title."""
    return _look(title)[0]


def marker(title: str) -> str:
    """The marker of a model, as its colour."""
    return _look(title)[1]


def show(plan: Plan, figure: Figure, name: str) -> Figure:
    """Stamp a figure with its provenance, save it as PNG under ``figures/`` and return it.

    Args:
        name: what the figure shows; the file is ``<page>_<name>.png``.
    """
    save(figure, plan.provenance, plan.results_dir / "figures" / f"{plan.page}_{name}.png")
    return figure


def save(figure: Figure, provenance: str, path: Path) -> None:
    """Stamp a figure with a line that says where it comes from, and write it as PNG."""
    _freeze_layout(figure)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    figure.text(
        max(0, box.x0 / width),
        (box.y0 - 0.06) / height,
        provenance,
        fontsize=7,
        color="#666666",
        va="top",
        parse_math=False,
    )
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", bbox_inches="tight", dpi=STYLE["savefig.dpi"])
    # The notebook shows the returned figure; an open one would be shown a second time.
    plt.close(figure)


def _freeze_layout(figure: Figure) -> None:
    """Lay the figure out for good: saving it tightly would move legends that lie outside axes."""
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        legend.set_loc("lower left")
        legend.borderaxespad = 0
        legend.set_bbox_to_anchor((box.x0, box.y0), figure.transFigure)
    figure.set_layout_engine("none")
