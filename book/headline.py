"""The table of the front page and the READMEs: a row for each block, and what its columns mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from texts import conditions

from attn_blocks.files import PROJECT
from attn_book.analysis import tables, verdicts
from attn_book.analysis.judgement import CANNOT, HERE, Verdict
from attn_book.analysis.words import block_of, counted, sentences
from attn_book.language import _, say
from attn_book.records import planned
from attn_book.study.claims import SIZE
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

TASK = "animals10"  # of the question that the book asks first
# What a block adds to a training step, in turns with the plain network on one thread.
STEPS = PROJECT / "benchmarks" / "results" / "blocks.csv"
NO_BREAK = "\N{NO-BREAK SPACE}"
MARK = " †"  # of a reported gain that cannot occur here


def headline(plan: Plan, wide: Mapping[str, float]) -> pd.DataFrame:
    """A row for each block: its gain and outcome, its gain at full width, and the reported one."""
    sizes = {v.claim.better: v for v in verdicts.against_resnet(plan, TASK, SIZE)}
    parameters, steps = more_parameters(plan), longer_steps(plan)
    points = _("Points above ResNet-50")
    if any(verdict.is_decided for verdict in verdicts.against_resnet(plan, TASK)):
        points = _("Points above ResNet-50 [simultaneous 95%]")

    def row(verdict: Verdict) -> dict[str, str]:
        title = verdict.claim.better
        size = sizes.get(title)
        reported = tables.signed(verdict.reported if verdict.is_own else None, "+.1f")
        if size is not None and size.in_points == CANNOT:
            reported += MARK
        return {
            points: _with_interval(verdict),
            _("Outcome"): verdicts.outcome(verdict),
            _("At full width"): tables.signed(wide.get(title), "+.1f"),
            _("Reported"): reported,
            _("Parameters"): parameters.get(title, tables.DASH),
            _("Training step"): steps.get(block_of(title).lower(), tables.DASH),
        }

    return tables.known(by_block(plan, row))


def _with_interval(verdict: Verdict) -> str:
    """A difference with its interval, which breaks nowhere but before it, in one narrow cell."""
    gain, bounds = tables.signed(verdict.value), tables.interval(verdict.interval)
    return f"{gain} {bounds.replace(' ', NO_BREAK)}" if verdict.interval else gain


def more_parameters(plan: Plan) -> dict[str, str]:
    """Title -> the parameters that a network has more than ResNet-50; of those that have runs."""
    runs = planned.runs_of(plan, TASK)
    counts = {title: of[0].metrics["params"] for title, of in runs.items() if of}
    if RESNET.title not in counts:
        return {}
    more = {title: 100 * (count / counts[RESNET.title] - 1) for title, count in counts.items()}
    return {title: f"{share:+.{1 if share >= 0.1 else 2}f}%" for title, share in more.items()}


def longer_steps(plan: Plan) -> dict[str, str]:
    """Block -> what it adds to a training step of ResNet-50; of those that were measured so."""
    recipe, steps = plan.comparison(TASK).recipe, pd.read_csv(STEPS, comment="#")
    size = recipe.width, recipe.image_size, recipe.batch_size
    measured = steps[(steps[["width", "image_size", "batch"]] == size).all(axis=1)]
    return {row.block: f"{row.added_percent:+.0f}%" for row in measured.itertuples()}


def steps_origin(rows: pd.DataFrame) -> list[str]:
    """Where the times of training steps are from; nothing where none are shown."""
    if _("Training step") not in rows:
        return []
    return [say("training step: {processor}, {date}", **conditions(STEPS))]


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
            "themselves, with a dash where none trained {network} beside the block; what the "
            "blocks' authors print is another thing ({sources}).",
            network=RESNET.title,
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
    if any(verdict.outcome.endswith(HERE) for verdict in verdicts.against_resnet(plan, TASK)):
        parts.append(
            _(
                "*On these images* is added where the outcome does not hold under the wider "
                "interval, which allows for training images that folds share."
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
