"""What differences between networks say: intervals, tests, and images drawn again.

Pure functions on plain numbers; ``book/protocol.md`` says which of them decides what. A table of
``values`` is network -> fold -> value, such as an accuracy in points. SciPy is imported where it is
needed: it takes as long as Paddle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attn_blocks.errors import SettingError

Values = Mapping[str, Mapping[int, float]]
# Nadeau and Bengio (2003): validation over training images of a fold, 1/5 over 4/5.
SHARED = 1 / 4
DRAWS = 2000
NODES = 64  # of a quadrature; with twice as many, critical values differ by less than 1e-8
TAIL = 1e-14  # of probability, left out of a quadrature that needs limits


@dataclass(frozen=True)
class Residual:
    """Standard deviation of what network and fold leave unexplained, and its degrees of freedom.

    Not a number and 0 where nothing is left to estimate it from, or a value is infinite.
    """

    deviation: float
    freedom: int


def unexplained(values: Values) -> dict[str, np.ndarray]:
    """Network -> what value = network + fold leaves by least squares, in the order of the folds.

    Of the networks with all folds. In such a complete table the fitted value is the network's mean
    plus the fold's mean less the mean of all. Not a number where a value is infinite.
    """
    folds = sorted({fold for of_network in values.values() for fold in of_network})
    complete = {name: row for name, row in values.items() if folds and len(row) == len(folds)}
    if not complete:
        return {}
    table = np.array([[row[fold] for fold in folds] for row in complete.values()])
    with np.errstate(invalid="ignore"):
        rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
        return dict(zip(complete, table - rows - columns + table.mean(), strict=True))


def residual(values: Values) -> Residual:
    """Pooled over all that ``unexplained`` gives."""
    left = np.array([*unexplained(values).values()])
    freedom = (left.shape[0] - 1) * (left.shape[1] - 1) if left.size else 0
    if freedom <= 0 or not np.isfinite(left).all():
        return Residual(math.nan, 0)
    return Residual(math.sqrt((left**2).sum() / freedom), freedom)


@dataclass(frozen=True)
class Difference:
    """A mean difference over the folds that two networks share, with the residual behind it."""

    value: float
    folds: int
    residual: Residual

    def error(self, shared: float = 0.0) -> float:
        """Standard error, s * sqrt(2 * (1 / folds + shared)).

        Args:
            shared: 0, or ``SHARED`` for the variance factor of Nadeau and Bengio.
        """
        return self.residual.deviation * math.sqrt(2 * (1 / self.folds + shared))

    def interval(self, critical: float, shared: float = 0.0) -> tuple[float, float]:
        """The value plus and minus ``critical`` standard errors."""
        half = critical * self.error(shared)
        return self.value - half, self.value + half

    def t(self, expected: float = 0.0) -> float:
        """How many standard errors lie between the value and the ``expected`` one."""
        error = self.error()
        return (self.value - expected) / error if error > 0 else math.nan

    @property
    def win_probability(self) -> float:
        """That a new run of the first network beats one of the second: Phi(d / (sqrt(2) s)).

        Bouthillier et al. (2021), "Accounting for Variance in Machine Learning Benchmarks".
        """
        s = self.residual.deviation
        return (1 + math.erf(self.value / (2 * s))) / 2 if s > 0 else math.nan


def difference(values: Values, better: str, worse: str) -> Difference | None:
    """``better`` less ``worse`` over the folds that both have; None if there is none."""
    ours, theirs = values.get(better, {}), values.get(worse, {})
    folds = sorted(ours.keys() & theirs.keys())
    if not folds:
        return None
    mean = sum(ours[fold] - theirs[fold] for fold in folds) / len(folds)
    return Difference(mean, len(folds), residual(values))


# One comparison by itself, and several together --------------------------------------------------


def student_critical(freedom: int, level: float = 0.95) -> float:
    """Half-width of a two-sided interval in standard errors, by Student's t."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom)) if freedom > 0 else math.nan


def student_p(t_value: float, freedom: int) -> float:
    """Two-sided p of a single comparison; not a number without degrees of freedom."""
    from scipy.stats import t

    return float(2 * t.sf(abs(t_value), freedom)) if freedom > 0 else math.nan


def dunnett_p(t_value: float, comparisons: int, freedom: int) -> float:
    """Two-sided p of one of several comparisons with the same network, adjusted for all of them.

    The probability that the largest of their t, without signs, reaches this one if there is no
    difference at all.
    Each t is (z - c) / (sqrt(2) s): z is its network's own, c that of the common network, which
    makes all correlations 1/2, and s the deviation over its expectation. Given c and s the t are
    independent, so that two sums over quadrature nodes are the whole integral (Dunnett 1955, 1964).

    Raises:
        SettingError: no comparison.
    """
    if comparisons < 1:
        raise SettingError(f"comparisons must be a number from 1, not {comparisons!r}")
    if freedom <= 0 or math.isnan(t_value):
        return math.nan
    from scipy.special import ndtr

    (c, of_c), (s, of_s) = _normal_nodes(), _deviation_nodes(freedom)
    reach = math.sqrt(2) * abs(t_value) * s[:, None]
    below = ndtr(c + reach) - ndtr(c - reach)
    return float(min(1.0, max(0.0, 1 - of_s @ below**comparisons @ of_c)))


@lru_cache
def dunnett_critical(comparisons: int, freedom: int, level: float = 0.95) -> float:
    """Half-width of simultaneous two-sided intervals in standard errors, see ``dunnett_p``."""
    if freedom <= 0:
        return math.nan
    from scipy.optimize import brentq

    # Between what a single comparison needs, and what Bonferroni gives to several.
    low = student_critical(freedom, level)
    high = student_critical(freedom, 1 - (1 - level) / comparisons)

    def excess(t_value: float) -> float:
        return dunnett_p(t_value, comparisons, freedom) - (1 - level)

    return float(brentq(excess, 0.99 * low, 1.01 * high, xtol=1e-10))


@lru_cache
def _normal_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the standard normal distribution."""
    from scipy.special import roots_hermitenorm

    nodes, weights = roots_hermitenorm(NODES)
    return nodes, weights / weights.sum()


@lru_cache
def _deviation_nodes(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a standard deviation's estimate over its true value: the root of a chi-square's mean."""
    from scipy.special import roots_legendre
    from scipy.stats import chi2

    nodes, weights = roots_legendre(2 * NODES)
    low, high = math.sqrt(chi2.ppf(TAIL, freedom)), math.sqrt(chi2.isf(TAIL, freedom))
    chi = low + (high - low) * (nodes + 1) / 2
    weights = weights * chi * chi2.pdf(chi**2, freedom)
    return chi / math.sqrt(freedom), weights / weights.sum()


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: in rising order times how many are left, never falling, at most 1.

    One that is not a number stays so, and counts as a test all the same.
    """
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    for place, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


# Claims of a size --------------------------------------------------------------------------------


def log_odds(share: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)) of each share; infinite for 0 and 1."""
    share = np.asarray(share, float)
    with np.errstate(divide="ignore"):
        return np.log(share) - np.log1p(-share)


def error_reduction(better: float, worse: float) -> float:
    """By which share of its errors ``worse`` falls to ``better`` (accuracies from 0 to 1)."""
    return 1 - (1 - better) / (1 - worse) if worse < 1 else math.nan


# Images ------------------------------------------------------------------------------------------


def draw_images(
    correct: np.ndarray, labels: np.ndarray, bits: np.random.PCG64, draws: int = DRAWS
) -> np.ndarray:
    """Accuracies on images drawn again with replacement within each class, the same for all.

    Args:
        correct: whether a network is right on an image, [networks, images].
        labels: the images' classes, [images].
        bits: where chance comes from. Its stream is the same in every version of NumPy, and sums
            of whole numbers are on every machine.
        draws: how often.

    Returns:
        Shares, [draws, networks].
    """
    right = np.zeros((draws, len(correct)))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        chosen = _below(len(mine), (draws, len(mine)), bits)
        chosen += len(mine) * np.arange(draws)[:, None]
        times = np.bincount(chosen.ravel(), minlength=draws * len(mine)).reshape(draws, -1)
        right += times.astype(float) @ correct[:, mine].T.astype(float)
    return right / len(labels)


def draw_seeds(accuracies: np.ndarray, bits: np.random.PCG64) -> np.ndarray:
    """The seeds of each draw drawn again with replacement, the same for all networks.

    Args:
        accuracies: [draws, seeds, networks].
    """
    draws, seeds, _ = accuracies.shape
    chosen = _below(seeds, (draws, seeds), bits)
    return np.take_along_axis(accuracies, chosen[:, :, None], axis=1)


def _below(limit: int, shape: tuple[int, ...], bits: np.random.PCG64) -> np.ndarray:
    """Whole numbers from 0 to below ``limit``: 32 random bits times it, without the fraction."""
    raw = bits.random_raw(math.prod(shape)).reshape(shape) >> np.uint64(32)
    return ((raw * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def middle(drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The interval between the outer quantiles of what was drawn."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """How many images the first alone gets right, and how many the second alone."""
    return int((first & ~second).sum()), int((second & ~first).sum())
