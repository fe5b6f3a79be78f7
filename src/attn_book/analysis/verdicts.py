"""What our runs say of each claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attn_book.analysis.statistics import Effect, effect
from attn_book.analysis.tables import interval, signed
from attn_book.records.planned import failures, runs_of
from attn_book.records.run import Run
from attn_book.study.claims import CLAIMS, Claim
from attn_book.study.plan import Plan

if TYPE_CHECKING:
    from IPython.display import Markdown

VERDICT_COLUMNS = (
    "claim",
    "reported",
    "paper_delta",
    "ours_mean",
    "ours_ci_low",
    "ours_ci_high",
    "seeds",
    "verdict",
)
FEWEST_SEEDS = 3


def judge(claim: Claim, found: Effect | None, dataset: str, profile: str = "study") -> str:
    """The verdict on a claim, from the effect that was found for it on ``dataset``.

    * fewer than three seeds, other images than the claim's (the embedded ones stand in for a data
      set that is not there), or settings that cannot test it: ``not tested``;
    * a sign: ``supported`` if the whole interval is above 0, ``contradicted`` if below;
    * a size: ``supported`` if the interval holds the reported number and not 0,
      ``contradicted`` if the reported number is outside;
    * an accuracy to reach: the interval is compared with that accuracy;
    * else ``undecided``.
    """
    if found is None or found.seeds < FEWEST_SEEDS or dataset != claim.task:
        return "not tested"
    if claim.worse is None and profile != "paper":
        return "not tested"
    if claim.by_size:
        assert claim.reported is not None, "a claim on a size is on one that is reported"
        if not found.low <= claim.reported <= found.high:
            return "contradicted"
        return "supported" if found.low > 0 else "undecided"
    threshold = 0.0 if claim.target is None else claim.target
    if found.low > threshold:
        return "supported"
    return "contradicted" if found.high < threshold else "undecided"


def claim_effect(claim: Claim, runs: Mapping[str, Sequence[Run]]) -> Effect | None:
    """The effect for a claim, from the seeds that both models finished; None if there is none."""
    accuracy = {
        title: {
            run.experiment.seed: 100 * run.metrics["final_val_acc"] for run in runs.get(title, ())
        }
        for title in (claim.better, claim.worse)
        if title is not None
    }
    better = accuracy[claim.better]
    if claim.worse is None:
        return effect(list(better.values())) if better else None
    worse = accuracy[claim.worse]
    differences = [better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())]
    return effect(differences) if differences else None


@dataclass(frozen=True)
class Verdict:
    """A claim, the effect that our runs show for it, and what that says of the claim."""

    claim: Claim
    effect: Effect | None
    verdict: str
    images: str

    def row(self) -> dict[str, Any]:
        """As a row of ``VERDICT_COLUMNS``; what is not known is empty."""
        found = self.effect
        return {
            "claim": self.claim.text,
            "reported": self.claim.reported,
            "paper_delta": self.claim.paper,
            "ours_mean": found and _rounded(found.mean),
            "ours_ci_low": found and _rounded(found.low),
            "ours_ci_high": found and _rounded(found.high),
            "seeds": found.seeds if found else 0,
            "verdict": self.verdict,
        }

    def sentence(self) -> str:
        """The verdict and the numbers behind it, in words."""
        found, claim = self.effect, self.claim
        if found is None:
            return "No run of ours speaks to it."
        unit = " points" if claim.worse else "%"
        form = "+.2f" if claim.worse else ".2f"
        text = f"Ours: {found.mean:{form}}{unit} over {found.seeds} seed{'s' * (found.seeds > 1)}"
        if found.seeds > 1:
            text += f", 95% interval {interval(found.low, found.high, form)}"
        if claim.reported is not None:
            text += f"; the write-up reports {claim.reported:{form}}{unit}"
        if claim.paper is not None:
            text += f"; the paper {claim.paper:{form}}{unit} on ImageNet"
        text = f"{text}. Our images: {self.images}."
        if found.seeds < FEWEST_SEEDS:
            return f"{text} A verdict needs at least {FEWEST_SEEDS} seeds."
        return text


def verdicts(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> list[Verdict]:
    """The claims that a page's comparisons can speak to, judged."""
    runs = {c.task: runs_of(plan, c.task) for c in plan.comparisons}
    judged = []
    for claim in claims:
        titles = {claim.better, claim.worse} - {None}
        if claim.task in runs and titles <= runs[claim.task].keys():
            images = plan.comparison(claim.task).images
            found = claim_effect(claim, runs[claim.task])
            verdict = judge(claim, found, images.name, plan.profile)
            judged.append(Verdict(claim, found, verdict, images.label))
    return judged


def verdict_table(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> pd.DataFrame:
    """Reported, the paper's and our difference side by side, with the verdict (points)."""
    rows = []
    for judged in verdicts(plan, claims):
        row, found = judged.row(), judged.effect
        # An accuracy to reach is no difference: it has no sign, and no sign test.
        form = "+.2f" if judged.claim.worse else ".2f"
        sign_p = _rounded(found.sign_p) if found and judged.claim.worse else None
        rows.append(
            {
                "Claim": row["claim"],
                "Reported": signed(row["reported"], form),
                "Paper (ImageNet)": signed(row["paper_delta"]),
                "Ours": signed(row["ours_mean"], form),
                "on": judged.images.split(" (")[0],
                "95% interval": interval(row["ours_ci_low"], row["ours_ci_high"], form),
                "Seeds": row["seeds"],
                "Sign test p": signed(sign_p, ".2f"),
                "Verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows).set_index("Claim")


def verdict_text(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> Markdown:
    """Each verdict as a sentence, with what stands against a write-up's number said plainly."""
    from IPython.display import Markdown

    lines = [
        f"* **{judged.claim.text}: {judged.verdict}.** {judged.sentence()}"
        for judged in verdicts(plan, claims)
    ]
    lines += [f"* Not counted, because the run failed: {line}" for line in failures(plan)]
    return Markdown("\n".join([*lines, "", f"({plan.provenance})"]))


def unsupported(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> Markdown:
    """The write-ups' numbers that our runs speak against or cannot confirm, one line each."""
    from IPython.display import Markdown

    judged = [v for v in verdicts(plan, claims) if v.claim.reported is not None]
    if all(v.verdict == "not tested" for v in judged):
        return Markdown(
            f"Nothing was tested here: that takes at least {FEWEST_SEEDS} seeds on the claims' own "
            f"images.\n\n({plan.provenance})"
        )
    lines = [
        f"* **{v.claim.text}** is {v.verdict}. {v.sentence()}"
        for v in judged
        if v.verdict in ("contradicted", "undecided")
    ]
    return Markdown("\n".join([*(lines or ["None."]), "", f"({plan.provenance})"]))


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)
