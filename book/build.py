"""Build the site from what is published, without network: ``python book/build.py``.

For each language the sources are laid out in ``<output>/source``: the pages of this folder, the
executed notebooks, and in ``records/`` the tables and figures that the pages include, made from the
published records. Sphinx then renders them, in English into ``<output>/html`` and in Chinese into
``<output>/html/zh``; a warning is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import at_full_size
import front
import lessons
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import rooms
import translations
import why_05888
from published_results import count, foremost, judged_claims, under_way, widest
from sites import READMES, SITES, render
from texts import banner, origin, table

from attn_blocks.files import PROJECT
from attn_blocks.layers import ATTNS
from attn_book.analysis import pilot, tables, verdicts
from attn_book.analysis.words import counted, joined, plain, sentences
from attn_book.driver.publish import publish
from attn_book.language import _, in_language, say, speaking
from attn_book.records import first_study, full_size, planned
from attn_book.records.published import PUBLISHED, PublishError
from attn_book.records.recorded import finished_runs, recorded_plans
from attn_book.records.run import Run
from attn_book.study.gains import GAINS, UNKNOWN
from attn_book.study.pages import GUIDES, PAGES, TASK_TITLES
from attn_book.study.plan import Plan

BOOK = Path(__file__).resolve().parent
RECORDS = PROJECT / "benchmarks" / "results"
# A page shows the results of the first of these for which it is published; the front page and the
# README those of the first that tests a claim.
PREFERRED = ("paper", "study", "quick", "smoke")
LONG_CELL = 45  # letters; a table with a longer one lets its cells break
NOTHING = """Nothing is published, so there is nothing to show. Run
    make reproduce-all PROFILE=quick
    make publish PROFILE=quick
and then make book again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the site from what is published")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=BOOK / "_build", help="default: %(default)s")
    parser.add_argument(
        "--readmes", type=Path, help="also put the front table into the READMEs in this folder"
    )
    parser.add_argument("--results", type=Path, help="show the runs and pages of this folder too")
    parser.add_argument(
        "--languages", nargs="+", choices=SITES, default=[*SITES], help="default: all"
    )
    options = parser.parse_args(arguments)
    options.output = options.output.absolute()
    published = options.published
    if options.results:
        published = with_own(options.results, published, options.output / "published")
    plans = {p: recorded_plans(published / p) for p in PREFERRED}
    plans = {profile: pages for profile, pages in plans.items() if pages}
    if not plans:
        print(NOTHING, file=sys.stderr)
        return 2
    for folder in ("source", "html"):
        shutil.rmtree(options.output / folder, ignore_errors=True)
    codes = []
    for language in options.languages:
        with speaking(language):
            if options.readmes:
                front.write_readme(foremost(plans), options.readmes / READMES[language])
            source = options.output / "source" / language
            lay_out(plans, source, language)
            plt.close("all")
            codes.append(render(source, language, options.output))
    return max(codes)


def with_own(results: Path, published: Path, folder: Path) -> Path:
    """A copy of what is published in ``folder``, with the runs and pages of ``results`` added."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(published, folder)
    for profile in PREFERRED:
        if (results / profile / "runs").is_dir():
            try:
                notes = publish(profile, results, folder)
            except PublishError as error:
                notes = str(error).splitlines()
            for note in notes:
                print(note)
    return folder


def lay_out(plans: dict[str, dict[str, Plan]], source: Path, language: str) -> None:
    """Fill ``source`` with everything that Sphinx reads.

    Args:
        plans: profile -> page -> plan, the preferred profile first.
    """
    ignored = shutil.ignore_patterns("_build", "published", "__pycache__", "*.py", "gains*.png")
    shutil.copytree(BOOK, source, ignore=ignored)
    shutil.copy(BOOK / "conf.py", source)
    (source / "static" / "tex-svg-full.js").write_bytes(mathjax())
    for page in (*PAGES, *GUIDES):
        chapter(page, plans, source, language)
    records = source / "records"
    records.mkdir()
    drawing = rooms.draw(rooms.between_rooms(rooms.imports()))
    drawing.savefig(records / "rooms.svg", metadata={"Date": None})
    shown = foremost(plans)
    front.write_front(plans, records)
    texts = {
        "blocks": blocks(),
        "gains": on_imagenet(),
        "results": "\n\n".join(all_results(pages, records) for pages in plans.values()),
        "recipes": recipes(shown),
        "pilot": pilot_trials(),
        "images": images(plans),
        "speed": speed(shown),
        "benchmarks": benchmarks(RECORDS),
        "data": (PROJECT / "data" / "README.md").read_text(encoding="utf-8"),
        **first_study_texts(records),
        **why_05888_texts(records),
        **full_size_texts(records),
    }
    for name, text in texts.items():
        (records / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def first_study_texts(records: Path) -> dict[str, str]:
    """What the first study got wrong: a figure and a finding a lesson, the tables, the origin."""
    folder = PUBLISHED / first_study.FOLDER
    study = lessons.Study(
        first_study.runs(folder), first_study.runs(folder, part=first_study.TRIALS)
    )
    banners = {"first_study": banner(plain(lessons.origin(study)))}
    return banners | lesson_texts("first_study", lessons.lessons(study), records)


def why_05888_texts(records: Path, folder: Path = PUBLISHED / "study") -> dict[str, str]:
    """Why the write-ups report 0.5888: the same, of what is published of the study."""
    found = why_05888.Found(folder)
    banners = {"why_05888": banner(plain(why_05888.origin(found)))}
    return banners | lesson_texts("why_05888", why_05888.lessons(found), records)


def full_size_texts(records: Path, study: Path = PUBLISHED / "study") -> dict[str, str]:
    """The networks at full width: the same, of the records from a GPU."""
    found = at_full_size.Found(PUBLISHED / full_size.FOLDER, study)
    banners = {"full_size": banner(plain(at_full_size.origin(found)))}
    return banners | lesson_texts("full_size", at_full_size.lessons(found), records)


def lesson_texts(page: str, found: dict[str, lessons.Lesson], records: Path) -> dict[str, str]:
    """A figure and a finding a lesson, and its table; the pictures are written to ``records``."""
    texts = {}
    for name, lesson in found.items():
        image = ""
        if lesson.figure is not None:
            picture = f"{page}_{name}.svg"
            lesson.figure.savefig(records / picture, metadata={"Date": None})
            image = f"```{{image}} records/{picture}\n:alt: {json.dumps(lesson.alt)}\n```\n\n"
        texts[f"{page}_{name}"] = f"{image}{plain(lesson.finding)}"
        longest = max(len(cell) for row in lesson.table.to_numpy() for cell in row)
        style = ".results .wide" if longest > LONG_CELL else ".results"
        texts[f"{page}_{name}_table"] = table(lesson.table, style)
    return texts


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


def mathjax() -> bytes:
    """MathJax with vector output in one file, from the package that carries it."""
    files = metadata.files("sphinx-mathjax-offline") or ()
    return next(file for file in files if file.name == "tex-svg-full.js").locate().read_bytes()


# Chapters ----------------------------------------------------------------------------------------


def chapter(page: str, plans: dict[str, dict[str, Plan]], source: Path, language: str) -> None:
    """Lay out a page as it was executed; one that is not published shows its text and code."""
    published = [
        (pages.get(page), path)
        for pages in plans.values()
        if (page in pages or page in GUIDES)
        and (path := executed_in(language, folder_of(pages) / "notebooks", page)) is not None
    ]
    plan, path = published[0] if published else (None, PROJECT / "notebooks" / f"{page}.ipynb")
    if not path.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    translate = translations.translator(page, language)
    translations.relabel(notebook, translate)
    if not published:
        line = say(
            "No results are published for this page. They come from: `make reproduce-{page}`",
            page=page,
        )
    else:
        executed = notebook.metadata["attn_blocks"]["executed"][:10]
        line = say(
            "{origin} · page executed {day}",
            origin=origin(plan) if plan else _("This page trains nothing"),
            day=plain(executed),
        )
    title, *rest = notebook.cells[0].source.split("\n", 1)
    notebook.cells[0].source = f"{title}\n\n{banner(line)}\n{''.join(rest)}"
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        if "injected-parameters" in tags:  # the line under the title says the same
            cell.metadata["tags"] = [*tags, "remove-cell"]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = one_header(data["text/html"])
        if words := alternative_text(cell, translate(title.lstrip("# "))):
            cell.metadata["mystnb"] = {"image": {"alt": words}}
    nbformat.write(notebook, source / f"{page}.ipynb")


def executed_in(language: str, folder: Path, page: str) -> Path | None:
    """The page as it was executed in a language, else in English; None if it was in neither."""
    paths = (place / f"{page}.ipynb" for place in (in_language(folder, language), folder))
    return next((path for path in paths if path.exists()), None)


def alternative_text(cell: nbformat.NotebookNode, title: str) -> str | None:
    """What a cell's figure shows: its own words, else the page's title and the figure's name."""
    for output in cell.get("outputs", ()):
        if words := output.get("metadata", {}).get("image/png", {}).get("alt"):
            return words
    name = re.search(r'plots\.show\(.*"(\w+)"\)\s*$', cell.source, re.DOTALL)
    return say("{lead}: {text}", lead=title, text=name[1].replace("_", " ")) if name else None


def folder_of(pages: dict[str, Plan]) -> Path:
    """The published folder of a profile's pages."""
    return next(iter(pages.values())).results_dir


def one_header(html: str) -> str:
    """A pandas table with the index's name beside the columns' instead of in a row below them."""
    columns = r"<tr[^>]*>\s*<th>[^<]*</th>((?:\s*<th>[^<]*</th>)+)\s*</tr>"
    name = r"<tr>\s*<th>([^<]+)</th>(?:\s*<th></th>)+\s*</tr>"
    return re.sub(rf"{columns}\s*{name}", r"<tr><th>\2</th>\1</tr>", html)


def all_results(pages: dict[str, Plan], records: Path) -> str:
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
    parts = [title, under_way(pages) or ""]
    for task, plan in widest(pages).items():
        parts += [
            f"### {TASK_TITLES[task]}",
            banner(origin(plan.alone(task))),
            table(tables.accuracy_table(plan, task)),
        ]
    protocol = front.decided_by("{doc}`" + _("The protocol") + " <protocol>`")
    said = sentences([count(pages), protocol])
    parts += [claimed, said, table(claims(pages)), files]
    for name in ("summary.csv", "verdicts.csv"):
        copy = records / f"{profile}-{name}"
        shutil.copyfile(folder_of(pages) / name, copy)
        parts.append(f"* {{download}}`{name} <records/{copy.name}>`")
    return "\n\n".join(parts)


def claims(pages: dict[str, Plan]) -> pd.DataFrame:
    """Every claim with its outcome and the numbers behind it."""
    return verdicts.table_of(judged_claims(pages))


def recipes(pages: dict[str, Plan]) -> str:
    """The settings of every task."""
    columns = [tables.recipe_table(plan.alone(task)) for task, plan in widest(pages).items()]
    plan = next(iter(pages.values()))
    line = say("profile {profile}", profile=plan.profile)
    return f"{banner(line)}\n{table(pd.concat(columns, axis=1).fillna(tables.DASH))}"


def pilot_trials() -> str:
    """The pilot's trials, and the recipe that they choose."""
    found = pilot.trials(finished_runs(PUBLISHED / "study").values())
    best = pilot.chosen(found)
    words = say(
        "Chosen: a rate of {rate:g}, crops from {crop:g} of the image, {epochs} epochs, with a "
        "mean of {mean:.1f}%. The accuracy on training images was taken after training, without "
        "augmentation, and decides nothing.",
        rate=best.learning_rate,
        crop=best.smallest_crop,
        epochs=best.epochs,
        mean=100 * best.mean,
    )
    if any(trial.epochs > pilot.MOST_EPOCHS for trial in found):
        words = sentences(
            [
                words,
                say(
                    "Trials of more than {epochs} epochs are shown beside and decide nothing "
                    "either: the protocol lets none of them be chosen.",
                    epochs=pilot.MOST_EPOCHS,
                ),
            ]
        )
    return f"{table(pilot.table(found))}\n\n{words}"


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
            for compute, speeds, minutes in by_machine(runs):
                rows.append(
                    {
                        _("Model"): title,
                        _("Task"): TASK_TITLES[task],
                        _("Pixels"): runs[0].experiment.recipe.image_size,
                        "MMACs": f"{runs[0].metrics['macs'] / 1e6:,.1f}",
                        _("Images/s"): f"{sorted(speeds)[len(speeds) // 2]:,.0f}",
                        _("Run (min)"): f"{max(minutes):,.1f}",
                        _("Device"): compute,
                    }
                )
    plan = next(iter(pages.values()))
    line = say("profile {profile}", profile=plan.profile)
    return f"{banner(line)}\n{table(pd.DataFrame(rows).set_index(_('Model')))}"


def by_machine(runs: Iterable[Run]) -> Iterable[tuple[str, list[float], list[float]]]:
    """Speeds and minutes of runs, those on like machines together."""
    groups: dict[str, list[Run]] = {}
    for one in runs:
        compute = one.record["compute"]
        name = compute.get("gpu") or compute["processor"]
        threads = counted(compute["threads"], "thread")
        machine = say("{processor}, {threads}", processor=name, threads=threads)
        groups.setdefault(machine, []).append(one)
    for name, members in groups.items():
        minutes = [one.epoch_seconds * one.experiment.recipe.epochs / 60 for one in members]
        yield name, [one.images_per_second for one in members], minutes


def benchmarks(folder: Path) -> str:
    """Every record of a folder: its words, the conditions it was made in, and its table."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        fields = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
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


if __name__ == "__main__":
    sys.exit(main())
