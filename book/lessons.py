"""What the first study got wrong, for ``first_study.md``: figures, findings and tables.

All of it is made from that study's records; a finding is the text under its figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from attn_book.analysis import first_study, statistics
from attn_book.analysis.first_study import CONVOLUTIONS, EQUAL_STARTS, STARTS_AT, UNDECIDED
from attn_book.analysis.plots import first_study as plots
from attn_book.analysis.tables import interval, signed
from attn_book.analysis.words import block_of, listed
from attn_book.records.first_study import OldRun
from attn_book.study.claims import SIZE
from attn_book.study.pages import BAT, RESNET, SRM, TASK_TITLES

ANIMALS, CALTECH = "animals10", "caltech16"
GENTLE = 1e-4  # the second study's decay, to compare with


@dataclass(frozen=True)
class Lesson:
    """A part of a page: a figure and what it shows in words, the finding, the numbers.

    There is no figure where nothing is on record yet that it could show.
    """

    figure: Figure | None
    alt: str
    finding: str
    table: pd.DataFrame


class Study:
    """The runs of the first study, the trials before it, and what several lessons need of them."""

    def __init__(self, runs: Sequence[OldRun], trials: Sequence[OldRun]) -> None:
        self.runs, self.trials = runs, trials
        self.networks = first_study.by_network(runs)
        self.values = {t: first_study.accuracies(of) for t, of in self.networks.items()}
        self.animals = self.values[ANIMALS]
        self.means = {title: float(np.mean([*of.values()])) for title, of in self.animals.items()}
        self.signs = first_study.old_verdicts(self.values)
        self.sizes = first_study.old_verdicts(self.values, SIZE)
        self.decided = [verdict for verdict in self.signs if verdict.word != UNDECIDED]
        self.over_resnet = {
            verdict.claim.better: verdict
            for verdict in self.signs
            if (verdict.claim.task, verdict.claim.worse) == (ANIMALS, RESNET.title)
        }


def lessons(study: Study) -> dict[str, Lesson]:
    """Every lesson, in the order of the page."""
    made = (gains, seeds, matches, families, sizes, training)
    return {make.__name__: make(study) for make in made}


def origin(study: Study) -> str:
    """Data sets, sizes, seeds, device and dates of the runs, in one line."""
    data = []
    for networks in study.networks.values():
        one = next(iter(networks.values()))[0]
        size, width = one.recipe["image_size"], one.recipe["width"]
        data.append(f"{one.data['label']}, {size} px, width {width:g}")
    seeds = ", ".join(map(str, sorted({run.seed for run in study.runs})))
    devices = ", ".join(sorted({run.device for run in study.runs}))
    days = sorted(run.metrics["finished"][:10] for run in study.runs)
    return (
        f"first study · {'; '.join(data)} · {len(study.runs)} runs, seeds {seeds} · {devices} · "
        f"trained {days[0]} to {days[-1]}"
    )


def gains(study: Study) -> Lesson:
    """Gates asleep under decay."""
    rows = {}
    for task, networks in study.networks.items():
        one = next(iter(networks.values()))[0]
        recipe, steps = first_study.recipe_of(one), first_study.steps_of(one)
        ends = [
            first_study.decay_alone(replace(recipe, weight_decay=decay), steps)
            for decay in (0.0, GENTLE, recipe.weight_decay)
        ]
        rows[TASK_TITLES[task]] = {
            "Highest rate": f"{recipe.learning_rate:g}",
            "Steps": f"{recipe.epochs} × {steps}",
            "Decay": power(recipe.weight_decay),
            "Decay alone leaves": f"{ends[2][-1]:.2f}",
            "In the limit of small steps": f"{first_study.decay_limit(recipe, steps):.2f}",
            f"With a decay of {power(GENTLE)}": f"{ends[1][-1]:.2f}",
            "Where gains ended": "not on record",
        }
        if task == ANIMALS:
            labels = "not decayed", *(f"decay {power(d)}" for d in (GENTLE, recipe.weight_decay))
            courses, shown = dict(zip(labels, ends, strict=True)), recipe
    left, milder = courses[labels[2]][-1], courses[labels[1]][-1]
    best, second = sorted(study.means, key=lambda title: -study.means[title])[:2]
    assert best == SRM.title, "the finding says so"
    return Lesson(
        plots.gains_under_decay(courses, study.animals),
        f"Left, a gain of 1 that gets no gradient, over {shown.epochs} epochs: it ends at "
        f"{left:.2f} with a decay of {power(shown.weight_decay)}, at {milder:.2f} with "
        f"{power(GENTLE)}, and stays 1 without. Right, the runs of nine networks: {best}, whose "
        f"gains were not decayed, has the best mean, {study.means[best]:.1f}%, and {BAT.title} the "
        f"worst, {study.means[BAT.title]:.1f}%.",
        f"With a decay of {power(shown.weight_decay)} at a rate of {shown.learning_rate:g}, a gain "
        f"that starts at 1 and gets no gradient shrinks to {left:.2f} in {shown.epochs} epochs; "
        f"SRM's blocks alone were exempt, as in their authors' code, and {best} came out best "
        f"({study.means[best]:.1f}%; {second}, the next, {study.means[second]:.1f}%).",
        pd.DataFrame(rows).T.rename_axis("Task"),
    )


def seeds(study: Study) -> Lesson:
    """A shared seed that shares nothing."""
    effects = {task: first_study.seed_effect(values) for task, values in study.values.items()}
    rows = {
        TASK_TITLES[task]: {
            "Networks × seeds": f"{len(study.values[task])} × {one.freedom[0] + 1}",
            "F of the seed": f"{one.f:.2f}",
            "Degrees of freedom": "{} and {}".format(*one.freedom),
            "p": f"{one.p:.2f}",
            "Residual deviation": f"{statistics.residual(study.values[task]).deviation:.2f} points",
        }
        for task, one in effects.items()
    }
    alike = [RESNET.title, *(t for t, equal in EQUAL_STARTS.items() if equal == CONVOLUTIONS)]
    among = first_study.seed_effect({title: study.animals[title] for title in alike})
    one, table = effects[ANIMALS], pd.DataFrame(study.animals).T
    level, away = table.mean(), table.sub(table.mean(axis=1), axis=0).to_numpy()
    shared = "; ".join(
        f"{listed(map(block_of, titles))} {equal}"
        for equal, titles in sorted(by_value(EQUAL_STARTS).items())
    )
    return Lesson(
        plots.seeds_beside_networks(study.animals, EQUAL_STARTS),
        f"How far each run of {len(table)} networks and {len(level)} seeds lies from its network's "
        f"mean, from {away.min():+.2f} to {away.max():+.2f} points and without a pattern: the "
        f"means of the seeds are {np.ptp(level):.2f} points apart. Beside the blocks, in how many "
        f"of {CONVOLUTIONS} convolutions each began as ResNet-50: {shared}.",
        f"Of ResNet-50's {CONVOLUTIONS} convolutions, networks of the same seed began with so many "
        f"alike: {shared} (counted at commit {STARTS_AT}); and over the {table.size} "
        f"runs the seed explains nothing: F = {one.f:.2f} with {one.freedom[0]} and "
        f"{one.freedom[1]} degrees of freedom, p = {one.p:.2f}, and F = {among.f:.2f} among the "
        f"{len(alike)} networks that began alike.",
        pd.DataFrame(rows).T.rename_axis("Task"),
    )


def matches(study: Study) -> Lesson:
    """Verdicts that a relabelling turns over."""
    adjusted = statistics.holm([verdict.p for verdict in study.signs])
    rows = {
        verdict.claim.text: {
            "Verdict": verdict.word,
            "The same in": f"{verdict.stands} of {len(verdict.matches)}",
            "Difference": signed(verdict.matches[0].value),
            "95% interval": interval(*first_study.interval(verdict.matches[0])),
            "p": f"{verdict.p:.3f}",
            "p by Holm": f"{p:.2f}",
        }
        for verdict, p in zip(study.signs, adjusted, strict=True)
    }
    ways = len(study.signs[0].matches)
    firm = [verdict for verdict in study.decided if verdict.stands == ways]
    srm, bat = (study.over_resnet[entry.title] for entry in (SRM, BAT))
    return Lesson(
        plots.matched_seeds(study.decided),
        f"The 95% intervals of {len(study.decided)} claims for each of the {ways} ways to match "
        "their runs. In so many of them the verdict is the same: "
        + "; ".join(f"{v.claim.text}, {v.word}, {v.stands}" for v in study.decided)
        + ".",
        f"Which run is set against which is then arbitrary, and of the {ways} ways to match three "
        f"runs with three, “{srm.claim.text}: {srm.word}” stands in {srm.stands}; of the "
        f"{len(study.decided)} signs that were decided {len(firm)} stands in all "
        f"({listed(v.claim.text for v in firm)}), while “{bat.claim.text}: {bat.word}” becomes "
        f"{first_study.CONTRADICTED} in {bat.words.count(first_study.CONTRADICTED)}.",
        pd.DataFrame(rows).T.rename_axis("Claim"),
    )


def families(study: Study) -> Lesson:
    """Judged one by one."""
    additive = statistics.residual(study.animals)
    one_way = first_study.within_networks(study.animals)
    found = first_study.simultaneous(study.animals, additive)
    together = first_study.dunnett(found)
    without_seeds = first_study.dunnett(first_study.simultaneous(study.animals, one_way))
    rows = {
        title: {
            "Verdict": study.over_resnet[title].word,
            "Difference": signed(found[title].value),
            "Its three pairs alone": interval(*first_study.interval(own.matches[0])),
            f"Simultaneous, {additive.freedom} degrees": interval(*together[title]),
            f"Without seeds, {one_way.freedom} degrees": interval(*without_seeds[title]),
        }
        for title, own in study.over_resnet.items()
    }
    adjusted = statistics.holm([verdict.p for verdict in study.signs])
    off = [title for title, (low, high) in together.items() if low > 0 or high < 0]
    words = listed(
        f"{title} {'better' if found[title].value > 0 else 'worse'} "
        f"({signed(found[title].value)} {interval(*together[title])}; the study said "
        f"“{study.over_resnet[title].word}”)"
        for title in off
    )
    pairs = {title: verdict.matches[0] for title, verdict in study.over_resnet.items()}
    return Lesson(
        plots.one_by_one_and_together(pairs, together),
        f"Points above ResNet-50 with two intervals for each of the {len(together)} blocks. "
        "Simultaneous ones from all runs, "
        + "; ".join(
            f"{title} {signed(found[title].value)} {interval(*together[title])}"
            for title in together
        )
        + f". Only those of {listed(off)} do not hold zero.",
        f"Each of {len(study.signs)} claims of a sign had its own test at 5%, and adjusted for "
        f"their number by Holm's method {sum(p < 0.05 for p in adjusted) or 'none'} is left "
        f"(smallest p {min(adjusted):.2f}); Dunnett's intervals, with the spread of all "
        f"{sum(map(len, study.animals.values()))} runs for {len(together)} blocks at once, find "
        f"{words}.",
        pd.DataFrame(rows).T.rename_axis("Block"),
    )


def sizes(study: Study) -> Lesson:
    """Contradictions that could not fail."""
    reported = {verdict.claim.better: verdict.claim.reported or 0.0 for verdict in study.sizes}
    perfect = [first_study.without_errors(study.animals, v.claim) for v in study.sizes]
    assert set(perfect) == {verdict.word for verdict in study.sizes}, "the finding says so"
    rows = {
        verdict.claim.better: {
            "Reported": signed(verdict.claim.reported, "+.1f"),
            "ResNet-50 leaves": f"{first_study.room(study.animals):.1f}",
            "Measured": signed(verdict.matches[0].value),
            "95% interval": interval(*first_study.interval(verdict.matches[0])),
            "Verdict": verdict.word,
            "Without any error": word,
        }
        for verdict, word in zip(study.sizes, perfect, strict=True)
    }
    recipe = study.networks[ANIMALS][RESNET.title][0].recipe
    (trial,) = [run for run in study.trials if (run.dataset, run.recipe) == (ANIMALS, recipe)]
    contradicted = [v for v in study.signs + study.sizes if v.word == first_study.CONTRADICTED]
    baseline, left = study.means[RESNET.title], first_study.room(study.animals)
    span = f"{min(reported.values()):.1f} to {max(reported.values()):.1f}"
    return Lesson(
        plots.gains_beyond_all(baseline, reported),
        f"The reported gains on top of ResNet-50's {baseline:.1f}%, all beyond 100%: "
        + ", ".join(f"{title} {baseline + gain:.1f}" for title, gain in reported.items())
        + ".",
        f"Of the {len(contradicted)} claims that were called contradicted, {len(study.sizes)} are "
        f"gains of {span} points over a ResNet-50 that leaves {left:.1f}: a network without any "
        f"error would have been contradicted as well, and the trial that settled the recipe had "
        f"shown so before the first run, with {100 * trial.accuracy:.1f}%.",
        pd.DataFrame(rows).T.rename_axis("Block"),
    )


def training(study: Study) -> Lesson:
    """Networks that had not learned what they could."""
    found = {task: first_study.learned(networks) for task, networks in study.networks.items()}
    rows = {
        (TASK_TITLES[task], title): {
            "Network": title,
            "Training": f"{one.training:.1f}",
            "Validation": f"{one.validation:.1f}",
            "Difference": f"{one.gap:+.1f}",
        }
        for task, networks in found.items()
        for title, one in networks.items()
    }
    plain, other = (found[task][RESNET.title] for task in (ANIMALS, CALTECH))
    epochs = study.networks[ANIMALS][RESNET.title][0].recipe["epochs"]
    gaps = sorted((one.gap, title) for title, one in found[ANIMALS].items())
    (low, lowest), (high, highest) = gaps[0], gaps[-1]
    ranges = {
        TASK_TITLES[task]: (
            min(one.gap for one in of.values()),
            max(one.gap for one in of.values()),
        )
        for task, of in found.items()
        if task != ANIMALS
    }
    elsewhere = "; ".join(f"on {task} by {a:+.1f} to {b:+.1f}" for task, (a, b) in ranges.items())
    table = pd.DataFrame(rows.values(), [task for task, _ in rows])
    return Lesson(
        plots.training_and_validation(found),
        f"Accuracy on training and on validation images in the last epoch, and how much higher the "
        f"first is: on {TASK_TITLES[ANIMALS]} by {low:+.1f} ({lowest}) to {high:+.1f} points "
        f"({highest}); {elsewhere}.",
        f"In its last epoch ResNet-50 was right on {plain.training:.1f}% of the training images of "
        f"{TASK_TITLES[ANIMALS]} and on {plain.validation:.1f}% of the validation images, and no "
        f"network was more than {high:.1f} points better on what it was trained on: what was "
        f"compared there is how fast networks learn in {epochs} epochs (unlike "
        f"{TASK_TITLES[CALTECH]}, where ResNet-50 has {other.training:.1f}% and "
        f"{other.validation:.1f}%).",
        table.rename_axis("Task"),
    )


def power(value: float) -> str:
    """A small number as ``5e-4``."""
    return np.format_float_scientific(value, trim="-", exp_digits=1)


def by_value(counts: Mapping[str, int]) -> dict[int, list[str]]:
    """Number -> the names that have it."""
    found: dict[int, list[str]] = {}
    for name, number in counts.items():
        found.setdefault(number, []).append(name)
    return found
