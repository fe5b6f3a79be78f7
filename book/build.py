"""Build the site from what is published, without network: ``python book/build.py``.

The sources are laid out in ``<output>/source``: the pages of this folder, the executed notebooks,
and in ``records/`` the tables and figures that the pages include, made from the published records.
Sphinx then renders them into ``<output>/html``; a warning is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import lessons
import nbformat
import pandas as pd
import rooms
from sphinx.cmd.build import build_main

from attn_blocks.files import PROJECT, atomic_write
from attn_blocks.layers import ATTNS
from attn_book.analysis import plots, tables, verdicts
from attn_book.analysis.judgement import CONSTANT, NOT_TESTED, OPEN, OUTCOMES, Verdict
from attn_book.records import first_study, planned
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import ended_of, recorded_plans
from attn_book.records.run import Run
from attn_book.study.claims import BETTER, CLAIMS, SIZE
from attn_book.study.gains import GAINS, UNKNOWN
from attn_book.study.pages import GUIDES, PAGES, RESNET, TASK_TITLES, seeds_of
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

BOOK = Path(__file__).resolve().parent
RECORDS = PROJECT / "benchmarks" / "results"
# A page shows the results of the first of these for which it is published; the front page and the
# README those of the first that tests a claim.
PREFERRED = ("paper", "study", "quick", "smoke")
README_START, README_END = "<!-- results: made by make book -->", "<!-- end of results -->"
SMALL_RUN = (
    "**These numbers test nothing:** they are one small run, published to show what the book "
    "makes. Differences of this size come and go with the seed."
)
DECIDED_BY = "{}, written before the first run, says how claims are decided."
PROTOCOL = DECIDED_BY.format("{doc}`The protocol <protocol>`")
# What Markdown and HTML take for more than text.
MARKUP = re.compile(r"[\\`*_{}\[\]<>&|$~]")
NOTHING = """Nothing is published, so there is nothing to show. Run
    make reproduce-all PROFILE=quick
    make publish PROFILE=quick
and then make book again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the site from what is published")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=BOOK / "_build", help="default: %(default)s")
    parser.add_argument("--readme", type=Path, help="also put the front table into this README")
    options = parser.parse_args(arguments)
    plans = {p: recorded_plans(options.published / p) for p in PREFERRED}
    plans = {profile: pages for profile, pages in plans.items() if pages}
    if not plans:
        print(NOTHING, file=sys.stderr)
        return 2
    source, html = options.output / "source", options.output / "html"
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(plans, source)
    if options.readme:
        write_readme(foremost(plans), options.readme)
    doctrees = options.output / "doctrees"
    code = build_main(
        ["-q", "-W", "--fresh-env", "-b", "html", "-d", str(doctrees), str(source), str(html)]
    )
    if code == 0:
        print(f"Built {html / 'index.html'}")
    return code


def lay_out(plans: dict[str, dict[str, Plan]], source: Path) -> None:
    """Fill ``source`` with everything that Sphinx reads.

    Args:
        plans: profile -> page -> plan, the preferred profile first.
    """
    tools = "build.py", "lessons.py", "rooms.py"
    ignored = shutil.ignore_patterns("_build", "published", "__pycache__", *tools)
    shutil.copytree(BOOK, source, ignore=ignored)
    (source / "static" / "tex-svg-full.js").write_bytes(mathjax())
    for page in (*PAGES, *GUIDES):
        chapter(page, plans, source)
    records = source / "records"
    records.mkdir()
    drawing = rooms.draw(rooms.between_rooms(rooms.imports()))
    drawing.savefig(records / "rooms.svg", metadata={"Date": None})
    shown = foremost(plans)
    front(plans, records)
    texts = {
        "blocks": blocks(),
        "gains": on_imagenet(),
        "results": "\n\n".join(all_results(pages, records) for pages in plans.values()),
        "recipes": recipes(shown),
        "images": images(plans),
        "speed": speed(shown),
        "benchmarks": benchmarks(RECORDS),
        "data": (PROJECT / "data" / "README.md").read_text(encoding="utf-8"),
        **first_study_texts(records),
    }
    for name, text in texts.items():
        (records / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def first_study_texts(records: Path) -> dict[str, str]:
    """What the first study got wrong: a figure and a finding a lesson, the tables, the origin."""
    folder = PUBLISHED / first_study.FOLDER
    study = lessons.Study(
        first_study.runs(folder), first_study.runs(folder, part=first_study.TRIALS)
    )
    texts = {"first_study": banner(plain(lessons.origin(study)))}
    for name, lesson in lessons.lessons(study).items():
        picture = f"first_study_{name}.svg"
        lesson.figure.savefig(records / picture, metadata={"Date": None})
        image = f"```{{image}} records/{picture}\n:alt: {json.dumps(lesson.alt)}\n```"
        texts[f"first_study_{name}"] = f"{image}\n\n{plain(lesson.finding)}"
        texts[f"first_study_{name}_table"] = table(lesson.table)
    return texts


def blocks() -> str:
    """Every attention block's class, as its docstring documents it."""
    lines = [f".. autoclass:: {cls.__module__}.{cls.__name__}" for cls in ATTNS.values()]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def on_imagenet() -> str:
    """What the blocks gain on ImageNet, by whom, and of which of them nothing could be read."""
    lines = ["{.results .wide}", "| Network | Gain | ResNet-50 beside it | Source | Training |"]
    lines.append("|---|---|---|---|---|")
    for gain in GAINS:
        source = f"[{plain(gain.source)}]({gain.url})"
        baseline = "not printed" if gain.baseline is None else f"{gain.baseline:.2f}"
        cells = gain.block, f"{gain.points:+.2f}", baseline, source, plain(gain.recipe)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "No number stands for the others:", ""]
    return "\n".join([*lines, *(f"* **{block}**: {plain(why)}" for block, why in UNKNOWN.items())])


def mathjax() -> bytes:
    """MathJax with vector output in one file, from the package that carries it."""
    files = metadata.files("sphinx-mathjax-offline") or ()
    return next(file for file in files if file.name == "tex-svg-full.js").locate().read_bytes()


# Chapters ----------------------------------------------------------------------------------------


def chapter(page: str, plans: dict[str, dict[str, Plan]], source: Path) -> None:
    """Lay out a page as it was executed; one that is not published shows its text and code."""
    published = [
        (pages.get(page), path)
        for pages in plans.values()
        if (page in pages or page in GUIDES)
        and (path := folder_of(pages) / "notebooks" / f"{page}.ipynb").exists()
    ]
    plan, path = published[0] if published else (None, PROJECT / "notebooks" / f"{page}.ipynb")
    if not path.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    if not published:
        line = f"No results are published for this page. They come from: `make reproduce-{page}`"
    else:
        executed = notebook.metadata["attn_blocks"]["executed"][:10]
        where_from = origin(plan) if plan else "This page trains nothing"
        line = f"{where_from} · page executed {plain(executed)}"
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{banner(line)}\n{rest}"
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
        name = re.search(r'plots\.show\(.*"(\w+)"\)\s*$', cell.source, re.DOTALL)
        if name:
            words = f"{title.lstrip('# ')}: {name[1].replace('_', ' ')}"
            cell.metadata["mystnb"] = {"image": {"alt": words}}
    nbformat.write(notebook, source / f"{page}.ipynb")


def folder_of(pages: dict[str, Plan]) -> Path:
    """The published folder of a profile's pages."""
    return next(iter(pages.values())).results_dir


def one_header(html: str) -> str:
    """A pandas table with the index's name beside the columns' instead of in a row below them."""
    columns = r"<tr[^>]*>\s*<th>[^<]*</th>((?:\s*<th>[^<]*</th>)+)\s*</tr>"
    name = r"<tr>\s*<th>([^<]+)</th>(?:\s*<th></th>)+\s*</tr>"
    return re.sub(rf"{columns}\s*{name}", r"<tr><th>\2</th>\1</tr>", html)


def plain(value: object) -> str:
    """A value as text that is shown as it is: a class may be called ``<b>`` or ``$x$``."""
    return MARKUP.sub(r"\\\g<0>", str(value))


def banner(line: str) -> str:
    """A marked paragraph that says where numbers come from."""
    return f":::{{container}} provenance\n{line}\n:::\n"


def origin(plan: Plan) -> str:
    """Profile, data, seeds, device and dates of a page's runs."""
    days = sorted(planned.run_of(plan, what).metrics["finished"][:10] for what in plan.experiments)
    trained = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return plain(f"{plan.provenance} · trained {trained}")


def table(frame: pd.DataFrame, style: str = ".results") -> str:
    """A frame as a Markdown table, its index as the first column.

    Args:
        style: attributes of the table; ``.results .wide`` lets cells break.
    """
    frame = frame.reset_index()
    lines = [list(map(plain, frame.columns)), ["---"] * len(frame.columns)]
    lines += [list(map(plain, row)) for row in frame.to_numpy()]
    return "\n".join(["{" + style + "}", *(f"| {' | '.join(line)} |" for line in lines)])


def widest(pages: dict[str, Plan]) -> dict[str, Plan]:
    """Task -> the page that compares the most models on it."""
    found: dict[str, tuple[int, Plan]] = {}
    for plan in pages.values():
        for comparison in plan.comparisons:
            models = len({entry.title for entry, _ in comparison.experiments})
            if models > found.get(comparison.task, (0, plan))[0]:
                found[comparison.task] = (models, plan)
    return {task: found[task][1] for task in TASK_TITLES if task in found}


def foremost(plans: dict[str, dict[str, Plan]]) -> dict[str, Plan]:
    """The pages of the first profile that decides a claim; of the first of all where none does."""
    for pages in plans.values():
        if any(found.is_decided for found in judged_claims(pages)):
            return pages
    return next(iter(plans.values()))


def front(plans: dict[str, dict[str, Plan]], records: Path) -> None:
    """The front page's table and figure: what each block adds to ResNet-50."""
    pages = foremost(plans)
    coming = [line for line in map(under_way, plans.values()) if line]
    if coming:
        coming.append("{doc}`All results <results>` has what they found so far.")
    tasks = widest(pages)
    plan = tasks.get("animals10") or next(iter(tasks.values()))
    task = "animals10" if "animals10" in tasks else next(iter(tasks))
    plan = plan.alone(task)
    drawn = replace(plan, results_dir=records)
    runs = planned.runs_of(plan, task)
    has_gains = task == "animals10" and len(plan.comparison(task).experiments) > 1
    figure = plots.gain_forest(plan, task) if has_gains else plots.validation_curves(runs)
    plots.show(drawn, figure, "front")
    picture = f"records/figures/{plan.page}_front.png"
    text = [
        banner(origin(plan)),
        f"{count(pages)} {PROTOCOL}",
        "",
        decided(pages),
        "",
        "" if plan.profile in ("study", "paper") else SMALL_RUN,
        "",
        " ".join(coming),
        "",
        table(headline(plan, task)),
        "",
        f"```{{image}} {picture}\n:alt: What each block adds to ResNet-50\n```",
    ]
    (records / "front.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def write_readme(pages: dict[str, Plan], path: Path) -> None:
    """Put the front page's table and figure between the README's result markers.

    Of a profile that tests nothing it says no more than that: its gains come with the seed.
    """
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(README_START)
    _, after = rest.split(README_END)
    plan = widest(pages)["animals10"].alone("animals10")
    figure = PUBLISHED / plan.profile / "figures" / "09_comparison_gains.png"
    claims = f"{count(pages)} {DECIDED_BY.format('[The protocol](book/protocol.md)')}"
    if plan.profile in ("study", "paper"):
        shown = [
            f"![What each block gains over ResNet-50]({figure.relative_to(PROJECT).as_posix()})",
            headline(plan, "animals10").to_markdown(disable_numparse=True),
            f"Points of validation accuracy; {origin(plan)}.",
            claims,
            decided(pages),
            under_way(pages) or "",
        ]
    else:
        run = f"The book's pages show one small run so far ({origin(plan)}), which tests nothing."
        shown = [f"{claims} {run}"]
    with atomic_write(path) as stream:
        stream.write("\n\n".join([before + README_START, *filter(None, shown), README_END + after]))


def headline(plan: Plan, task: str) -> pd.DataFrame:
    """Accuracy and gain over ResNet-50 of every model of a task: reported, on ImageNet, ours."""
    accuracy = tables.accuracy_table(plan, task)
    judged = {
        (v.claim.better, v.claim.kind): v
        for v in verdicts.verdicts(plan)
        if v.claim.task == task and v.claim.worse == RESNET.title
    }
    rows = [
        {
            "Model": title,
            "Accuracy reported": accuracy.loc[title, "Reported"],
            "Accuracy here": accuracy.loc[title, "Final accuracy"],
            "Runs": accuracy.loc[title, "Runs"],
            **gains(judged.get((title, BETTER)), judged.get((title, SIZE))),
        }
        for title in accuracy.index
    ]
    return tables.known(pd.DataFrame(rows).set_index("Model"))


def gains(better: Verdict | None, size: Verdict | None) -> dict[str, str]:
    """A block's gain: reported, on ImageNet and ours with its interval, and both outcomes."""
    ours = reported = paper = None
    if better is not None:
        ours = better.value
        if better.is_own:
            reported, paper = better.reported, better.claim.paper
    gain = tables.signed(ours)
    if better is not None and better.interval is not None:
        gain += " " + tables.interval(*better.interval, "+.1f")
    return {
        "Gain reported": tables.signed(reported),
        "Gain on ImageNet": paper.text if paper else tables.DASH,
        "Gain here": gain,
        "Outcome": better.in_full if better else tables.DASH,
        "Against the reported size": size.outcome if size else tables.DASH,
    }


def judged_claims(pages: dict[str, Plan]) -> list[Verdict]:
    """The verdicts of all pages, each claim once, in the order of ``CLAIMS``."""
    found = {v.claim: v for plan in pages.values() for v in verdicts.verdicts(plan)}
    return [found[claim] for claim in CLAIMS if claim in found]


def count(pages: dict[str, Plan]) -> str:
    """How many claims have which outcome, in a sentence, and what an outcome is about."""
    found = [verdict.word for verdict in judged_claims(pages)]
    found += [NOT_TESTED] * (len(CLAIMS) - len(found))
    if set(found) == {NOT_TESTED}:
        return f"None of the {len(CLAIMS)} claims is decided here."
    numbers = [f"**{found.count(w)} {w}**" for w in (*OUTCOMES, NOT_TESTED) if w in found]
    listed = ", ".join(numbers[:-1]) + f" and {numbers[-1]}" if len(numbers) > 1 else numbers[0]
    return f"Of {len(CLAIMS)} claims, {listed}. {verdicts.ABOUT}"


def decided(pages: dict[str, Plan]) -> str:
    """The claims that were decided, by name: one list item for each outcome but ``OPEN``."""
    judged = judged_claims(pages)
    lines = []
    for word in OUTCOMES:
        found = [v for v in judged if v.word == word != OPEN and not v.constant]
        for outcome in sorted({verdict.outcome for verdict in found}):
            names = [v.claim.text for v in found if v.outcome == outcome]
            lines.append(f"* {outcome.capitalize()}: {'; '.join(names)}.")
    constant = [v.claim.text for v in judged if v.constant]
    if constant:
        lines.append(f"* {CONSTANT.capitalize()}: {'; '.join(constant)}.")
    return "\n".join(lines)


def under_way(pages: dict[str, Plan]) -> str | None:
    """How far a profile is whose runs are not all published, in a sentence; None if they are."""
    profile = next(iter(pages.values())).profile
    wanted = {
        (comparison.task, entry.title, seed)
        for comparisons in PAGES.values()
        for comparison in comparisons
        for entry in comparison.entries
        for seed in seeds_of(comparison, entry, PROFILES[profile].seeds)
    }
    found = set().union(*(ended_of(plan) for plan in pages.values()))
    done = len(wanted & found)
    if done == len(wanted):
        return None
    return f"**The profile {profile} is under way:** {done} of {len(wanted)} runs are done."


def all_results(pages: dict[str, Plan], records: Path) -> str:
    """Everything that one profile found: accuracies per task, claims, and the files."""
    profile = next(iter(pages.values())).profile
    parts = [f"## Profile {profile}", under_way(pages) or ""]
    for task, plan in widest(pages).items():
        parts += [
            f"### {TASK_TITLES[task]}",
            banner(origin(plan.alone(task))),
            table(tables.accuracy_table(plan, task)),
        ]
    parts += ["### Claims", f"{count(pages)} {PROTOCOL}", table(claims(pages)), "### Files"]
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
    return f"{banner(f'profile {plan.profile}')}\n{table(pd.concat(columns, axis=1).fillna('–'))}"


def images(plans: dict[str, dict[str, Plan]]) -> str:
    """The data sets behind the published results."""
    rows = {}
    for profile, pages in plans.items():
        for task, plan in widest(pages).items():
            found = plan.comparison(task).images
            rows[profile, TASK_TITLES[task]] = {
                "Profile": profile,
                "Task": TASK_TITLES[task],
                "Images": found.title,
                "Classes": f"{len(found.classes)} of {found.class_total}",
                "Training / validation": f"{len(found.train):,} / {len(found.val):,}",
                "Names": ", ".join(found.classes),
            }
    return table(pd.DataFrame(rows.values()).set_index("Profile"), ".results .wide")


def speed(pages: dict[str, Plan]) -> str:
    """Training speed as the runs recorded it."""
    rows = []
    for task, plan in widest(pages).items():
        for title, runs in planned.runs_of(plan, task).items():
            for compute, speeds, minutes in by_machine(runs):
                rows.append(
                    {
                        "Model": title,
                        "Task": TASK_TITLES[task],
                        "Pixels": runs[0].experiment.recipe.image_size,
                        "MMACs": f"{runs[0].metrics['macs'] / 1e6:,.1f}",
                        "Images/s": f"{sorted(speeds)[len(speeds) // 2]:,.0f}",
                        "Run (min)": f"{max(minutes):,.1f}",
                        "Device": compute,
                    }
                )
    plan = next(iter(pages.values()))
    return f"{banner(f'profile {plan.profile}')}\n{table(pd.DataFrame(rows).set_index('Model'))}"


def by_machine(runs: Iterable[Run]) -> Iterable[tuple[str, list[float], list[float]]]:
    """Speeds and minutes of runs, those on like machines together."""
    groups: dict[str, list[Run]] = {}
    for one in runs:
        compute = one.record["compute"]
        name = compute.get("gpu") or compute["processor"]
        threads = f"{compute['threads']} thread{'s' * (compute['threads'] > 1)}"
        groups.setdefault(f"{name}, {threads}", []).append(one)
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
