"""What a block costs, and what the same time buys without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from attn_book.analysis import cost
from attn_book.analysis.evidence import other_lengths
from attn_book.analysis.findings.compared import (
    NO_PLAIN,
    NO_RUN,
    Compared,
    accuracy,
    compared,
    mean_curve,
    over,
)
from attn_book.analysis.words import Finding, counted, joined, points, sentences
from attn_book.language import N_, _, say
from attn_book.records.run import Run
from attn_book.study.plan import Plan


def cost_finding(
    plan: Plan, task: str, measured: pd.DataFrame, titles: Sequence[str] = ()
) -> Finding:
    """Parameters, multiply-adds and step time beside the plain network, and what the time buys.

    Args:
        measured: the table of ``cost.table``, whose step times are taken: they are measured in
            turn, which the times of runs are not.
        titles: the networks with a block that are meant; none for all.
    """
    found = compared(plan, task, titles)
    budgets = other_lengths(plan, task)
    return Finding(tuple((title, _cost(found, title, measured, budgets)) for title in found.blocks))


def _cost(
    found: Compared, title: str, measured: pd.DataFrame, budgets: Mapping[int, list[Run]]
) -> str:
    if not found.of(title):
        return _(NO_RUN)
    pairs = found.pairs(title)
    if not pairs:
        return _(NO_PLAIN)
    ours, plain = (run.metrics for run in pairs[0])
    text = say(
        "Beside {network} it has {more_params} parameters ({params:,} against {plain_params:,}) "
        "and {more_macs} multiply-adds ({macs:,.1f} against {plain_macs:,.1f} million an image).",
        network=found.plain,
        more_params=_more(ours["params"], plain["params"]),
        params=ours["params"],
        plain_params=plain["params"],
        more_macs=_more(ours["macs"], plain["macs"]),
        macs=ours["macs"] / 1e6,
        plain_macs=plain["macs"] / 1e6,
    )
    steps = measured[_(cost.STEP)]
    ratio = float(steps[title] / steps[found.plain])
    step = say(
        "A forward and backward pass takes {ratio:.2f} times as long, measured in turn on the "
        "machine that made this page, whatever else it did (the page Performance has measurements "
        "of a quiet one); in the middle half of the rounds it took {rounds} times.",
        ratio=ratio,
        rounds=measured[_(cost.ROUNDS)][title],
    )
    return sentences([text, step, _same_time(found, title, ratio, budgets)])


def _more(ours: float, plain: float) -> str:
    if ours == plain:
        return _("equally many")
    share = 100 * abs(ours / plain - 1)
    shown = f"{share:.{1 if share >= 0.1 else 3}f}%"
    return say(N_("{share} fewer") if ours < plain else N_("{share} more"), share=shown)


def _same_time(found: Compared, title: str, ratio: float, budgets: Mapping[int, list[Run]]) -> str:
    """What the plain network reaches in the time that the other one's training takes."""
    pairs = found.pairs(title)
    epochs = len(pairs[0][1].history["epoch"])
    bought = ratio * epochs
    if bought <= epochs:
        return say(
            "So it leaves no time in which {network} could train for longer.", network=found.plain
        )
    whole = say(
        "In the time of its {epochs} {network} could train for {bought:.1f}",
        epochs=counted(epochs, "epoch"),
        network=found.plain,
        bought=bought,
    )
    longer = [number for number in budgets if number >= bought]
    if longer:
        return say("{lead}: {text}", lead=whole, text=_between(found, title, bought, budgets))
    mine, theirs = (mean_curve([pair[i] for pair in pairs], "val_acc") for i in (0, 1))
    done, late = int(epochs / ratio), min(math.ceil(0.75 * epochs), epochs - 1)
    text = say("{whole}; no run of that length is on record.", whole=whole)
    if late:  # of a single epoch there is no last quarter
        last = _("last epoch")
        if epochs - late > 1:
            last = say("last {number} epochs", number=epochs - late)
        brought = say(
            "The {last} of {network}'s own {epochs} brought it {gain}.",
            network=found.plain,
            last=last,
            epochs=epochs,
            gain=points(100 * (theirs[-1] - theirs[late - 1])),
        )
        text = sentences([text, brought])
    if done < 1 or len(mine) != len(theirs):
        return text
    then = say(
        "By the time {network} had finished, the network with the block had done {epochs} and "
        "stood at {ours:.4f} against {theirs:.4f}, with its rate not yet annealed.",
        network=found.plain,
        epochs=counted(done, "epoch"),
        ours=mine[done - 1],
        theirs=theirs[-1],
    )
    return sentences([text, then])


def _between(found: Compared, title: str, bought: float, budgets: Mapping[int, list[Run]]) -> str:
    """The plain network's accuracy at that many epochs, from its trainings of other lengths.

    Each of them was annealed to its own end. Between two of them a straight line is taken, over the
    seeds that all have.
    """
    assert found.plain is not None, "there are runs of it"
    epochs = len(found.of(found.plain)[0].history["epoch"])
    lengths = {**budgets, epochs: found.of(found.plain)}
    seeds = set.intersection(
        *({run.experiment.seed for run in runs} for runs in lengths.values()),
        set(found.runs[title]),
    )
    if not seeds:
        return _("its runs of other lengths share no seed with these, so that nothing can be read.")
    at = {
        number: accuracy([run for run in runs if run.experiment.seed in seeds])
        for number, runs in sorted(lengths.items())
    }
    plain = float(np.interp(bought, [*at], [*at.values()]))
    mine = accuracy([found.runs[title][seed] for seed in sorted(seeds)])
    read = joined(
        say("{accuracy:.4f} with {epochs}", accuracy=value, epochs=number)
        for number, value in at.items()
    )
    return say(
        "its own trainings end at {read} epochs{over}, which makes {plain:.4f} for that time, "
        "against {ours:.4f} with the block ({gain}).",
        read=read,
        over=over(sorted(seeds)),
        plain=plain,
        ours=mine,
        gain=points(100 * (mine - plain)),
    )
