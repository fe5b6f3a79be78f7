"""How all figures look, and how they are stamped and saved."""

from __future__ import annotations

import zlib

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from attn_blocks.files import atomic_write
from attn_book.study.plan import Plan

# A model has the same colour on every page; the plain network is grey.
COLOURS = {
    "ResNet-50": "#7a7a7a",
    "SE-ResNet-50": "#0072b2",
    "GE-ResNet-50": "#56b4e9",
    "SRM-ResNet-50": "#009e73",
    "SGE-ResNet-50": "#d55e00",
    "SA-ResNet-50": "#cc79a7",
    "NL-ResNet-50": "#661100",
    "GC-ResNet-50": "#e69f00",
    "BAT-ResNet-50": "#7b3294",
    "SENet as published": "#0072b2",
    "SENet as intended": "#d55e00",
    "SENet without SE": "#7a7a7a",
    "SA-Residual-Inception": "#cc79a7",
    "VGG-19": "#009e73",
    "MobileNet-V2": "#e69f00",
}

# For models that have none of their own.
CYCLE = ("#117733", "#882255", "#44aa99", "#999933", "#aa4499", "#332288")
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


def colour(title: str) -> str:
    """The colour of a model: its own, or one of ``CYCLE`` that is the same for the same title."""
    return COLOURS.get(title) or CYCLE[zlib.crc32(title.encode()) % len(CYCLE)]


def show(plan: Plan, figure: Figure, name: str) -> Figure:
    """Stamp a figure with its provenance, save it as PNG under ``figures/`` and return it.

    Args:
        name: what the figure shows; the file is ``<page>_<name>.png``.
    """
    _freeze_layout(figure)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    figure.text(
        max(0, box.x0 / width),
        (box.y0 - 0.06) / height,
        plan.provenance,
        fontsize=7,
        color="#666666",
        va="top",
        parse_math=False,
    )
    with atomic_write(plan.results_dir / "figures" / f"{plan.page}_{name}.png", "wb") as stream:
        figure.savefig(stream, format="png", bbox_inches="tight", dpi=STYLE["savefig.dpi"])
    # The notebook shows the returned figure; an open one would be shown a second time.
    plt.close(figure)
    return figure


def _freeze_layout(figure: Figure) -> None:
    """Lay the figure out for good: saving it tightly would move legends that lie outside axes."""
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent().transformed(figure.transFigure.inverted())
        legend.set_loc("lower left")
        legend.borderaxespad = 0
        legend.set_bbox_to_anchor((box.x0, box.y0), figure.transFigure)
    figure.set_layout_engine("none")
