"""``attn-book judge``: a block of the reader's own, trained and judged by the study's protocol."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd

from attn_blocks.datasets.folder import FOLDS
from attn_blocks.errors import SettingError, StorageError, choose
from attn_blocks.models.resnet import PLACEMENTS
from attn_book.analysis import cost, estimate, own, plots
from attn_book.driver.reproduce import job_count, prepare, say_how_to_resume
from attn_book.driver.schedule import Schedule, missing_of
from attn_book.driver.terminal import relative
from attn_book.records.planned import run_of
from attn_book.records.published import is_done
from attn_book.study import own as blocks
from attn_book.study.own import OwnBlock
from attn_book.study.pages import RESNET, Comparison, Entry
from attn_book.study.plan import Plan, plan
from attn_book.study.recipes import PROFILES
from attn_book.training.own import check

FEWEST_FOLDS = 2  # a residual takes two
PAGE = "judge"


def judge(
    spec: str,
    folds: int = 3,
    placement: str = "inside",
    profile: str = "study",
    jobs: int | str | None = None,
    **settings: Any,
) -> int:
    """Train ResNet-50 with and without the reader's block, as far as it is not on record; judge it.

    Args:
        spec: ``"my_block.py:MyBlock"`` or ``"module:MyBlock"``; that code is run.
        folds: how many, from 2 to 5; in a profile without folds, how many seeds.
        placement: where it stands, see ``attn_blocks.create_model``.
        profile: a name of ``PROFILES``; only the study's has outcomes.
        jobs: runs trained side by side, as in ``reproduce``.
        settings: data_dir, results_dir and device, as in ``study.plan.plan``.

    Returns:
        The number of runs that failed.

    Raises:
        SettingError: a setting that cannot be, or a block that cannot be loaded or used.
        DataError: the images are not there.
        StorageError: a disk is full, or the results folder cannot be written.
    """
    block = blocks.find(spec)
    page = plan_of(block, folds, placement, profile, **settings)
    os.environ[blocks.FOLDER] = str(block.folder)  # so that it reaches worker processes too
    check(block, placement, page.comparisons[0].recipe)
    jobs = job_count(jobs, page)
    try:
        prepare([page])
        announce(page, block)
        failed = Schedule([page], jobs, None).run()
    except (KeyboardInterrupt, StorageError):
        say_how_to_resume([page])
        raise
    report(page, block)
    return failed


def plan_of(block: OwnBlock, folds: int, placement: str, profile: str, **settings: Any) -> Plan:
    """What is trained: the plain network and the one with the block, on the same folds."""
    if type(folds) is not int or not FEWEST_FOLDS <= folds <= FOLDS:
        raise SettingError(f"folds must be a number from {FEWEST_FOLDS} to {FOLDS}, not {folds!r}")
    choose("placement", placement, PLACEMENTS)
    entry = Entry(RESNET.model, block.title, {"attn": block.option, "placement": placement})
    return plan(
        PAGE,
        profile,
        seeds=range(folds),
        comparisons=[Comparison(own.TASK, (RESNET, entry))],
        **settings,
    )


def announce(page: Plan, block: OwnBlock) -> None:
    """Say what the block is, what there is of its comparison, and how long the rest will take."""
    placement = page.comparisons[0].experiments[-1][1].options["placement"]
    print(f"{block.title}: {block.name} of {relative(block.path)}, placed {placement}.")
    print(f"SHA-256 of that file's text: {block.digest[:16]}... An edited file is trained anew.")
    print(page.provenance)
    for title in page.comparisons[0].titles:
        experiments = [e for entry, e in page.comparisons[0].experiments if entry.title == title]
        done = sum(is_done(run_of(page, experiment)) for experiment in experiments)
        print(f"{title}: {done} of {len(experiments)} runs on record")
        if title == RESNET.title and done < len(experiments) and PROFILES[page.profile].shared:
            print("  What is missing is trained here: it is not published for these images,")
            print("  made by code that computes the same.")
    missing = missing_of([page])
    if missing:
        print(estimate.measured(page, own.TASK, missing))
        print("Choose the number of folds now: to add some after a look at the result is a second")
        print("look. Stop it when you like (Ctrl-C); the same command goes on.", flush=True)


def report(page: Plan, block: OwnBlock) -> None:
    """Print what came of the block, and draw it."""
    found, costs = own.judged(page), cost.table(page, own.TASK)
    _print("Final validation accuracy (%)", own.accuracy_table(found))
    moved, does = own.movement_table(found.runs), own.modulation_table(found.runs)
    if not does.empty:
        learnt = "Did the block learn? Root mean squares, medians over blocks and runs"
        _print(learnt, moved) if len(moved) else print("\nThe block has no parameters.")
        _print("What it does to an image, medians over blocks and runs", does)
    print(own.frozen_text(found))
    _print("What it costs; times are measured here, as ratios", costs.astype(object).T)
    _print("Outcome", own.outcome_table(found))
    print(f"\n{own.outcome_text(found)}")
    name = f"{block.name}-{block.digest[:8]}"
    plots.show(page, plots.own_block(found, costs.loc[found.title]), name)
    print(f"\nDrawn: {relative(page.results_dir / 'figures' / f'{PAGE}_{name}.png')}")


def _print(title: str, table: pd.DataFrame) -> None:
    """A table below its title, without the names of its axes."""
    print(f"\n{title}\n{table.rename_axis(index=None, columns=None).to_string()}")
