"""What the first study got wrong, for ``first_study.md``: figures, findings and tables.

All of it is made from that study's records; a finding is the text under its figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from attn_book.analysis import first_study, statistics
from attn_book.analysis.first_study import CONVOLUTIONS, EQUAL_STARTS, STARTS_AT, UNDECIDED
from attn_book.analysis.plots import first_study as plots
from attn_book.analysis.tables import interval, signed
from attn_book.analysis.words import block_of, clauses, joined, listed, phrases, span
from attn_book.language import _, say
from attn_book.records import first_study as kept
from attn_book.records.first_study import OldRun
from attn_book.records.published import PUBLISHED
from attn_book.study.claims import SIZE
from attn_book.study.experiment import Recipe
from attn_book.study.pages import BAT, RESNET, SRM, TASK_TITLES
from attn_book.study.plan import images_in_words

from . import Lesson, page_texts

ANIMALS, CALTECH = "animals10", "caltech16"
GENTLE = 1e-4  # the second study's decay, to compare with


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


def texts(records: Path) -> dict[str, str]:
    """What ``first_study.md`` includes; the figures are written to ``records``."""
    folder = PUBLISHED / kept.FOLDER
    study = Study(kept.runs(folder), kept.runs(folder, part=kept.TRIALS))
    return page_texts("first_study", origin(study), lessons(study), records)


def lessons(study: Study) -> dict[str, Lesson]:
    """Every lesson, in the order of the page."""
    made = (gains, seeds, matches, families, sizes, training)
    return {make.__name__: make(study) for make in made}


def origin(study: Study) -> str:
    """Data sets, sizes, seeds, device and dates of the runs, in one line."""
    data = []
    for networks in study.networks.values():
        one = next(iter(networks.values()))[0]
        recipe = one.recipe
        data.append(images_in_words(one.data["label"], recipe["image_size"], recipe["width"]))
    days = sorted(run.metrics["finished"][:10] for run in study.runs)
    return say(
        "first study · {data} · {number} runs, seeds {seeds} · {devices} · trained {first} to "
        "{last}",
        data=clauses(data),
        number=len(study.runs),
        seeds=joined(map(str, sorted({run.seed for run in study.runs}))),
        devices=joined(sorted({run.device for run in study.runs})),
        first=days[0],
        last=days[-1],
    )


def gains(study: Study) -> Lesson:
    """Gates asleep under decay."""
    recipe, steps = _settings(study, ANIMALS)
    courses = _courses(recipe, steps)
    milder, left = (courses[decay][-1] for decay in (GENTLE, recipe.weight_decay))
    labelled = {
        say("decay {decay}", decay=power(decay)) if decay else _("not decayed"): course
        for decay, course in courses.items()
    }
    best, second = sorted(study.means, key=lambda title: -study.means[title])[:2]
    assert best == SRM.title, "the finding says so"
    return Lesson(
        plots.gains_under_decay(labelled, study.animals),
        say(
            "Left, a gain of 1 that gets no gradient, over {epochs} epochs: it ends at {left:.2f} "
            "with a decay of {decay}, at {milder:.2f} with {gentle}, and stays 1 without. Right, "
            "the runs of nine networks: {best}, whose gains were not decayed, has the best mean, "
            "{best_mean:.1f}%, and {worst} the worst, {worst_mean:.1f}%.",
            epochs=recipe.epochs,
            left=left,
            decay=power(recipe.weight_decay),
            milder=milder,
            gentle=power(GENTLE),
            best=best,
            best_mean=study.means[best],
            worst=BAT.title,
            worst_mean=study.means[BAT.title],
        ),
        say(
            "With a decay of {decay} at a rate of {rate:g}, a gain that starts at 1 and gets no "
            "gradient shrinks to {left:.2f} in {epochs} epochs; SRM's blocks alone were exempt, as "
            "in their authors' code, and {best} came out best ({best_mean:.1f}%; {second}, the "
            "next, {second_mean:.1f}%).",
            decay=power(recipe.weight_decay),
            rate=recipe.learning_rate,
            left=left,
            epochs=recipe.epochs,
            best=best,
            best_mean=study.means[best],
            second=second,
            second_mean=study.means[second],
        ),
        _gains_table(study),
    )


def _settings(study: Study, task: str) -> tuple[Recipe, int]:
    """The recipe of a task's runs, and their steps an epoch."""
    one = next(iter(study.networks[task].values()))[0]
    return first_study.recipe_of(one), first_study.steps_of(one)


def _courses(recipe: Recipe, steps: int) -> dict[float, np.ndarray]:
    """Decay -> the course of a gain of 1 without gradient: none, a gentle one, and the recipe's."""
    return {
        decay: first_study.decay_alone(replace(recipe, weight_decay=decay), steps)
        for decay in (0.0, GENTLE, recipe.weight_decay)
    }


def _gains_table(study: Study) -> pd.DataFrame:
    rows = {}
    for task in study.networks:
        recipe, steps = _settings(study, task)
        courses = _courses(recipe, steps)
        rows[TASK_TITLES[task]] = {
            _("Highest rate"): f"{recipe.learning_rate:g}",
            _("Steps"): f"{recipe.epochs} × {steps}",
            _("Decay"): power(recipe.weight_decay),
            _("Decay alone leaves"): f"{courses[recipe.weight_decay][-1]:.2f}",
            _("In the limit of small steps"): f"{first_study.decay_limit(recipe, steps):.2f}",
            say("With a decay of {decay}", decay=power(GENTLE)): f"{courses[GENTLE][-1]:.2f}",
            _("Where gains ended"): _("not on record"),
        }
    return pd.DataFrame(rows).T.rename_axis(_("Task"))


def seeds(study: Study) -> Lesson:
    """A shared seed that explains nothing."""
    effects = {task: first_study.seed_effect(values) for task, values in study.values.items()}
    rows = {
        TASK_TITLES[task]: {
            _("Networks × seeds"): f"{len(study.values[task])} × {one.freedom[0] + 1}",
            _("F of the seed"): f"{one.f:.2f}",
            _("Degrees of freedom"): listed(map(str, one.freedom)),
            "p": f"{one.p:.2f}",
            _("Residual deviation"): say(
                "{value:.2f} points", value=statistics.residual(study.values[task]).deviation
            ),
        }
        for task, one in effects.items()
    }
    alike = [RESNET.title, *(t for t, equal in EQUAL_STARTS.items() if equal == CONVOLUTIONS)]
    among = first_study.seed_effect({title: study.animals[title] for title in alike})
    one, table = effects[ANIMALS], pd.DataFrame(study.animals).T
    level, away = table.mean(), table.sub(table.mean(axis=1), axis=0).to_numpy()
    shared = clauses(
        f"{listed(map(block_of, titles))} {equal}"
        for equal, titles in sorted(by_value(EQUAL_STARTS).items())
    )
    return Lesson(
        plots.seeds_beside_networks(study.animals, EQUAL_STARTS),
        say(
            "How far each run of {networks} networks and {seeds} seeds lies from its network's "
            "mean, from {low:+.2f} to {high:+.2f} points and without a pattern: the means of the "
            "seeds are {apart:.2f} points apart. Beside the blocks, in how many of {convolutions} "
            "convolutions each began as ResNet-50: {shared}.",
            networks=len(table),
            seeds=len(level),
            low=away.min(),
            high=away.max(),
            apart=np.ptp(level),
            convolutions=CONVOLUTIONS,
            shared=shared,
        ),
        say(
            "Of ResNet-50's {convolutions} convolutions, networks of the same seed began with so "
            "many alike: {shared} (counted at commit {commit}); and over the {runs} runs the seed "
            "explains nothing: F = {f:.2f} with {freedom} degrees of freedom, p = {p:.2f}, and "
            "F = {among:.2f} among the {alike} networks that began alike.",
            convolutions=CONVOLUTIONS,
            shared=shared,
            commit=STARTS_AT,
            runs=table.size,
            f=one.f,
            freedom=listed(map(str, one.freedom)),
            p=one.p,
            among=among.f,
            alike=len(alike),
        ),
        pd.DataFrame(rows).T.rename_axis(_("Task")),
    )


def matches(study: Study) -> Lesson:
    """Verdicts that a relabelling turns over."""
    adjusted = statistics.holm([verdict.p for verdict in study.signs])
    rows = {
        verdict.claim.text: {
            _("Verdict"): _(verdict.word),
            _("The same in"): say(
                "{done} of {wanted}", done=verdict.stands, wanted=len(verdict.matches)
            ),
            _("Difference"): signed(verdict.matches[0].value),
            _("95% interval"): interval(first_study.interval(verdict.matches[0])),
            "p": f"{verdict.p:.3f}",
            _("p by Holm"): f"{p:.2f}",
        }
        for verdict, p in zip(study.signs, adjusted, strict=True)
    }
    ways = len(study.signs[0].matches)
    firm = [verdict for verdict in study.decided if verdict.stands == ways]
    srm, bat = (study.over_resnet[entry.title] for entry in (SRM, BAT))
    same = clauses(
        phrases([verdict.claim.text, _(verdict.word), f"{verdict.stands}"])
        for verdict in study.decided
    )
    return Lesson(
        plots.matched_seeds(study.decided),
        say(
            "The 95% intervals of {claims} claims for each of the {ways} ways to match their runs. "
            "In so many of them the verdict is the same: {same}.",
            claims=len(study.decided),
            ways=ways,
            same=same,
        ),
        say(
            "Which run is set against which is then arbitrary, and of the {ways} ways to match "
            "three runs with three, “{srm}: {srm_word}” stands in {srm_stands}; of the {decided} "
            "signs that were decided {firm} stands in all ({claims}), while “{bat}: {bat_word}” "
            "becomes {contradicted} in {turned}.",
            ways=ways,
            srm=srm.claim.text,
            srm_word=_(srm.word),
            srm_stands=srm.stands,
            decided=len(study.decided),
            firm=len(firm),
            claims=listed(verdict.claim.text for verdict in firm),
            bat=bat.claim.text,
            bat_word=_(bat.word),
            contradicted=_(first_study.CONTRADICTED),
            turned=bat.words.count(first_study.CONTRADICTED),
        ),
        pd.DataFrame(rows).T.rename_axis(_("Claim")),
    )


def families(study: Study) -> Lesson:
    """Judged one by one."""
    found = first_study.simultaneous(study.animals, statistics.residual(study.animals))
    together = first_study.dunnett(found)
    adjusted = statistics.holm([verdict.p for verdict in study.signs])
    off = [title for title, (low, high) in together.items() if low > 0 or high < 0]
    shown = {
        title: f"{signed(found[title].value)} {interval(together[title])}" for title in together
    }
    words = listed(
        say(
            "{network} {outcome} ({difference}; the study said “{word}”)",
            network=title,
            outcome=_("better") if found[title].value > 0 else _("worse"),
            difference=shown[title],
            word=_(study.over_resnet[title].word),
        )
        for title in off
    )
    pairs = {title: verdict.matches[0] for title, verdict in study.over_resnet.items()}
    return Lesson(
        plots.one_by_one_and_together(pairs, together),
        say(
            "Points above ResNet-50 with two intervals for each of the {blocks} blocks. "
            "Simultaneous ones from all runs, {intervals}. Only those of {off} do not hold zero.",
            blocks=len(together),
            intervals=clauses(f"{title} {text}" for title, text in shown.items()),
            off=listed(off),
        ),
        say(
            "Each of {claims} claims of a sign had its own test at 5%, and adjusted for their "
            "number by Holm's method {left} is left (smallest p {p:.2f}); Dunnett's intervals, "
            "with the spread of all {runs} runs for {blocks} blocks at once, find {words}.",
            claims=len(study.signs),
            left=sum(p < 0.05 for p in adjusted) or _("none"),
            p=min(adjusted),
            runs=sum(map(len, study.animals.values())),
            blocks=len(together),
            words=words,
        ),
        _families_table(study),
    )


def _families_table(study: Study) -> pd.DataFrame:
    additive = statistics.residual(study.animals)
    one_way = first_study.within_networks(study.animals)
    found = first_study.simultaneous(study.animals, additive)
    together = first_study.dunnett(found)
    without_seeds = first_study.dunnett(first_study.simultaneous(study.animals, one_way))
    rows = {
        title: {
            _("Verdict"): _(study.over_resnet[title].word),
            _("Difference"): signed(found[title].value),
            _("Its three pairs alone"): interval(first_study.interval(own.matches[0])),
            say("Simultaneous, {freedom} degrees", freedom=additive.freedom): interval(
                together[title]
            ),
            say("Without seeds, {freedom} degrees", freedom=one_way.freedom): interval(
                without_seeds[title]
            ),
        }
        for title, own in study.over_resnet.items()
    }
    return pd.DataFrame(rows).T.rename_axis(_("Block"))


def sizes(study: Study) -> Lesson:
    """Contradictions that could not fail."""
    reported = {verdict.claim.better: verdict.claim.reported or 0.0 for verdict in study.sizes}
    perfect = [first_study.without_errors(study.animals, v.claim) for v in study.sizes]
    assert set(perfect) == {verdict.word for verdict in study.sizes}, "the finding says so"
    rows = {
        verdict.claim.better: {
            _("Reported"): signed(verdict.claim.reported, "+.1f"),
            _("ResNet-50 leaves"): f"{first_study.room(study.animals):.1f}",
            _("Measured"): signed(verdict.matches[0].value),
            _("95% interval"): interval(first_study.interval(verdict.matches[0])),
            _("Verdict"): _(verdict.word),
            _("Without any error"): _(word),
        }
        for verdict, word in zip(study.sizes, perfect, strict=True)
    }
    recipe = study.networks[ANIMALS][RESNET.title][0].recipe
    (trial,) = [run for run in study.trials if (run.dataset, run.recipe) == (ANIMALS, recipe)]
    contradicted = [v for v in study.signs + study.sizes if v.word == first_study.CONTRADICTED]
    baseline, left = study.means[RESNET.title], first_study.room(study.animals)
    return Lesson(
        plots.gains_beyond_all(baseline, reported),
        say(
            "The reported gains on top of ResNet-50's {baseline:.1f}%, all beyond 100%: {gains}.",
            baseline=baseline,
            gains=joined(f"{title} {baseline + gain:.1f}" for title, gain in reported.items()),
        ),
        say(
            "Of the {claims} claims that were called contradicted, {sizes} are gains of {span} "
            "points over a ResNet-50 that leaves {left:.1f}: a network without any error would "
            "have been contradicted as well, and the trial that settled the recipe had shown so "
            "before the first run, with {trial:.1f}%.",
            claims=len(contradicted),
            sizes=len(study.sizes),
            span=span([*reported.values()], ".1f"),
            left=left,
            trial=100 * trial.accuracy,
        ),
        pd.DataFrame(rows).T.rename_axis(_("Block")),
    )


def training(study: Study) -> Lesson:
    """Networks that had not learned what they could."""
    found = {task: first_study.learned(networks) for task, networks in study.networks.items()}
    plain, other = (found[task][RESNET.title] for task in (ANIMALS, CALTECH))
    epochs = study.networks[ANIMALS][RESNET.title][0].recipe["epochs"]
    gaps = sorted((one.gap, title) for title, one in found[ANIMALS].items())
    (low, lowest), (high, highest) = gaps[0], gaps[-1]
    elsewhere = clauses(
        say(
            "on {task} by {low:+.1f} to {high:+.1f}",
            task=TASK_TITLES[task],
            low=min(one.gap for one in of.values()),
            high=max(one.gap for one in of.values()),
        )
        for task, of in found.items()
        if task != ANIMALS
    )
    return Lesson(
        plots.training_and_validation(found),
        say(
            "Accuracy on training and on validation images in the last epoch, and how much higher "
            "the first is: on {task} by {low:+.1f} ({lowest}) to {high:+.1f} points ({highest}); "
            "{elsewhere}.",
            task=TASK_TITLES[ANIMALS],
            low=low,
            lowest=lowest,
            high=high,
            highest=highest,
            elsewhere=elsewhere,
        ),
        say(
            "In its last epoch ResNet-50 was right on {training:.1f}% of the training images of "
            "{task} and on {validation:.1f}% of the validation images, and no network was more "
            "than {high:.1f} points better on what it was trained on. The first is counted on "
            "crops while the weights move, so that it does not show that they had more to learn; "
            "but nothing shows that {epochs} epochs were enough (unlike {other}, where ResNet-50 "
            "has {other_training:.1f}% and {other_validation:.1f}%).",
            training=plain.training,
            task=TASK_TITLES[ANIMALS],
            validation=plain.validation,
            high=high,
            epochs=epochs,
            other=TASK_TITLES[CALTECH],
            other_training=other.training,
            other_validation=other.validation,
        ),
        _training_table(found),
    )


def _training_table(found: Mapping[str, Mapping[str, first_study.Learned]]) -> pd.DataFrame:
    rows = {
        (TASK_TITLES[task], title): {
            _("Network"): title,
            _("Training"): f"{one.training:.1f}",
            _("Validation"): f"{one.validation:.1f}",
            _("Difference"): f"{one.gap:+.1f}",
        }
        for task, networks in found.items()
        for title, one in networks.items()
    }
    return pd.DataFrame(rows.values(), [key[0] for key in rows]).rename_axis(_("Task"))


def power(value: float) -> str:
    """A small number as ``5e-4``."""
    return np.format_float_scientific(value, trim="-", exp_digits=1)


def by_value(counts: Mapping[str, int]) -> dict[int, list[str]]:
    """Number -> the names that have it."""
    found: dict[int, list[str]] = {}
    for name, number in counts.items():
        found.setdefault(number, []).append(name)
    return found
