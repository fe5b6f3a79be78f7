"""What was wrong with the first study, in numbers computed from its records.

``book/first_study.md`` shows them. ``values`` is network -> seed -> accuracy in points, as in
``statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from attn_blocks.errors import SettingError
from attn_book.analysis import statistics
from attn_book.analysis.statistics import Difference, Residual, Values
from attn_book.language import N_
from attn_book.records.first_study import OldRun
from attn_book.study.claims import BETTER, CLAIMS, SIZE, Claim
from attn_book.study.experiment import Recipe
from attn_book.study.pages import CLASSICS, NINE, RESNET, SENETS

SUPPORTED, CONTRADICTED, UNDECIDED = N_("supported"), N_("contradicted"), N_("undecided")
# In how many of ResNet-50's 53 convolutions a network of the same seed began with the same weights.
# Today's code starts otherwise and cannot count them: measured with that of commit ``STARTS_AT``.
CONVOLUTIONS, STARTS_AT = 53, "a6efa90"
EQUAL_STARTS: Mapping[str, int] = {
    "SE-ResNet-50": 1,
    "GE-ResNet-50": 1,
    "SRM-ResNet-50": 53,
    "SGE-ResNet-50": 53,
    "SA-ResNet-50": 53,
    "NL-ResNet-50": 18,
    "GC-ResNet-50": 18,
    "BAT-ResNet-50": 18,
}


def by_network(runs: Sequence[OldRun]) -> dict[str, dict[str, list[OldRun]]]:
    """Task -> network -> its runs by seed; tasks and networks in the order of the pages."""
    found: dict[str, dict[str, list[OldRun]]] = {}
    for comparison in (NINE, CLASSICS, SENETS):
        for entry in comparison.entries:
            wanted = comparison.task, entry.model, dict(entry.options)
            of = [run for run in runs if (run.dataset, run.model, run.options) == wanted]
            if of:
                of_task = found.setdefault(comparison.task, {})
                of_task[entry.title] = sorted(of, key=lambda run: run.seed)
    return found


def accuracies(networks: Mapping[str, Sequence[OldRun]]) -> dict[str, dict[int, float]]:
    """The ``values`` of a task: accuracies on the validation images after the final epoch."""
    return {
        title: {run.seed: 100 * run.accuracy for run in runs} for title, runs in networks.items()
    }


# Gains under decay -------------------------------------------------------------------------------


def recipe_of(run: OldRun) -> Recipe:
    """A run's recipe in today's form."""
    settings = {name: value for name, value in run.recipe.items() if name != "decay_norms"}
    return Recipe(**settings, decay="all")


def steps_of(run: OldRun) -> int:
    """Steps of an epoch: whole batches only."""
    return run.data["train_images"] // run.recipe["batch_size"]


def decay_alone(recipe: Recipe, steps: int) -> np.ndarray:
    """What becomes of a weight of 1 that is decayed and gets no gradient, with its momentum.

    Args:
        steps: of an epoch.

    Returns:
        Its value before the first epoch and after each, [epochs + 1].

    Raises:
        SettingError: Nesterov's momentum, which no run of the first study had.
    """
    if recipe.nesterov:
        raise SettingError("decay_alone follows plain momentum, not Nesterov's: set nesterov=False")
    weight, velocity, course = 1.0, 0.0, [1.0]
    for epoch in range(recipe.epochs):
        for step in range(steps):
            velocity = recipe.momentum * velocity + recipe.weight_decay * weight
            weight -= recipe.rate(epoch, step, steps) * velocity
        course.append(weight)
    return np.array(course)


def decay_limit(recipe: Recipe, steps: int) -> float:
    """The end of ``decay_alone`` if steps are small: each rate counts 1 / (1 - momentum) times."""
    rates = sum(recipe.rate(e, s, steps) for e in range(recipe.epochs) for s in range(steps))
    return math.exp(-recipe.weight_decay * rates / (1 - recipe.momentum))


# The verdicts, as they were given ----------------------------------------------------------------


@dataclass(frozen=True)
class OldVerdict:
    """A verdict of the first study.

    Attributes:
        claim: today's form of it.
        matches: the mean difference with its spread, once for each way to match the seeds of the
            two networks; the first matches equal seeds, as the study did.
        words: SUPPORTED, CONTRADICTED or UNDECIDED by each of them.
    """

    claim: Claim
    matches: tuple[Difference, ...]
    words: tuple[str, ...]

    @property
    def word(self) -> str:
        """What the study said."""
        return self.words[0]

    @property
    def stands(self) -> int:
        """In how many of the matches the verdict is the same."""
        return self.words.count(self.word)

    @property
    def p(self) -> float:
        """Of the paired t test against no difference, two-sided and for this claim alone."""
        return statistics.student_p(self.matches[0].t(), self.matches[0].residual.freedom)


def interval(found: Difference) -> tuple[float, float]:
    """A single comparison's 95% interval, by Student's t."""
    return found.interval(statistics.student_critical(found.residual.freedom))


def old_word(claim: Claim, found: Difference) -> str:
    """The first study's rule for a sign and for a size, from the 95% interval of the difference."""
    low, high = interval(found)
    if claim.kind == SIZE:
        assert claim.reported is not None, "a size is one that is reported"
        if not low <= claim.reported <= high:
            return CONTRADICTED
        return SUPPORTED if low > 0 else UNDECIDED
    if low > 0:
        return SUPPORTED
    return CONTRADICTED if high < 0 else UNDECIDED


def matches(values: Values, better: str, worse: str) -> tuple[Difference, ...]:
    """The paired difference for each way to match the runs of two networks, equal seeds first.

    Paired means that nothing but these two networks is in the table: three seeds leave 2 degrees
    of freedom.
    """
    ours, theirs = values[better], values[worse]
    found = []
    for order in permutations(sorted(theirs)):
        matched = dict(zip(sorted(ours), (theirs[seed] for seed in order), strict=True))
        one = statistics.difference({better: ours, worse: matched}, better, worse)
        assert one is not None, "the networks share seeds"
        found.append(one)
    return tuple(found)


def without_errors(values: Values, claim: Claim) -> str:
    """The verdict that a network would have been given on a claim had it made no error at all."""
    assert claim.worse is not None, "a gain is one over another network"
    perfect = dict.fromkeys(values[claim.worse], 100.0)
    return old_word(claim, matches({**values, claim.better: perfect}, claim.better, claim.worse)[0])


def old_verdicts(values: Mapping[str, Values], kind: str = BETTER) -> list[OldVerdict]:
    """Those on claims of a sign, or with ``SIZE`` on reported sizes, given the values by task.

    The claims are today's between networks that the first study trained.
    """
    found = []
    for claim in CLAIMS:
        trained, worse = values.get(claim.task, {}), claim.worse
        if claim.kind == kind and worse is not None and {claim.better, worse} <= trained.keys():
            ways = matches(trained, claim.better, worse)
            words = tuple(old_word(claim, one) for one in ways)
            found.append(OldVerdict(claim, ways, words))
    return found


# What the same runs say together -----------------------------------------------------------------


@dataclass(frozen=True)
class SeedEffect:
    """Analysis of variance: F of the seed beside the networks, degrees of freedom, and its p."""

    f: float
    freedom: tuple[int, int]
    p: float


def seed_effect(values: Values) -> SeedEffect:
    """Whether runs of one seed are better than those of another, in a table without gaps.

    Raises:
        SettingError: a network lacks a seed, or there are fewer than two of either.
    """
    from scipy.stats import f as law

    seeds = {tuple(sorted(of)) for of in values.values()}
    if len(seeds) != 1 or min(len(values), *map(len, seeds)) < 2:
        raise SettingError("the seed's effect takes two networks or more with the same seeds")
    table = np.array([[of[seed] for seed in sorted(of)] for of in values.values()])
    left = statistics.residual(values)
    freedom = (table.shape[1] - 1, left.freedom)
    between = len(table) * table.mean(axis=0).var(ddof=1)
    found = float(between / left.deviation**2)
    return SeedEffect(found, freedom, float(law.sf(found, *freedom)))


def within_networks(values: Values) -> Residual:
    """The spread of a network's runs, pooled over the networks, if seeds have nothing in common."""
    runs = [np.array(list(of.values())) for of in values.values()]
    freedom = sum(len(of) - 1 for of in runs)
    squares = sum(float(((of - of.mean()) ** 2).sum()) for of in runs)
    return Residual(math.sqrt(squares / freedom), freedom)


def simultaneous(values: Values, spread: Residual) -> dict[str, Difference]:
    """Each network less ResNet-50, with a spread that is estimated from all of them."""
    found = {}
    for title in values:
        one = statistics.difference(values, title, RESNET.title)
        if title != RESNET.title and one is not None:
            found[title] = Difference(one.value, one.folds, spread)
    return found


def dunnett(found: Mapping[str, Difference]) -> dict[str, tuple[float, float]]:
    """Dunnett's simultaneous 95% intervals of ``simultaneous``."""
    return {
        title: one.interval(statistics.dunnett_critical(len(found), one.residual.freedom))
        for title, one in found.items()
    }


def room(values: Values) -> float:
    """How many points ResNet-50 leaves to gain: its mean error."""
    return 100 - float(np.mean(list(values[RESNET.title].values())))


# Training images ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """Mean accuracies of a network's runs in their last epoch, in points.

    ``training`` was taken while the weights moved and on augmented images; ``validation`` is of the
    finished network on whole ones.
    """

    training: float
    validation: float

    @property
    def gap(self) -> float:
        """Training less validation, to a tenth of a point; never -0.0."""
        return round(self.training - self.validation, 1) + 0.0


def learned(networks: Mapping[str, Sequence[OldRun]]) -> dict[str, Learned]:
    """What the networks of a task reached on training and on validation images."""
    found = {}
    for title, runs in networks.items():
        last = [run.history[-1] for run in runs]
        found[title] = Learned(
            *(
                100 * float(np.mean([row[name] for row in last]))
                for name in ("train_acc", "val_acc")
            )
        )
    return found
