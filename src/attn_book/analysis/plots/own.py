"""A block of the reader's own in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from attn_book.analysis.findings.blocks import spread
from attn_book.analysis.own import Judged
from attn_book.analysis.plots.outcomes import gains
from attn_book.analysis.plots.style import DASHES, book_style, colour, marker
from attn_book.records.run import Run
from attn_book.study.pages import RESNET

Cost = Mapping[str, object]


def own_block(found: Judged, cost: Cost) -> Figure:
    """Accuracy by fold, gain beside the eight, and what the blocks learnt and do, stage by stage.

    Args:
        found: what came of the block.
        cost: its row of ``cost.table``, which stands in the title.
    """
    with book_style():
        figure, axes = plt.subplots(
            2, 2, figsize=(11, 7.5), layout="constrained", width_ratios=(1, 1.2)
        )
        extra = (
            f"{cost['Extra parameters (%)']:+.2f}% parameters, {cost['Extra MACs (%)']:+.2f}% MACs"
        )
        times = f"{cost['Training step']:.2f} times the time of a training step"
        figure.suptitle(f"{found.title}: {extra}, {times}", fontsize=11)
        _accuracies(axes[0, 0], found)
        gains(axes[0, 1], [*found.eight, found.verdict])
        axes[0, 1].set_title(f"{found.title}: {found.verdict.in_full}", loc="right")
        if any(verdict.interval for verdict in [*found.eight, found.verdict]):
            key = "thick: simultaneous 95%; thin: allowing for shared images"
            axes[0, 1].set_xlabel(f"points above {RESNET.title} ({key})", fontsize=9)
        _by_block(axes[1, 0], "moved by (root mean square)", _moved(found.runs))
        _by_block(axes[1, 1], "differs between images by (share)", _differs(found.runs))
    return figure


def _accuracies(axis: plt.Axes, found: Judged) -> None:
    evidence = found.evidence
    seeds = sorted(evidence.wanted[found.title])
    for title in (RESNET.title, found.title):
        there = [seed for seed in seeds if seed in evidence.accuracies[title]]
        values = [evidence.accuracies[title][seed] for seed in there]
        axis.plot(there, values, marker=marker(title), color=colour(title), label=title)
    axis.set_xticks(seeds)
    axis.set(xlabel="fold" if evidence.folds else "seed", ylabel="final validation accuracy (%)")
    axis.legend(fontsize=8)


def _moved(runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """Parameter -> block -> how far it moved in each run."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for block, report in run.metrics.get("blocks", {}).items():
            for name, moved in report["parameters"].items():
                found.setdefault(name, {}).setdefault(block, []).append(moved["moved"])
    return found


def _differs(runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """Modulation -> block -> its deviation over images, a summand's as a share of its input."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for block, report in run.metrics.get("blocks", {}).items():
            for name in ("factor", "summand"):
                if name in report:
                    share = spread(report, name, "images")
                    found.setdefault(name, {}).setdefault(block, []).append(share)
    return found


def _by_block(axis: plt.Axes, label: str, values: Mapping[str, Mapping[str, list[float]]]) -> None:
    """A line for each quantity over the blocks, median over the runs."""
    if not values:
        axis.annotate("nothing: no parameters, or no finished run", (0.5, 0.5), ha="center")
        axis.axis("off")
        return
    blocks = list(dict.fromkeys(block for by_block in values.values() for block in by_block))
    for number, (name, by_block) in enumerate(values.items()):
        medians = [np.median(by_block.get(block, np.nan)) for block in blocks]
        style = DASHES[number % len(DASHES)]
        axis.plot(range(len(blocks)), medians, marker="o", linestyle=style, label=name)
    labels = [block.replace("layer", "").removesuffix(".attn") for block in blocks]
    axis.set_xticks(range(len(blocks)), labels, fontsize=7)
    axis.set(xlabel="block, stage.position", ylabel=label)
    axis.margins(y=0.1)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
