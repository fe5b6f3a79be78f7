"""The rules of ``book/protocol.md``: from what is on record to the outcome of each claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attn_book.analysis import statistics
from attn_book.analysis.evidence import Evidence
from attn_book.analysis.statistics import SHARED, Difference, Residual, dunnett_critical
from attn_book.language import N_
from attn_book.study.claims import CLAIMS, PRIMARY, REACH, SECONDARY, SIZE, Claim

MARGIN = 1.5  # points
LEVEL, INNER_LEVEL = 0.95, 0.90
# The protocol's words, as records have them; ``verdicts.outcome`` says them in today's language.
IS_BETTER, IS_WORSE, WITHIN, OPEN = N_("better"), N_("worse"), N_("within 1.5 points"), N_("open")
SMALLER, LARGER = N_("smaller than reported"), N_("larger than reported")
UNDER = N_(" by under 1.5 points")
HERE = N_(", on these images")
OUTCOMES = (IS_BETTER, IS_WORSE, WITHIN, SMALLER, LARGER, OPEN)
NOT_TESTED = N_("not tested")
CONSTANT = N_("constant: no verdict on attention")
CANNOT = N_("cannot occur here")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """A claim, what our runs measured for it, and its outcome.

    Attributes:
        is_own: whether claims on the task are about the images.
        unit: of ``value``, ``reported`` and the intervals: "points", "log-odds" for a size, "%" for
            an accuracy that is to be reached.
        folds: how many runs there are of those that are wanted, such as "3 of 5 folds".
        outcome: one of ``OUTCOMES``, with what the protocol adds to it; ``folds`` while the family
            is incomplete; ``NOT_TESTED`` outside the study.
        value: mean difference over the folds that both networks finished; None without any.
        reported: the write-up's number in that unit.
        left: how many points the baseline leaves to gain.
        errors: by which share of its errors the baseline falls to the better network.
        interval: 95%, simultaneous in the primary family, unadjusted in the secondary one. This and
            all below are None until the family is complete.
        corrected: the same with the variance factor of Nadeau and Bengio; None where folds share no
            training images because there are no folds.
        noise: 95% of what other validation images would give with the same runs, and also with
            other seeds if ``draws_seeds``: where all runs have the same images.
        alone: on how many images the one network alone is right, and on how many the other, added
            up over the runs.
        p_adjusted: Dunnett's or Holm's.
        residual: what network and fold leave unexplained, in ``unit``.
        wins: the probability that a new run of the better network beats one of the other; None for
            a SIZE, whose two networks have it from the claim that the one is better.
        constant: whether the blocks of one of the networks do the same to all images.
    """

    claim: Claim
    is_own: bool
    unit: str
    folds: str
    outcome: str
    value: float | None = None
    reported: float | None = None
    left: float | None = None
    errors: float | None = None
    interval: Interval | None = None
    corrected: Interval | None = None
    noise: Interval | None = None
    draws_seeds: bool = False
    alone: tuple[int, int] | None = None
    p_adjusted: float | None = None
    residual: Residual | None = None
    wins: float | None = None
    constant: bool = False

    @property
    def is_decided(self) -> bool:
        """Whether the family is complete, so that there is an outcome, be it ``OPEN``."""
        return self.p_adjusted is not None

    @property
    def word(self) -> str:
        """The outcome without additions: one of ``OUTCOMES``, or ``NOT_TESTED``."""
        if not self.is_decided:
            return NOT_TESTED
        return next(word for word in OUTCOMES if self.outcome.startswith(word))

    @property
    def in_full(self) -> str:
        """The outcome with what forbids to read it as a verdict on attention."""
        return f"{self.outcome} ({CONSTANT})" if self.constant else self.outcome

    @property
    def in_points(self) -> str | None:
        """Of a size: the reported number, or that it exceeds what the baseline leaves to gain."""
        reported = self.claim.reported
        if self.claim.kind != SIZE or reported is None or self.left is None:
            return None
        return CANNOT if reported > self.left else f"{reported:+.2f}"


@dataclass(frozen=True)
class _Case:
    """A claim's verdict so far, with what it is made from; ``found`` None without shared runs."""

    verdict: Verdict
    found: Difference | None
    evidence: Evidence


def judge(evidence: Mapping[str, Evidence], is_study: bool) -> list[Verdict]:
    """Every claim on the tasks and networks that there is evidence of, in the order of ``CLAIMS``.

    Args:
        evidence: task -> what is on record.
        is_study: whether the runs are the study's; there are no outcomes otherwise.
    """
    cases = {
        claim: _measured(claim, evidence[claim.task], is_study)
        for claim in CLAIMS
        if claim.task in evidence
        and {claim.better, claim.worse} - {None} <= evidence[claim.task].wanted.keys()
    }
    found = {claim: case.verdict for claim, case in cases.items()}
    for family, decide in ((PRIMARY, _primary), (SECONDARY, _secondary)):
        members = [claim for claim in cases if claim.family == family and claim.kind != REACH]
        if is_study and _is_complete(family, evidence):
            outcomes = decide([_with_noise(cases[claim]) for claim in members])
            found |= dict(zip(members, outcomes, strict=True))
    return list(found.values())


def _is_complete(family: str, evidence: Mapping[str, Evidence]) -> bool:
    """Whether all runs of the family's tasks have ended: the residual is pooled over them."""
    tasks = {claim.task for claim in CLAIMS if claim.family == family}
    return all(task in evidence and evidence[task].is_complete for task in tasks)


def _measured(claim: Claim, evidence: Evidence, is_study: bool) -> _Case:
    """What the runs give, without an outcome."""
    titles = [title for title in (claim.better, claim.worse) if title is not None]
    folds, pair = evidence.progress(*titles), claim.accuracies
    reported = claim.reported
    if claim.kind == SIZE and pair is not None:
        reported = float(np.subtract(*statistics.log_odds(np.array(pair))))
    verdict = Verdict(
        claim,
        evidence.is_own,
        unit={REACH: "%", SIZE: N_("log-odds")}.get(claim.kind, N_("points")),
        folds=folds,
        outcome=folds if is_study and claim.kind != REACH else NOT_TESTED,
        reported=reported,
    )
    seeds = evidence.shared(*titles)
    if not seeds:
        return _Case(verdict, None, evidence)
    means = [float(np.mean([evidence.accuracies[t][seed] for seed in seeds])) for t in titles]
    if claim.worse is None:
        return _Case(replace(verdict, value=means[0]), None, evidence)
    values = evidence.log_odds if claim.kind == SIZE else evidence.accuracies
    found = statistics.difference(values, claim.better, claim.worse)
    assert found is not None, "the networks share seeds"
    errors = statistics.error_reduction(means[0] / 100, means[1] / 100)
    verdict = replace(verdict, value=found.value, left=100 - means[1], errors=errors)
    return _Case(verdict, found, evidence)


def judge_one_more(claim: Claim, evidence: Evidence, residual: Residual, is_study: bool) -> Verdict:
    """A claim beside the primary family, counted in its correction as one comparison more.

    Args:
        claim: that ``better``, a network with a block of the reader's own, beats the plain one.
        evidence: with the runs of both.
        residual: what the interval is computed from; with no degrees of freedom there is none,
            and the outcome is open.
        is_study: as in ``judge``. There is no outcome either before the runs that are wanted of
            ``better``, and those of ``worse`` with the same seeds, have ended.
    """
    case, seeds = _measured(claim, evidence, is_study), evidence.wanted[claim.better]
    ended = all(evidence.has_ended(title, seeds) for title in (claim.better, claim.worse) if title)
    if not (is_study and ended):
        return case.verdict
    if case.found is not None:
        case = replace(case, found=replace(case.found, residual=residual))
    comparisons = sum(known.family == PRIMARY for known in CLAIMS) + 1
    verdict = _of_primary(_with_noise(case), comparisons)
    if residual.freedom <= 0:
        verdict = replace(verdict, interval=None, corrected=None, wins=None)
    return verdict


def _with_noise(case: _Case) -> _Case:
    """With what the images do to the difference, and whether the blocks are at work."""
    claim, evidence = case.verdict.claim, case.evidence
    assert claim.worse is not None, "an accuracy to reach is not decided"
    constant = any(evidence.is_constant(title) for title in (claim.better, claim.worse))
    verdict = replace(case.verdict, constant=constant)
    if case.found is not None:
        drawn = evidence.drawn(claim.better, claim.worse)
        drawn = statistics.log_odds(drawn) if claim.kind == SIZE else 100 * drawn
        verdict = replace(
            verdict,
            noise=statistics.middle((drawn[..., 0] - drawn[..., 1]).mean(axis=1)),
            draws_seeds=not evidence.folds,
            alone=evidence.right_alone(claim.better, claim.worse),
        )
    return replace(case, verdict=verdict)


def _decided(case: _Case, outcome: str, p: float, critical: float = math.nan) -> Verdict:
    """The verdict with its outcome and, where there is a difference, its intervals."""
    verdict, found = replace(case.verdict, outcome=outcome, p_adjusted=p), case.found
    if found is None:
        return verdict
    return replace(
        verdict,
        interval=found.interval(critical),
        corrected=found.interval(critical, SHARED) if case.evidence.folds else None,
        residual=found.residual,
        wins=None if verdict.claim.kind == SIZE else found.win_probability,
    )


def _primary(cases: Sequence[_Case]) -> list[Verdict]:
    """Dunnett's simultaneous intervals decide."""
    return [_of_primary(case, len(cases)) for case in cases]


def _of_primary(case: _Case, claims: int) -> Verdict:
    found = case.found
    if found is None:  # all runs of one of the two diverged
        return _decided(case, OPEN, math.nan)
    freedom = found.residual.freedom
    critical, inner = (dunnett_critical(claims, freedom, at) for at in (LEVEL, INNER_LEVEL))
    first, corrected = (
        primary_outcome(found.interval(critical, shared), found.interval(inner, shared))
        for shared in (0.0, SHARED)
    )
    # What UNDER adds is said of the first interval, and is no outcome of its own.
    holds = first == OPEN or first.removesuffix(UNDER) == corrected.removesuffix(UNDER)
    outcome = first if holds else first + HERE
    return _decided(case, outcome, statistics.dunnett_p(found.t(), claims, freedom), critical)


def primary_outcome(interval: Interval, inner: Interval) -> str:
    """The word for a simultaneous 95% interval and the 90% one inside it, in points."""
    low, high = interval
    if low > 0 or high < 0:
        word = IS_BETTER if low > 0 else IS_WORSE
        return word + UNDER if low > -MARGIN and high < MARGIN else word
    return WITHIN if inner[0] > -MARGIN and inner[1] < MARGIN else OPEN


def _secondary(cases: Sequence[_Case]) -> list[Verdict]:
    """Student's t tests decide, adjusted together by Holm's method."""
    adjusted = statistics.holm([_p_alone(case) for case in cases])
    return [_of_secondary(case, p) for case, p in zip(cases, adjusted, strict=True)]


def _p_alone(case: _Case) -> float:
    if case.found is None:
        return math.nan
    return statistics.student_p(case.found.t(_expected(case.verdict)), case.found.residual.freedom)


def _of_secondary(case: _Case, p: float) -> Verdict:
    if case.found is None:
        return _decided(case, OPEN, p)
    above = case.found.value > _expected(case.verdict)
    outcome = secondary_outcome(case.verdict.claim.kind, above, p)
    critical = statistics.student_critical(case.found.residual.freedom, LEVEL)
    return _decided(case, outcome, p, critical)


def secondary_outcome(kind: str, above: bool, p_adjusted: float) -> str:
    """The word for a test.

    Args:
        kind: BETTER or SIZE of ``study.claims``.
        above: whether the difference is above 0, or the size above the reported one.
        p_adjusted: Holm's.
    """
    if not p_adjusted < 1 - LEVEL:
        return OPEN
    if kind == SIZE:
        return LARGER if above else SMALLER
    return IS_BETTER if above else IS_WORSE


def _expected(verdict: Verdict) -> float:
    """What a difference is tested against."""
    if verdict.claim.kind != SIZE:
        return 0.0
    assert verdict.reported is not None, "a size is one that is reported"
    return verdict.reported
