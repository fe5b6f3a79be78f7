"""The study's pilot: what its trials found, and which recipe they choose by the protocol's rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attn_book.analysis.tables import DASH
from attn_book.language import _, say
from attn_book.records.run import Run
from attn_book.study.design import PILOT_SEEDS

# Of the recipes whose mean accuracy lies this close to the best, the shortest is taken.
TOLERANCE = 0.007
MOST_EPOCHS = 30  # of a recipe that can be chosen; longer trials are shown and decide nothing


@dataclass(frozen=True)
class Trial:
    """A recipe of the pilot with the runs that it has: accuracies as shares, by seed."""

    learning_rate: float
    smallest_crop: float
    epochs: int
    validation: dict[int, float]
    training: dict[int, float]

    @property
    def mean(self) -> float:
        """Validation accuracy of the final epoch, over the seeds."""
        return float(np.mean([*self.validation.values()]))

    @property
    def complete(self) -> bool:
        """Whether both of the pilot's seeds are trained."""
        return set(self.validation) == set(PILOT_SEEDS)


def trials(runs: Iterable[Run]) -> list[Trial]:
    """The pilot's recipes among ``runs``, in the order in which the protocol tries them."""
    found: dict[tuple[float, float, int], Trial] = {}
    for run in runs:
        if run.experiment.seed not in PILOT_SEEDS:
            continue
        recipe = run.experiment.recipe
        key = recipe.learning_rate, recipe.smallest_crop, recipe.epochs
        trial = found.setdefault(key, Trial(*key, {}, {}))
        trial.validation[run.experiment.seed] = run.metrics["final_val_acc"]
        trial.training[run.experiment.seed] = run.metrics["final_train_acc"]
    return sorted(found.values(), key=lambda t: (t.epochs, t.learning_rate, -t.smallest_crop))


def chosen(found: Sequence[Trial]) -> Trial | None:
    """The recipe that complete trials choose: of those close to the best the shortest, then best.

    None until a trial that can be chosen is complete.
    """
    complete = [trial for trial in found if trial.complete and trial.epochs <= MOST_EPOCHS]
    if not complete:
        return None
    best = max(trial.mean for trial in complete)
    close = [trial for trial in complete if trial.mean >= best - TOLERANCE]
    return min(close, key=lambda trial: (trial.epochs, -trial.mean))


def table(found: Sequence[Trial]) -> pd.DataFrame:
    """A row for each trial: recipe, accuracy on validation images by seed, on training images."""

    def percent(value: float | None) -> str:
        return DASH if value is None else f"{100 * value:.1f}%"

    rows = [
        {
            _("Rate"): f"{trial.learning_rate:g}",
            _("Crops from"): f"{trial.smallest_crop:g}",
            _("Epochs"): trial.epochs,
            **{
                say("Seed {seed}", seed=seed): percent(trial.validation.get(seed))
                for seed in PILOT_SEEDS
            },
            _("Mean"): percent(trial.mean),
            _("On training images"): percent(float(np.mean([*trial.training.values()]))),
        }
        for trial in found
    ]
    return pd.DataFrame(rows).set_index(_("Rate"))
