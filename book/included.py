"""What the pages include of the records: results, claims, recipes, data sets and speed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from published_results import count, decided_by, folder_of, judged_claims, under_way, widest
from texts import banner, conditions, origin, origin_of, table

from attn_blocks.layers import ATTNS
from attn_book.analysis import attention as holding
from attn_book.analysis import beside, by_fold, pilot, tables, verdicts
from attn_book.analysis import near_copies as looking
from attn_book.analysis.evidence import Evidence, of_folder
from attn_book.analysis.words import clauses, counted, joined, plain, sentences
from attn_book.language import _, say
from attn_book.records import planned
from attn_book.records.attention import subjects
from attn_book.records.recorded import finished_runs
from attn_book.records.run import Run
from attn_book.study.gains import GAINS, UNKNOWN
from attn_book.study.pages import NINE, TASK_TITLES
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES


def blocks() -> str:
    """Every attention block's class, as its docstring documents it."""
    lines = [f".. autoclass:: {cls.__module__}.{cls.__name__}" for cls in ATTNS.values()]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def on_imagenet() -> str:
    """What the blocks gain on ImageNet, by whom, and of which of them nothing could be read."""
    heads = _("Network"), _("Gain"), _("ResNet-50 beside it"), _("Source"), _("Training")
    lines = ["{.results .wide}", f"| {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for gain in GAINS:
        source = f"[{plain(gain.source)}]({gain.url})"
        baseline = _("not printed") if gain.baseline is None else f"{gain.baseline:.2f}"
        cells = gain.block, f"{gain.points:+.2f}", baseline, source, plain(_(gain.recipe))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", _("No number stands for the others:"), ""]
    for block, why in UNKNOWN.items():
        lines.append(say("* **{block}**: {why}", block=block, why=plain(_(why))))
    return "\n".join(lines)


def results(pages: dict[str, Plan], records: Path) -> str:
    """Everything that one profile found: accuracies per task, claims, and the files.

    Headings have anchors of their own, so that these are the same in every language.
    """
    profile = next(iter(pages.values())).profile
    title, claimed, files = (
        f"{{#profile-{profile}{part}}}\n{heading}"
        for part, heading in (
            ("", say("## Profile {profile}", profile=profile)),
            ("-claims", _("### Claims")),
            ("-files", _("### Files")),
        )
    )
    parts, shown = [title], widest(pages)
    means = _(
        "An accuracy is the mean over the folds or seeds that a network has: only differences over "
        "runs that both networks have, as under Claims, compare two of them."
    )
    is_even = all(same_seeds(plan, task) for task, plan in shown.items())
    if caution := sentences([under_way(pages) or "", "" if is_even else means]):
        parts.append(caution)
    for task, plan in shown.items():
        parts += [
            f"### {TASK_TITLES[task]}",
            banner(origin(plan.alone(task))),
            table(tables.known(tables.accuracy_table(plan, task))),
        ]
    protocol = decided_by("{doc}`" + _("The protocol") + " <protocol>`")
    said = sentences([count(pages), protocol])
    parts += [claimed, said]
    if PROFILES[profile].folds:  # no other profile tests a claim
        parts.append(table(claims(pages)))
    parts.append(files)
    for name in ("summary.csv", "verdicts.csv"):
        copy = records / f"{profile}-{name}"
        shutil.copyfile(folder_of(pages) / name, copy)
        parts.append(f"* {{download}}`{name} <records/{copy.name}>`")
    return "\n\n".join(parts)


def same_seeds(plan: Plan, task: str) -> bool:
    """Whether the networks of a task that have runs have them on the same folds or seeds."""
    runs = planned.runs_of(plan, task).values()
    return len({tuple(run.experiment.seed for run in of) for of in runs if of}) < 2


def claims(pages: dict[str, Plan]) -> pd.DataFrame:
    """Every claim with its outcome and the numbers behind it."""
    return verdicts.table_of(judged_claims(pages))


def recipes(pages: dict[str, Plan]) -> str:
    """The settings of every task."""
    columns = [tables.recipe_table(plan.alone(task)) for task, plan in widest(pages).items()]
    plan = next(iter(pages.values()))
    line = say("profile {profile}", profile=plan.profile)
    return f"{banner(line)}\n{table(pd.concat(columns, axis=1).fillna(tables.DASH))}"


def controls(folder: Path) -> str:
    """Controls, budgets and width: a table for each that is trained, and which are not yet.

    Args:
        folder: the published folder of the study.
    """
    parts, lacking = [], []
    for part, heading in beside.PARTS.items():
        found = beside.evidence(folder, part)
        if not beside.is_trained(found, part):
            lacking.append(_(heading))
            continue
        parts.append(f"{{#{part.replace('_', '-')}}}\n### {_(heading)}")
        if any(found.runs.values()):  # else all have diverged
            parts.append(origin_of_all(folder, found))
        parts.append(table(beside.table(found)))
    if lacking:
        parts.insert(0, say("Not trained yet: {parts}.", parts=clauses(lacking)))
    return "\n\n".join(filter(None, [beside.by_length(folder), *parts]))


def origin_of_all(folder: Path, found: Evidence) -> str:
    """Where all the runs of a table are from."""
    runs = [run for of_title in found.runs.values() for run in of_title.values()]
    return banner(plain(origin_of(folder.name, runs)))


def fold_by_fold(folder: Path) -> str:
    """The nine networks on each fold, and how much hangs on one of them, once all runs have ended.

    Args:
        folder: the published folder of the study.
    """
    found = of_folder(folder, NINE)
    if not found.is_complete:
        return _("Shown once all runs that decide have ended; till then there are means alone.")
    origins = origin_of_all(folder, found)
    return f"{by_fold.in_words(found)}\n\n{origins}\n{table(by_fold.table(found))}"


def near_copies(folder: Path) -> str:
    """How many validation images were seen in training as near-copies, and what they change.

    Args:
        folder: the published folder of the study.
    """
    found = looking.in_words(folder)
    if not found:
        return _("No near-copies were looked for here.")
    rows = looking.table(folder)
    if not len(rows):
        return found
    origins = origin_of_all(folder, of_folder(folder, NINE))
    return f"{found}\n\n{origins}\n{table(rows, '.results .wide')}"


def attention(folder: Path) -> str:
    """What the three blocks with attention maps do with their attention held still.

    Args:
        folder: the published folder of the study.
    """
    rows = holding.table(folder)
    if not len(rows):
        return _("Not measured yet: it takes the published weights of these networks.")
    runs = [*subjects(folder).values()]
    line = plain(origin_of(folder.name, runs))
    return f"{banner(line)}\n{table(rows, '.results .wide')}\n\n{holding.in_words(folder)}"


def pilot_trials(folder: Path) -> str:
    """The pilot's trials, and the recipe that they choose.

    Args:
        folder: the published folder of the study.
    """
    found = pilot.trials(finished_runs(folder).values())
    if not found:
        return _("No run of the pilot is published here.")
    best = pilot.chosen(found)
    if best is None:
        words = _("No recipe is chosen yet: it takes both seeds of one.")
        return f"{table(pilot.table(found))}\n\n{words}"
    words = say(
        "Chosen: a rate of {rate:g}, crops from {crop:g} of the image, {epochs} epochs, with a "
        "mean of {mean:.1f}%. The accuracy on training images was taken after training, without "
        "augmentation, and decides nothing.",
        rate=best.learning_rate,
        crop=best.smallest_crop,
        epochs=best.epochs,
        mean=100 * best.mean,
    )
    return f"{table(pilot.table(found))}\n\n{sentences([words, longer_trials(found, best)])}"


def longer_trials(found: Sequence[pilot.Trial], best: pilot.Trial) -> str:
    """What trials say that the protocol does not let be chosen; nothing if there are none."""
    longer = [trial for trial in found if trial.epochs > pilot.MOST_EPOCHS]
    if not longer:
        return ""
    most = max(longer, key=lambda trial: trial.mean)
    return say(
        "Trials of more than {epochs} epochs are shown beside and decide nothing either: the "
        "protocol lets none of them be chosen. But they say something: with {more} more epochs "
        "the plain network ends {gain:+.1f} points higher, without any block. At the chosen "
        "length it is still learning, so that what a block gains there it may gain by learning "
        "faster; [the runs of twice the epochs](results.md#controls-budget-and-width) are there to "
        "tell.",
        epochs=pilot.MOST_EPOCHS,
        more=most.epochs - best.epochs,
        gain=100 * (most.mean - best.mean),
    )


def images(plans: dict[str, dict[str, Plan]]) -> str:
    """The data sets behind the published results."""
    rows = {}
    for profile, pages in plans.items():
        for task, plan in widest(pages).items():
            found = plan.comparison(task).images
            rows[profile, TASK_TITLES[task]] = {
                _("Profile"): profile,
                _("Task"): TASK_TITLES[task],
                _("Images"): found.title,
                _("Classes"): say(
                    "{done} of {wanted}", done=len(found.classes), wanted=found.class_total
                ),
                _("Training / validation"): f"{len(found.train):,} / {len(found.val):,}",
                _("Names"): joined(found.classes),
            }
    return table(pd.DataFrame(rows.values()).set_index(_("Profile")), ".results .wide")


def speed(pages: dict[str, Plan]) -> str:
    """Training speed as the runs recorded it."""
    rows = []
    for task, plan in widest(pages).items():
        for title, runs in planned.runs_of(plan, task).items():
            for machine, run in by_machine(runs):
                rows.append(
                    {
                        _("Model"): title,
                        _("Task"): TASK_TITLES[task],
                        _("Pixels"): runs[0].experiment.recipe.image_size,
                        "MMACs": f"{runs[0].metrics['macs'] / 1e6:,.1f}",
                        _("Images/s"): f"{run.images_per_second:,.0f}",
                        _("Run (min)"): f"{minutes(run):,.1f}",
                        _("Device"): machine,
                    }
                )
    plan = next(iter(pages.values()))
    line = say("profile {profile}", profile=plan.profile)
    return f"{banner(line)}\n{table(pd.DataFrame(rows).set_index(_('Model')))}"


def minutes(run: Run) -> float:
    """What a run's training takes at the speed of its median epoch: pauses do not count."""
    return run.epoch_seconds * run.experiment.recipe.epochs / 60


def by_machine(runs: Iterable[Run]) -> Iterable[tuple[str, Run]]:
    """For each kind of machine, the run of median speed; of two in the middle, the slower one."""
    groups: dict[str, list[Run]] = {}
    for one in runs:
        compute = one.record["compute"]
        name = compute.get("gpu") or compute["processor"]
        threads = counted(compute["threads"], "thread")
        machine = say("{processor}, {threads}", processor=name, threads=threads)
        groups.setdefault(machine, []).append(one)
    for name, members in groups.items():
        yield name, sorted(members, key=minutes)[len(members) // 2]


def benchmarks(folder: Path) -> str:
    """Every record of a folder: its words, the conditions it was made in, and its table."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        fields = conditions(path)
        title = fields.pop("title", path.stem.replace("_", " ").capitalize())
        words = [fields.pop(key) for key in ("about", "finding") if key in fields]
        command = f"`{fields.pop('command')}`"
        frame = pd.read_csv(path, dtype=str, comment="#").fillna("–")
        frame.columns = [name.replace("_", " ") for name in frame.columns]
        parts += [
            f"### {title}",
            *words,
            banner(" · ".join([command, *fields.values()])),
            table(frame.set_index(frame.columns[0])),
        ]
    return "\n\n".join(parts or ["No measurements are kept in `benchmarks/results/` yet."])
