"""What the published results say: which claims are decided, and how far a profile is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attn_book.analysis import verdicts
from attn_book.analysis.judgement import CONSTANT, NOT_TESTED, OPEN, OUTCOMES, Verdict
from attn_book.analysis.words import clauses, listed, sentences
from attn_book.language import N_, _, say
from attn_book.records.recorded import ended_of, ended_runs, wanted_of
from attn_book.study.claims import BETTER, CLAIMS, REACH, Claim
from attn_book.study.design import EXTRA, ORDER
from attn_book.study.pages import PAGES, TASK_TITLES
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

NOT_DECIDED = N_("not decided yet")
DECIDED_BY = N_("{protocol}, written before the first run, says how claims are decided.")


def folder_of(pages: dict[str, Plan]) -> Path:
    """The published folder of a profile's pages."""
    return next(iter(pages.values())).results_dir


def foremost(plans: dict[str, dict[str, Plan]]) -> dict[str, Plan]:
    """The pages of the first profile that decides a claim; of the first of all where none does."""
    for pages in plans.values():
        if any(found.is_decided for found in judged_claims(pages)):
            return pages
    return next(iter(plans.values()))


def widest(pages: dict[str, Plan]) -> dict[str, Plan]:
    """Task -> the page that compares the most models on it."""
    found: dict[str, tuple[int, Plan]] = {}
    for plan in pages.values():
        for comparison in plan.comparisons:
            models = len({entry.title for entry, _ in comparison.experiments})
            if models > found.get(comparison.task, (0, plan))[0]:
                found[comparison.task] = (models, plan)
    return {task: found[task][1] for task in TASK_TITLES if task in found}


def judged_claims(pages: dict[str, Plan]) -> list[Verdict]:
    """The verdicts of all pages, each claim once, in the order of ``CLAIMS``."""
    found = {v.claim: v for plan in pages.values() for v in verdicts.verdicts(plan)}
    return [found[claim] for claim in CLAIMS if claim in found]


def count(pages: dict[str, Plan]) -> str:
    """How many claims have which outcome, in a sentence, and what an outcome is about."""
    words = {
        v.claim: CONSTANT if v.constant else v.word for v in judged_claims(pages) if v.is_decided
    }
    if not words:
        return say("None of the {claims} claims is decided here.", claims=len(CLAIMS))
    # Only an accuracy to reach is not tested by the study; the others wait for runs.
    found = [words.get(c, NOT_TESTED if c.kind == REACH else NOT_DECIDED) for c in CLAIMS]
    numbers = [
        say("**{number} {outcome}**", number=found.count(word), outcome=_(word))
        for word in (*OUTCOMES, CONSTANT, NOT_DECIDED, NOT_TESTED)
        if word in found
    ]
    text = say(
        "Outcomes of the {claims} claims: {numbers}.", claims=len(CLAIMS), numbers=listed(numbers)
    )
    return sentences([text, _(verdicts.ABOUT)])


def decided_by(protocol: str) -> str:
    """Where the rules stand, in a sentence that opens with a link to them."""
    return say(DECIDED_BY, protocol=protocol)


def decided(pages: dict[str, Plan]) -> str:
    """The claims that were decided, by name: one list item for each outcome but ``OPEN``.

    Beside them stand those that the study does not test.
    """
    judged = judged_claims(pages)
    if not any(verdict.is_decided for verdict in judged):
        return ""
    lines = []
    for word in OUTCOMES:
        found = [v for v in judged if v.word == word != OPEN and not v.constant]
        for outcome in sorted({verdict.outcome for verdict in found}):
            names = [_in_words(v.claim) for v in found if v.outcome == outcome]
            lines.append(_item(verdicts.outcome_in_words(outcome), names))
    constant = [v.claim.text for v in judged if v.constant]
    if constant:
        lines.append(_item(_(CONSTANT), constant))
    lines.append(_item(_(NOT_TESTED), [claim.text for claim in CLAIMS if claim.kind == REACH]))
    return "\n".join(lines)


def _in_words(claim: Claim) -> str:
    """A claim's networks, where "worse: A > B" would read as its opposite; else the claim."""
    if claim.kind != BETTER:
        return claim.text
    return say(
        "{better} beside {worse} on {task}",
        better=claim.better,
        worse=claim.worse,
        task=TASK_TITLES[claim.task],
    )


def _item(outcome: str, claims: Iterable[str]) -> str:
    return say("* {outcome}: {claims}.", outcome=outcome.capitalize(), claims=clauses(claims))


def under_way(pages: dict[str, Plan]) -> str | None:
    """How far a profile is whose runs are not all published, in a sentence; None if they are.

    The study's runs are those of ``design.ORDER``, the pilot's among them; another profile's are
    those of the pages.
    """
    folder = folder_of(pages)
    settings = PROFILES[folder.name]
    trained = [EXTRA[name] for name in dict(ORDER)] if settings.folds else PAGES.values()
    comparisons = [comparison for part in trained for comparison in part]
    wanted = wanted_of(comparisons, settings.seeds)
    done = len(ended_of(comparisons, ended_runs(folder).values(), folder.name) & {*wanted})
    if done == len(wanted):
        return None
    return say(
        "**The profile {profile} is under way:** {done} of {wanted} runs are done.",
        profile=folder.name,
        done=done,
        wanted=len(wanted),
    )
