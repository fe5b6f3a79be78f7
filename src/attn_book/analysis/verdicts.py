"""The verdicts as tables, sentences and rows of ``verdicts.csv``; ``judgement`` makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from attn_book.analysis.evidence import on_record, other_lengths
from attn_book.analysis.judgement import (
    CANNOT,
    CONSTANT,
    HERE,
    IS_BETTER,
    UNDER,
    Interval,
    Verdict,
    judge,
)
from attn_book.analysis.statistics import error_reduction
from attn_book.analysis.tables import DASH, interval, known
from attn_book.analysis.words import phrases
from attn_book.language import N_, _, say
from attn_book.records.planned import failures, run_of
from attn_book.records.run import Run
from attn_book.study.claims import BETTER, CLAIMS, PRIMARY, SIZE
from attn_book.study.pages import RESNET, TASK_TITLES
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

if TYPE_CHECKING:
    from IPython.display import Markdown

ABOUT = N_("An outcome is about these images, under this recipe, trained again with new seeds.")
NOTHING_OF_OURS = N_("No run of ours speaks to it.")
VERDICT_COLUMNS = (
    "claim",
    "family",
    "task",
    "unit",
    "reported",
    "reported_in_points",
    "paper_points",
    "paper_source",
    "difference",
    "interval",
    "low",
    "high",
    "corrected_low",
    "corrected_high",
    "drawn_again",
    "image_noise_low",
    "image_noise_high",
    "residual",
    "degrees_of_freedom",
    "p_adjusted",
    "p_better",
    "better_alone_right",
    "worse_alone_right",
    "error_reduction",
    "reported_error_reduction",
    "outcome",
    "folds",
)


def verdicts(plan: Plan) -> list[Verdict]:
    """The verdicts on the claims that a page's comparisons can speak to.

    In the study they are those of the whole family, whatever part of it the page shows.
    """
    shown = {comparison.task: comparison.titles for comparison in plan.comparisons}
    return [
        verdict
        for verdict in judge(on_record(plan), PROFILES[plan.profile].folds)
        if {verdict.claim.better, verdict.claim.worse} - {None}
        <= set(shown.get(verdict.claim.task, ()))
    ]


def against_resnet(plan: Plan, task: str, kind: str = BETTER) -> list[Verdict]:
    """Those on the blocks against ResNet-50, of one kind of claim."""
    return [
        verdict
        for verdict in verdicts(plan)
        if (verdict.claim.task, verdict.claim.kind) == (task, kind)
        and verdict.claim.worse == RESNET.title
    ]


def runs_behind(plan: Plan) -> list[Run]:
    """The runs that decide what a page shows.

    They are its own, those of other lengths that its costs are read from, and those of the families
    that it has decided.
    """
    runs = {e.name: run_of(plan, e) for e in plan.experiments}
    for comparison in plan.comparisons:
        for of_length in other_lengths(plan, comparison.task).values():
            runs |= {run.folder.name: run for run in of_length}
    families = {verdict.claim.family for verdict in verdicts(plan) if verdict.is_decided}
    tasks = {claim.task for claim in CLAIMS if claim.family in families}
    for task, evidence in on_record(plan).items():
        for of_title in evidence.runs.values() if task in tasks else ():
            runs |= {run.folder.name: run for run in of_title.values()}
    return [runs[name] for name in sorted(runs)]


def outcome(verdict: Verdict) -> str:
    """A verdict's outcome in today's language, with what forbids to read it as one on attention."""
    shown = outcome_in_words(verdict.outcome)
    if not verdict.constant:
        return shown
    return say("{outcome} ({constant})", outcome=shown, constant=_(CONSTANT))


def outcome_in_words(outcome: str) -> str:
    """An outcome of the protocol, with what it adds, in today's language."""
    for addition in (HERE, UNDER):
        if outcome.endswith(addition):
            return outcome_in_words(outcome.removesuffix(addition)) + _(addition)
    return _(outcome)


def row(verdict: Verdict) -> dict[str, Any]:
    """As a row of ``VERDICT_COLUMNS``; what is not known is empty.

    So is what others found, beside images that it is not about.
    """
    claim, digits = verdict.claim, 3 if verdict.claim.kind == SIZE else 2
    paper = claim.paper if verdict.is_own else None
    whole = "simultaneous 95%" if claim.family == PRIMARY else "unadjusted 95%"
    drawn = "images and seeds" if verdict.draws_seeds else "images"
    better_alone, worse_alone = verdict.alone or (None, None)
    residual = verdict.residual
    return {
        "claim": claim.text,
        "family": claim.family,
        "task": claim.task,
        "unit": verdict.unit,
        "reported": _rounded(verdict.reported if verdict.is_own else None, digits),
        "reported_in_points": verdict.in_points if verdict.is_own else None,
        "paper_points": paper.points if paper else None,
        "paper_source": paper.source if paper else None,
        "difference": _rounded(verdict.value, digits),
        "interval": whole if verdict.interval else None,
        **_bounds("", verdict.interval, digits),
        **_bounds("corrected_", verdict.corrected, digits),
        "drawn_again": drawn if verdict.noise else None,
        **_bounds("image_noise_", verdict.noise, digits),
        "residual": _rounded(residual.deviation, digits) if residual else None,
        "degrees_of_freedom": residual.freedom if residual else None,
        "p_adjusted": _significant(verdict.p_adjusted),
        "p_better": _rounded(verdict.wins, 3),
        "better_alone_right": better_alone,
        "worse_alone_right": worse_alone,
        "error_reduction": _rounded(verdict.errors, 3),
        "reported_error_reduction": _rounded(
            _reported_errors(verdict) if verdict.is_own else None, 3
        ),
        "outcome": verdict.in_full,
        "folds": verdict.folds,
    }


def _bounds(prefix: str, found: Interval | None, digits: int) -> dict[str, float | None]:
    low, high = found or (None, None)
    return {f"{prefix}low": _rounded(low, digits), f"{prefix}high": _rounded(high, digits)}


def verdict_table(plan: Plan) -> pd.DataFrame:
    """What is reported and what we found, claim by claim, with the outcome.

    Until a family is complete there are only means and the number of runs.
    """
    return table_of(verdicts(plan))


def table_of(found: Sequence[Verdict]) -> pd.DataFrame:
    """See ``verdict_table``; a column of which nothing is known is left out."""
    return known(pd.DataFrame([_line(verdict) for verdict in found]).set_index(_("Claim")))


def _line(verdict: Verdict) -> dict[str, str]:
    form = "+.3f" if verdict.claim.kind == SIZE else "+.2f"
    is_primary = verdict.claim.family == PRIMARY
    paper = verdict.claim.paper if verdict.is_own else None
    return {
        _("Claim"): verdict.claim.text,
        _("Outcome"): outcome(verdict),
        _("Ours"): _measured(verdict) or DASH,
        _("Simultaneous 95%"): interval(verdict.interval if is_primary else None, form),
        _("95%, not adjusted"): interval(None if is_primary else verdict.interval, form),
        _("Allowing for shared training images"): interval(verdict.corrected, form),
        _("Reported"): _reported(verdict) or DASH,
        _("On ImageNet"): paper.text if paper else DASH,
        _("Image noise alone"): interval(None if verdict.draws_seeds else verdict.noise, form),
        _("Images and seeds"): interval(verdict.noise if verdict.draws_seeds else None, form),
        _("Right alone"): DASH if verdict.alone is None else "{} : {}".format(*verdict.alone),
        _("p, adjusted"): _p(verdict.p_adjusted),
        "P(A > B)": _probability(verdict.wins),
        _("Runs"): verdict.folds,
        _("Family"): _(verdict.claim.family),
    }


def verdict_text(plan: Plan) -> Markdown:
    """Each verdict as a sentence, with what stands against a write-up's number said plainly."""
    judged = verdicts(plan)
    lines = [
        say(
            "* **{claim}: {outcome}.** {sentence}",
            claim=found.claim.text,
            outcome=outcome(found),
            sentence=sentence(found),
        )
        for found in judged
    ]
    lines += [f"* {line}" for line in residuals(judged)]
    lines += [
        say("* Not counted, because the run failed: {line}", line=line) for line in failures(plan)
    ]
    return _markdown(lines, judged)


def residuals(found: Sequence[Verdict]) -> list[str]:
    """What network and fold leave unexplained, a sentence for each task and unit decided."""
    kinds = {
        (TASK_TITLES[verdict.claim.task], verdict.unit): verdict.residual
        for verdict in found
        if verdict.residual is not None
    }
    return [
        say(
            "Residual on {task}: {deviation:.2f} {unit}, with {freedom} degrees of freedom.",
            task=task,
            deviation=residual.deviation,
            unit=_(unit),
            freedom=residual.freedom,
        )
        for (task, unit), residual in kinds.items()
    ]


def unsupported(plan: Plan) -> Markdown:
    """The write-ups' numbers that our runs speak against or cannot confirm, one line each."""
    judged = verdicts(plan)
    reported = [found for found in judged if found.claim.reported is not None]
    if not any(found.is_decided for found in reported):
        lines = [_("There are no outcomes here: they take all runs of the study.")]
        return _markdown(lines, judged)
    lines = [
        say(
            "* **{claim}**: {outcome}. {sentence}",
            claim=found.claim.text,
            outcome=outcome(found),
            sentence=sentence(found),
        )
        for found in reported
        if found.is_decided and (found.constant or found.word != IS_BETTER)
    ]
    return _markdown(lines or [_("None.")], judged)


def _markdown(lines: Sequence[str], judged: Sequence[Verdict]) -> Markdown:
    from IPython.display import Markdown

    about = [_(ABOUT)] if any(found.is_decided for found in judged) else []
    return Markdown("\n".join([*lines, "", *about]))


def sentence(verdict: Verdict) -> str:
    """The numbers behind a verdict in words."""
    if verdict.value is None:
        return _(NOTHING_OF_OURS)
    parts = [say("Ours: {value}, {folds}", value=_measured(verdict) or DASH, folds=verdict.folds)]
    is_primary = verdict.claim.family == PRIMARY
    form = "+.3f" if verdict.claim.kind == SIZE else "+.2f"
    whole = N_("simultaneous 95% interval {}") if is_primary else N_("unadjusted 95% interval {}")
    drawn = N_("image noise alone {}")
    if verdict.draws_seeds:
        drawn = N_("images and seeds drawn again {}")
    shared = N_("allowing for training images that folds share {}")
    for template, found in (
        (whole, verdict.interval),
        (shared, verdict.corrected),
        (drawn, verdict.noise),
    ):
        if found is not None:
            parts.append(_(template).format(interval(found, form)))
    if verdict.is_decided:
        parts.append(say("adjusted p {p}", p=_p(verdict.p_adjusted)))
    if verdict.wins is not None:
        wins = _probability(verdict.wins)
        parts.append(say("a new run wins with a probability of {wins}", wins=wins))
    text = phrases(parts)
    if _reported(verdict):
        text += say("; the write-up reports {value}", value=_reported(verdict))
    paper = verdict.claim.paper
    if paper is not None and verdict.is_own:
        text += say(
            "; on ImageNet it is {points:+.2f} points ({source})",
            points=paper.points,
            source=paper.source,
        )
    return say("{text}.", text=text)


def _measured(verdict: Verdict) -> str:
    """Our number with its unit; empty if there is none."""
    if verdict.value is None or not math.isfinite(verdict.value):
        return ""
    text = _with_unit(verdict, verdict.value)
    return phrases([text, _errors(verdict.errors)]) if verdict.claim.kind == SIZE else text


def _reported(verdict: Verdict) -> str:
    """The write-up's number with its unit; empty beside images that it is not about."""
    if verdict.reported is None or not verdict.is_own:
        return ""
    text = _with_unit(verdict, verdict.reported)
    if verdict.claim.kind != SIZE:
        return text
    points = say("{points:+.1f} points", points=verdict.claim.reported)
    if verdict.in_points == CANNOT:
        points = say("{points} {cannot}", points=points, cannot=_(CANNOT))
    return phrases([text, _errors(_reported_errors(verdict)), points])


def _with_unit(verdict: Verdict, value: float) -> str:
    if verdict.unit == "%":
        return f"{value:.2f}%"
    return f"{value:+.2f} {_(verdict.unit)}"


def _errors(share: float | None) -> str:
    if share is None or math.isnan(share):
        return _("no errors to reduce")
    template = N_("{share:.0%} fewer errors") if share >= 0 else N_("{share:.0%} more errors")
    return say(template, share=abs(share))


def _reported_errors(verdict: Verdict) -> float | None:
    pair = verdict.claim.accuracies
    return error_reduction(*pair) if pair and verdict.claim.kind == SIZE else None


def _number(value: float | None, form: str) -> str:
    return DASH if value is None or math.isnan(value) else f"{value:{form}}"


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value, ".3f")


def _probability(value: float | None) -> str:
    """With two decimals, of which neither 0.00 nor 1.00 would be true."""
    if value is not None and (value < 0.005 or value >= 0.995):
        return "< 0.01" if value < 0.5 else "> 0.99"
    return _number(value, ".2f")


def _significant(value: float | None) -> float | None:
    """Three digits of a p, however small."""
    return None if value is None or math.isnan(value) else float(f"{value:.3g}")


def _rounded(value: float | None, digits: int) -> float | None:
    """For a table; never -0.0."""
    return None if value is None or not math.isfinite(value) else round(value, digits) + 0.0
