"""The finished runs that a finding is about: the plain network's, and those with a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from attn_blocks import models
from attn_blocks.errors import choose
from attn_book.analysis.words import counted
from attn_book.language import N_, say
from attn_book.records.planned import runs_of
from attn_book.records.run import Run
from attn_book.study.plan import Plan

NO_RUN = N_("No run of it is finished.")
NO_PLAIN = N_("The comparison has no finished network without a block to hold it against.")


@dataclass(frozen=True)
class Compared:
    """The networks of a comparison.

    Attributes:
        plain: title of the first network without an attention block; None where all have one.
        blocks: titles of the networks that are asked about, in the order of the page.
        runs: title -> seed -> finished run, of every network.
    """

    plain: str | None
    blocks: tuple[str, ...]
    runs: Mapping[str, Mapping[int, Run]]

    def of(self, title: str) -> list[Run]:
        """A network's finished runs in the order of their seeds."""
        return [self.runs[title][seed] for seed in sorted(self.runs[title])]

    def pairs(self, title: str) -> list[tuple[Run, Run]]:
        """(the network's run, the plain network's) of each seed that both finished."""
        return pairs_of(self.of(title), self.of(self.plain) if self.plain else ())


def compared(plan: Plan, task: str, titles: Sequence[str] = ()) -> Compared:
    """The networks of a page's task.

    Args:
        titles: those with a block that are asked about; none for all of them.

    Raises:
        SettingError: a title that the comparison has no block of, with those that it has.
    """
    entries = plan.comparison(task).comparison.entries
    with_block = [entry.title for entry in entries if has_block(entry)]
    for title in titles:
        choose("network with a block", title, with_block)
    return Compared(
        plain_of({entry.title: entry for entry in entries}),
        tuple(title for title in with_block if not titles or title in titles),
        {
            title: {run.experiment.seed: run for run in runs}
            for title, runs in runs_of(plan, task).items()
        },
    )


class Network(Protocol):
    """What says which network of the book it is: an entry of a page, an experiment, a record."""

    @property
    def model(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...


def has_block(network: Network) -> bool:
    """Whether a network of the book has an attention block, its own or the option's."""
    attn = network.options.get("attn")
    return bool(models.find(network.model).attns) if attn is None else attn is not False


def plain_of(networks: Mapping[str, Network]) -> str | None:
    """The title of the first network without an attention block; None where all have one."""
    return next((title for title, network in networks.items() if not has_block(network)), None)


def accuracy(runs: Sequence[Run]) -> float:
    """The mean final accuracy on the validation images, from 0 to 1."""
    return float(np.mean([run.metrics["final_val_acc"] for run in runs]))


def mean_curve(runs: Sequence[Run], column: str) -> np.ndarray:
    """A column of the histories, epoch by epoch, as the mean over runs of equal length."""
    return np.mean([run.history[column] for run in runs], axis=0)


def pairs_of(ours: Sequence[Run], plain: Sequence[Run]) -> list[tuple[Run, Run]]:
    """(a network's run, the plain network's) of each seed that both have, in the order of ours."""
    theirs = {run.experiment.seed: run for run in plain}
    return [(run, theirs[run.experiment.seed]) for run in ours if run.experiment.seed in theirs]


def gain(pairs: Sequence[tuple[Run, Run]]) -> float:
    """The mean difference of the final accuracies, in points."""
    return 100 * (accuracy([run for run, _ in pairs]) - accuracy([plain for _, plain in pairs]))


def over(runs: Sequence[object]) -> str:
    """ " (mean of 3 runs)"; nothing for one."""
    return say(" (mean of {runs})", runs=counted(len(runs), "run")) if len(runs) > 1 else ""
