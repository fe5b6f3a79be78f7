"""A block of the reader's own, judged beside the eight by the rules of ``book/protocol.md``.

One more network is compared with the plain one than the protocol has, so that its interval is
corrected for one comparison more. The eight stand beside it with the protocol's own correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from attn_book.analysis import statistics
from attn_book.analysis.evidence import Evidence, of_page, on_record
from attn_book.analysis.judgement import Verdict, judge, judge_one_more
from attn_book.analysis.statistics import Residual
from attn_book.analysis.tables import DASH
from attn_book.analysis.verdicts import ABOUT, sentence, table_of
from attn_book.analysis.words import counted, listed
from attn_book.records.run import Run
from attn_book.study.claims import BETTER, PRIMARY, Claim
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

TASK = "animals10"
LEAST = 1e-9  # points; a residual below it is rounding
# What stands in a metrics' report of a block's modulation, and its column.
SPREAD = {"mean": "Mean", "images": "Over images", "classes": "Over classes"}


@dataclass(frozen=True)
class Judged:
    """What came of a block of the reader's own.

    Attributes:
        title: of its network.
        evidence: its runs beside the plain network's and, in the study, those of the eight.
        verdict: on whether it is better than the plain network.
        eight: the protocol's verdicts on the eight blocks; none outside the study.
        residual, pooled: what its interval is computed from, and over which runs.
    """

    title: str
    evidence: Evidence
    verdict: Verdict
    eight: list[Verdict]
    residual: Residual
    pooled: str

    @property
    def runs(self) -> list[Run]:
        """The finished runs of the block's network, in the order of the seeds."""
        return [run for _, run in sorted(self.evidence.runs[self.title].items())]


def judged(plan: Plan) -> Judged:
    """Judge the last network of a plan by what is on record of it, the plain one and the eight."""
    planned = plan.comparison(TASK)
    title, is_study = planned.titles[-1], PROFILES[plan.profile].folds
    known, page = on_record(plan)[TASK], of_page(plan, planned)
    evidence = replace(
        known,
        wanted={**known.wanted, title: page.wanted[title]},
        runs={**known.runs, title: page.runs[title]},
        diverged={**known.diverged, title: page.diverged[title]},
    )
    found, pooled = residual(known, evidence, title)
    claim = Claim(plan.page, TASK, PRIMARY, BETTER, title, RESNET.title)
    eight = [v for v in judge({TASK: known}, is_study) if v.claim.family == PRIMARY]
    verdict = judge_one_more(claim, evidence, found, is_study)
    return Judged(title, evidence, verdict, eight if is_study else [], found, pooled)


def residual(known: Evidence, evidence: Evidence, title: str) -> tuple[Residual, str]:
    """The residual behind a block's interval, and over which runs it is pooled, in words.

    That of the study's networks once they are complete. Before, of all networks that have the folds
    on which the block is compared, on those folds. Not a number and 0 degrees of freedom where that
    leaves nothing, or nothing but rounding.

    Args:
        known: of the study.
        evidence: the same with the block's network.
        title: of that network.
    """
    unit = "fold" if evidence.folds else "seed"
    if title not in known.wanted and known.is_complete:
        values, words = known.accuracies, f"the {len(known.wanted)} networks of the study"
    else:
        shared = evidence.shared(title, RESNET.title)
        values = {
            network: {seed: of_network[seed] for seed in shared}
            for network, of_network in evidence.accuracies.items()
            if set(shared) <= of_network.keys()
        }
        words = f"{listed(values)} on {counted(len(shared), unit)}"
    found = statistics.residual(values)
    return (found if found.deviation > LEAST else Residual(float("nan"), 0)), words


# What is printed ---------------------------------------------------------------------------------


def accuracy_table(found: Judged) -> pd.DataFrame:
    """Accuracy by fold in percent, of the block's network and the plain one, and the difference."""
    evidence, rows = found.evidence, [RESNET.title, found.title]
    unit = "Fold" if evidence.folds else "Seed"
    columns: dict[str, list[float]] = {}
    for seed in sorted(evidence.wanted[found.title]):
        plain, own = (evidence.accuracies[title].get(seed, np.nan) for title in rows)
        columns[f"{unit} {seed}"] = [plain, own, own - plain]
    table = pd.DataFrame(columns, index=[*rows, "Difference"])
    shared = [f"{unit} {seed}" for seed in evidence.shared(*rows)]
    table["Mean" if len(shared) == len(columns) else "Mean of both"] = table[shared].mean(axis=1)
    shown = table.map(lambda value: DASH if np.isnan(value) else f"{value:.2f}")
    shown.loc["Difference"] = [DASH if np.isnan(v) else f"{v:+.2f}" for v in table.iloc[-1]]
    return shown


def movement_table(runs: Sequence[Run]) -> pd.DataFrame:
    """How far each parameter of the blocks moved: root mean squares, medians over blocks and runs.

    Empty for a block without parameters.
    """
    found: dict[str, list[list[float]]] = {}
    for block in _blocks(runs):
        for name, moved in block["parameters"].items():
            found.setdefault(name, []).append([moved[key] for key in ("start", "end", "moved")])
    rows = {name: np.median(values, axis=0) for name, values in found.items()}
    table = pd.DataFrame.from_dict(rows, "index", columns=["Start", "End", "Moved"])
    return table.rename_axis("Parameter").map("{:.4g}".format)


def modulation_table(runs: Sequence[Run]) -> pd.DataFrame:
    """What the blocks do to an image, medians over blocks and runs.

    A factor multiplies, a summand is added: its mean, and its standard deviation over images and
    over the classes' means; Input is the root mean square of what a summand is added to.
    """
    found: dict[str, list[list[float]]] = {}
    for block in _blocks(runs):
        for name in ("factor", "summand"):
            if name in block:
                values = [*(block[name][key] for key in SPREAD), block["input"]]
                found.setdefault(name.title(), []).append(values)
    rows = {name: np.median(values, axis=0) for name, values in found.items()}
    columns = [*SPREAD.values(), "Input"]
    table = pd.DataFrame.from_dict(rows, "index", columns=columns)
    return table.rename_axis("Modulation").map("{:.4g}".format)


def frozen_text(found: Judged) -> str:
    """What the network does with every block's modulation replaced by its mean."""
    frozen = [run.metrics["frozen"] for run in found.runs if "frozen" in run.metrics]
    if not frozen:
        return "No finished run says what the block does."
    changed = ", ".join(f"{each['changed']:.1%}" for each in frozen)
    text = f"With each block replaced by its mean over the images, {changed} of the predictions"
    text += f" change ({counted(len(frozen), 'run')})."
    if found.evidence.is_constant(found.title):
        text += " That is under 0.5% on average: the blocks do the same to all images."
    return text


def outcome_table(found: Judged) -> pd.DataFrame:
    """The block's outcome below those of the eight, as they are on record."""
    table = table_of([*found.eight, found.verdict])
    wanted = ("Outcome", "Runs", "Ours", "Simultaneous 95%", "Allowing for shared training images")
    return table[[column for column in wanted if column in table]]


def outcome_text(found: Judged) -> str:
    """The outcome in words, with what the interval is computed from."""
    verdict = found.verdict
    lines = [f"{verdict.claim.text}: {verdict.in_full}. {sentence(verdict)}"]
    if not verdict.is_decided:
        why = "there is no outcome until all runs that are compared have ended"
        if not found.eight:
            why = "this profile is too small for outcomes; the profile study has them"
        return "\n".join([*lines, f"{why[0].upper()}{why[1:]}."])
    comparisons = f"corrected for {len(found.eight) + 1} comparisons, the eight blocks' and this"
    if found.residual.freedom:
        lines.append(
            f"Residual standard deviation {found.residual.deviation:.2f} points with "
            f"{found.residual.freedom} degrees of freedom, from {found.pooled}; {comparisons}."
        )
    else:
        lines.append(
            f"Nothing gives a residual ({found.pooled} leave none), so there is no interval."
        )
    return "\n".join([*lines, ABOUT])


def _blocks(runs: Sequence[Run]) -> list[dict]:
    """The reports of all blocks of all runs."""
    return [block for run in runs for block in run.metrics.get("blocks", {}).values()]
