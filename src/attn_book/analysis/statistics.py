"""Effects over seeds: means, intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attn_blocks.errors import SettingError


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its 95% t-interval, and the exact sign test's two-sided p.

    With one seed there is no interval (NaN); ``sign_p`` is NaN where no value differs from 0.
    """

    mean: float
    low: float
    high: float
    seeds: int
    sign_p: float


def effect(values: Sequence[float]) -> Effect:
    """Mean, 95% interval (Student's t, n - 1 degrees of freedom) and sign test of ``values``."""
    from scipy import stats  # takes as long to import as Paddle, and training needs none of it

    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise SettingError("an effect needs at least one value, a difference for each seed")
    mean = float(numbers.mean())
    half = math.nan
    if len(numbers) > 1:
        error = numbers.std(ddof=1) / math.sqrt(len(numbers))
        half = float(stats.t.ppf(0.975, len(numbers) - 1) * error)
    wins, losses = int((numbers > 0).sum()), int((numbers < 0).sum())
    sign_p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else math.nan
    return Effect(mean, mean - half, mean + half, len(numbers), sign_p)
