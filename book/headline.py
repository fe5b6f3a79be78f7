"""The table of the front page and the READMEs: a row for each block, and what its columns mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from attn_blocks.files import PROJECT
from attn_book.analysis import tables, verdicts
from attn_book.analysis.judgement import CANNOT, Verdict
from attn_book.analysis.words import block_of, counted, sentences
from attn_book.language import _, say
from attn_book.records import planned
from attn_book.study.claims import SIZE
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

TASK = "animals10"  # of the question that the book asks first
# What a block adds to a training step, in turns with the plain network on one thread.
STEPS = PROJECT / "benchmarks" / "results" / "blocks.csv"
MARK = " †"  # of a reported gain that cannot occur here


def headline(plan: Plan, wide: Mapping[str, float]) -> pd.DataFrame:
    """A row for each block: its gain and outcome, its gain at full width, and the reported one."""
    sizes = {v.claim.better: v for v in verdicts.against_resnet(plan, TASK, SIZE)}

    def row(verdict: Verdict) -> dict[str, str]:
        title = verdict.claim.better
        size = sizes.get(title)
        reported = tables.signed(verdict.reported if verdict.is_own else None, "+.1f")
        if size is not None and size.in_points == CANNOT:
            reported += MARK
        if size is not None and size.is_decided:
            outcome = verdicts.outcome(size)
            reported = say("{reported} ({outcome})", reported=reported, outcome=outcome)
        return {
            _("Points above ResNet-50"): tables.signed(verdict.value),
            _("Outcome"): verdicts.outcome(verdict),
            _("Simultaneous 95%"): tables.interval(verdict.interval),
            _("Shared training images"): tables.interval(verdict.corrected),
            _("Runs"): verdict.folds if verdict.is_decided else tables.DASH,
            _("At full width"): tables.signed(wide.get(title), "+.1f"),
            _("Reported"): reported,
            **cost_of(plan, title),
        }

    return tables.known(by_block(plan, row))


def cost_of(plan: Plan, title: str) -> dict[str, str]:
    """What a block adds, in percent of ResNet-50's: parameters, and a training step's time."""
    runs = planned.runs_of(plan, TASK)
    ours, plain = (
        [run.metrics["params"] for run in runs.get(t, ())] for t in (title, RESNET.title)
    )
    recipe = plan.comparison(TASK).recipe
    steps = pd.read_csv(STEPS, comment="#").set_index(["block", "width", "image_size", "batch"])
    key = block_of(title).lower(), recipe.width, recipe.image_size, recipe.batch_size
    parameters = step = tables.DASH
    if ours and plain:
        more = 100 * (ours[0] / plain[0] - 1)
        parameters = f"{more:+.{1 if more >= 0.1 else 2}f}%"
    if key in steps.index:
        step = f"{steps.added_percent[key]:+.0f}%"
    return {_("Parameters"): parameters, _("Training step"): step}


def steps_origin(rows: pd.DataFrame) -> list[str]:
    """Where the times of training steps are from; nothing where none are shown."""
    if _("Training step") not in rows:
        return []
    lines = STEPS.read_text(encoding="utf-8").splitlines()
    fields = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    return [say("training step: {processor}, {date}", **fields)]


def columns_in_words(plan: Plan, rows: pd.DataFrame, sources: str) -> str:
    """What stands in the columns whose names do not say it.

    Args:
        sources: a link to the page of sources.
    """
    if _("Reported") not in rows:
        return ""
    parts = [
        say(
            "*Reported* is what write-ups on the web print of networks that they trained "
            "themselves; what the blocks' authors print is another thing ({sources}).",
            sources=sources,
        )
    ]
    runs = planned.runs_of(plan, TASK).get(RESNET.title, ())
    if runs and any(MARK in text for text in rows[_("Reported")]):
        right = float(np.mean([run.metrics["final_val_acc"] for run in runs]))
        parts.append(
            say(
                "{mark} {cannot}: {network} is right on {right:.1%} of the images on average "
                "({runs}), so that no block can add more than {room:.1f} points to it.",
                mark=MARK.strip(),
                cannot=_(CANNOT),
                network=RESNET.title,
                right=right,
                runs=counted(len(runs), "run"),
                room=100 * (1 - right),
            )
        )
    if _("Training step") in rows:
        parts.append(
            say(
                "*Parameters* and *Training step* are what a block adds to those of {network}.",
                network=RESNET.title,
            )
        )
    return sentences(parts)


def reported_beside(plan: Plan, wide: Mapping[str, float]) -> pd.DataFrame:
    """A row for each block: its gain at full width, and the reported one."""

    def row(verdict: Verdict) -> dict[str, str]:
        return {
            _("At full width"): tables.signed(wide.get(verdict.claim.better), "+.1f"),
            _("Reported"): tables.signed(verdict.claim.reported, "+.1f"),
        }

    return by_block(plan, row)


def by_block(plan: Plan, row: Callable[[Verdict], dict[str, str]]) -> pd.DataFrame:
    """A row for each block beside ResNet-50; the networks' accuracies where there is none."""
    found = verdicts.against_resnet(plan, TASK)
    if not found:
        return tables.accuracy_table(plan, plan.comparisons[0].task)
    rows = {block_of(verdict.claim.better): row(verdict) for verdict in found}
    return pd.DataFrame(rows).T.rename_axis(_("Block"))
