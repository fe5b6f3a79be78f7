"""The built site in a real browser, without network: every page, its images, formulas and links."""

import csv
import functools
import http.server
import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from html import unescape
from urllib.parse import urlsplit

import nbformat
import pandas as pd
import pytest

from attn_blocks.files import PROJECT
from attn_book.analysis.judgement import OUTCOMES, Verdict
from attn_book.driver.summary import write_summary
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import recorded_plans
from attn_book.records.run import Run
from attn_book.study.claims import CLAIMS, PRIMARY
from attn_book.study.design import EXTRA, ORDER
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GUIDES, OVERVIEW, PAGES, SE, seeds_of
from attn_book.study.recipes import PROFILES

pytest.importorskip("sphinx", reason="the site is built with Sphinx; pip install '.[book]'")
selenium = pytest.importorskip("selenium.webdriver", reason="pip install '.[dev]'")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser; apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = 1200, 400
READMES = ("README.md", "README.zh.md")


def build(published, output, *options, languages=("en",)):
    command = [
        sys.executable,
        str(PROJECT / "book" / "build.py"),
        *options,
        "--languages",
        *languages,
        "--published",
        str(published),
        "--output",
        str(output),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def shown():
    """The published profiles that the site can show, the preferred one first."""
    profiles = ("paper", "study", "quick", "smoke")
    return [profile for profile in profiles if recorded_plans(PUBLISHED / profile)]


@pytest.fixture(scope="module")
def html(tmp_path_factory, published_once):
    """The sites of what is published, or of made-up results while nothing is."""
    published = PUBLISHED if shown() else published_once
    output = tmp_path_factory.mktemp("site")
    for name in READMES:
        shutil.copy(PROJECT / name, output)
    done = build(published, output, "--readmes", str(output), languages=("en", "zh_CN"))
    assert done.returncode == 0, done.stderr
    return output / "html"


@pytest.mark.parametrize("name", READMES)
def test_the_readme_shows_what_is_published(html, name):
    if not shown():
        pytest.skip("nothing is published yet")
    made = (html.parent / name).read_text(encoding="utf-8")
    assert made == (PROJECT / name).read_text(encoding="utf-8"), "run make book"


@pytest.fixture(scope="module")
def address(html):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def resize(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def settle(browser):
    """Wait until formulas are drawn and images have arrived."""
    browser.execute_async_script("""
        const done = arguments[0];
        document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; });
        const images = [...document.images].filter(image => !image.complete).map(
            image => new Promise(next => { image.onload = image.onerror = next; }));
        const formulas = window.MathJax ? MathJax.startup.promise : Promise.resolve();
        Promise.all([formulas, ...images]).then(() => setTimeout(done, 50));
    """)


def open_page(browser, url, width=WIDE):
    browser.get_log("browser"), browser.get_log("performance")
    resize(browser, width)
    browser.get(url)
    settle(browser)


def troubles(browser, address):
    """Errors in the console, failed requests, and requests to another host."""
    found = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    sent = set()  # by the page; a browser that has just started also asks for things of its own
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        name, values = message["method"], message["params"]
        if name == "Network.requestWillBeSent":
            sent.add(values["requestId"])
            url = values["request"]["url"]
            if url.startswith(("http", "ws", "file")) and not url.startswith(address):
                found.append(f"asks another host: {url}")
        elif name == "Network.loadingFailed" and values["requestId"] in sent:
            if not values.get("canceled"):
                found.append(f"request failed: {values['errorText']}")
        elif name == "Network.responseReceived" and values["response"]["status"] >= 400:
            found.append(f"{values['response']['status']} {values['response']['url']}")
    return found


def pages(html):
    """Addresses of all pages with contents, relative to the site's root."""
    return sorted(
        path.name
        for path in html.glob("*.html")
        if path.name not in ("genindex.html", "search.html")
    )


def pages_of_both(html):
    """The pages of the English site, and after them those of the Chinese one."""
    return [*pages(html), *(f"zh/{name}" for name in pages(html / "zh"))]


def test_every_chapter_is_a_page_and_no_machine_is_named(html):
    chapters = [*PAGES, *GUIDES]
    expected = {f"{p}.html" for p in chapters if (PROJECT / f"notebooks/{p}.ipynb").exists()}
    assert expected <= set(pages(html))
    assert pages(html / "zh") == pages(html)
    for path in html.rglob("*.html"):
        text = re.sub(r"data:[^\"']*", "", path.read_text(encoding="utf-8"))
        assert str(PROJECT) not in text, path.name


def test_the_front_page_opens_with_the_answer_its_figure_and_its_table(html):
    text = (html / "index.html").read_text(encoding="utf-8")
    parts = (
        "<h1>",
        "At the published width</span></a>, the networks with a block, each trained ",
        "front.png",
        "<table",
        'class="provenance',
        '<section id="what-this-book-does"',
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "SE" in text[text.index("<table") : text.index("</table>")]


def outcomes(profile, published=PUBLISHED):
    """Claim -> outcome, as it is published."""
    with (published / profile / "verdicts.csv").open(newline="") as stream:
        return {row["claim"]: row["outcome"] for row in csv.DictReader(stream)}


def is_word(outcome):
    return outcome.startswith(OUTCOMES)


def foremost():
    """The profile that the front page is about: the first that decides a claim, else the first."""
    decide = [p for p in shown() if any(map(is_word, outcomes(p).values()))]
    return [*decide, *shown()][0]


def test_the_front_page_shows_a_study_or_else_the_networks_at_full_width(html):
    if not shown():
        pytest.skip("nothing is published yet")
    text = (html / "index.html").read_text(encoding="utf-8")
    source = re.search(r'<div class="provenance[^>]*>\s*<p>(.*?)</p>', text, re.DOTALL)[1]
    is_study = foremost() in ("study", "paper")
    assert source.startswith(f"profile {foremost()} ·" if is_study else "full width ·")


def assert_decided_are_named(claims, front, readme):
    """Every claim that was decided is on the front page and in the README's list; how many are."""
    decided = [c for c, outcome in claims.items() if is_word(outcome) and outcome[:4] != "open"]
    for claim in decided:
        named = claim if " by " in claim else claim.replace(" > ", " beside ")
        assert re.search(rf"\* .+: .*{re.escape(named)}", readme), claim
        assert named in unescape(front)
    return len(decided)


def test_front_page_and_readme_name_every_claim_that_was_decided(html):
    if not shown():
        pytest.skip("nothing is published yet")
    front = (html / "index.html").read_text(encoding="utf-8")
    readme = (html.parent / "README.md").read_text(encoding="utf-8")
    assert_decided_are_named(outcomes(foremost()), front, readme)


def test_the_time_of_a_run_counts_no_pause(tmp_path, monkeypatch, write_run):
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    recipe = replace(PROFILES["smoke"].recipes["animals10"], epochs=3)
    experiment = Experiment("shapes", "0" * 64, "vgg19", recipe, seed=0)
    run = Run(tmp_path / "runs" / experiment.name)
    write_run(run.folder, experiment)
    history = pd.read_csv(run.folder / "history.csv").assign(seconds=[120.0, 3600.0, 120.0])
    history.to_csv(run.folder / "history.csv", index=False)
    run.record["compute"]["processor"] = "A processor"
    included = importlib.import_module("included")
    [(machine, shown)] = included.by_machine([run])
    assert machine == "A processor, 1 thread"
    assert included.minutes(shown) == 3 * 120 / 60
    # 5.3 images a second over 3840 seconds, a third of them in an epoch of 120.
    assert shown.images_per_second == pytest.approx(5.3 * 3840 / 3 / 120)


def test_every_page_with_results_says_where_they_are_from(html):
    seeds = r"(folds and )?seeds? [\d, ]+"
    full = re.compile(rf"profile \w+ · .+ · {seeds} · \w+.* · trained \d{{4}}-\d\d-\d\d")
    for name in [f"{page}.html" for page in PAGES] + ["results.html"]:
        text = (html / name).read_text(encoding="utf-8")
        line = re.search(r'<div class="provenance[^>]*>\s*<p>(.*?)</p>', text, re.DOTALL)[1]
        assert full.search(line) or "No results are published" in line, name


@pytest.fixture(scope="module")
def own_site(published_once, tmp_path_factory):
    """The site of the made-up results as a reader's own, beside nothing that is published."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "published").mkdir()
    results = published_once.parent / "results"
    done = build(folder / "published", folder / "site", "--results", str(results))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_profile_under_way_says_how_far_it_is_and_each_task_its_seeds(own_site):
    for page in ("index", "results"):
        text = (own_site / "site" / "html" / f"{page}.html").read_text(encoding="utf-8")
        assert "<strong>The profile smoke is under way:</strong> 6 of 17 runs are done." in text
    lines = re.findall(r"<h3>([\w-]+)<.*?seeds? ([\d, ]+) ·", text, re.DOTALL)
    assert lines == [("Animals-10", "0, 1, 2"), ("CIFAR-10", "0")]


def test_own_results_are_shown_and_what_is_published_stays(own_site):
    text = (own_site / "site" / "html" / "04_sge.html").read_text(encoding="utf-8")
    assert "profile smoke ·" in text
    assert list((own_site / "published").iterdir()) == []


def test_of_a_study_that_is_not_published_nothing_is_shown(own_site):
    for page, words in {
        "method": "No run of the pilot is published here.",
        "results": "Not trained yet: ",
    }.items():
        assert words in (own_site / "site" / "html" / f"{page}.html").read_text(encoding="utf-8")


def test_records_reach_the_site_as_text_and_not_as_markup(published_once, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    published = shutil.copytree(published_once, tmp_path / "published")
    odd = ["<img src=x onerror=alert(1)>", "$\\foo$ | `a` [b](c) **d** {doc}`index` &lt;"]
    for path in published.glob("smoke/runs/*/experiment.json"):
        record = json.loads(path.read_text())
        record["data"] |= {"classes": odd, "title": odd[0], "label": " ".join(odd)}
        path.write_text(json.dumps(record))
    included = importlib.import_module("included")
    pages = recorded_plans(published / "smoke")
    # Both come with Sphinx's reader of Markdown.
    parser = importlib.import_module("markdown_it").MarkdownIt("commonmark")
    markdown = parser.use(importlib.import_module("mdit_py_plugins.dollarmath").dollarmath_plugin)
    cells = included.images({"smoke": pages}).splitlines()[-1].split(" | ")
    for text in (included.origin(pages["04_sge"]), *cells):
        parts = [p for token in markdown.parse(text) for p in token.children or ()]
        assert {part.type for part in parts} <= {"text", "text_special"}, text
    shown = "".join(p.content for token in markdown.parse(cells[-1]) for p in token.children or ())
    assert shown.removesuffix(" |") == ", ".join(odd)


def test_a_chapter_shows_the_most_that_is_published(html):
    if not shown():
        pytest.skip("nothing is published yet")
    for page in PAGES:
        there = [p for p in shown() if (PUBLISHED / p / "notebooks" / f"{page}.ipynb").exists()]
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        found = re.search(r'<div class="provenance[^>]*>\s*<p>profile (\w+)', text)
        assert there, f"{page} is published in no profile"
        assert found[1] == there[0], page


def test_a_guide_says_when_it_was_executed_and_the_front_page_leads_to_it(html):
    front = (html / "index.html").read_text(encoding="utf-8")
    for guide in GUIDES:
        text = (html / f"{guide}.html").read_text(encoding="utf-8")
        line = re.search(r'<div class="provenance[^>]*>\s*<p>(.*?)</p>', text, re.DOTALL)[1]
        there = any((PUBLISHED / p / "notebooks" / f"{guide}.ipynb").exists() for p in shown())
        words = r"This page trains nothing · page executed \d{4}-\d\d-\d\d"
        assert re.fullmatch(words if there else r"No results are published .*", line), line
        assert f'href="{guide}.html"' in front
    assert 'href="checklist.html"' in front


def test_what_a_page_folds_is_folded(html):
    for page in PAGES:
        notebook = json.loads((html.parent / "source" / "en" / f"{page}.ipynb").read_text("utf-8"))
        tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
        folded = sum(bool({"hide-input", "hide-cell"} & {*each}) for each in tags)
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert 0 < folded == len(re.findall(r'<details class="[^"]*hide above-input', text)), page


def test_published_pages_compare_their_block_with_the_papers_code():
    for page in PAGES.keys() - {OVERVIEW}:
        for path in PUBLISHED.glob(f"*/notebooks/{page}.ipynb"):
            assert "parameter gradients</th>" in path.read_text(encoding="utf-8"), path


# The study, whole and under way ------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory, se_gains, study_run):
    """With the runs that no page shows: the pilot, controls, budgets, width and faults."""
    folder = tmp_path_factory.mktemp("published") / "study"
    shutil.copytree(se_gains, folder)
    for comparison in (part for name in dict(ORDER) for part in EXTRA[name]):
        for entry in comparison.entries if comparison not in PAGES[OVERVIEW] else ():
            for seed in seeds_of(comparison, entry, PROFILES["study"].seeds):
                study_run(folder, comparison.task, entry, seed, 0.7)
    write_summary(folder, list(recorded_plans(folder).values()))
    return folder


def test_the_site_of_a_whole_study_says_what_is_decided_and_of_what(whole_study, tmp_path):
    shutil.copy(PROJECT / "README.md", tmp_path)
    done = build(whole_study.parent, tmp_path, "--readmes", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for page in ("index", "results"):
        text = unescape((tmp_path / "html" / f"{page}.html").read_text(encoding="utf-8"))
        assert (
            "Outcomes of the 24 claims: <strong>" in text
            and "smaller than reported</strong>" in text
        )
        assert "about these images, under this recipe, trained again with new seeds" in text
        assert 'href="protocol.html"' in text
        assert "under way" not in text
    assert "Not trained yet" not in text and "An accuracy is the mean over the folds" in text
    for heading in ("controls", "half-the-epochs", "twice-the-epochs", "wider"):
        assert f'<section id="{heading}">' in text
    front = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    claims = outcomes("study", whole_study.parent)
    assert assert_decided_are_named(claims, front, readme) >= 1
    front = unescape(front)
    assert "<li><p>Better: SE-ResNet-50 beside ResNet-50 on Animals-10" in front
    assert "<li><p>Not tested: SENet as published reaches 87% on CIFAR-10.</p></li>" in front
    row = re.search(r"<td><p>SE</p></td>(.*?)</tr>", front, re.DOTALL)[1]
    gain, outcome, wide, reported, _, step = re.findall(r"<p>(.*?)</p>", row)
    assert re.fullmatch(r"\+4\.\d\d \[\+\d\.\d\d,\xa0\+\d\.\d\d\]", gain)
    assert (outcome, reported) == ("better", "+28.4 †") and re.fullmatch(r"\+\d\.\d", wide)
    assert re.fullmatch(r"\+\d+%", step)
    assert "full width · seeds 0, 1 · 112 px, 32 epochs, a recipe of its own · NVIDIA" in front
    said = re.search(
        r"of 8 attention blocks added to ResNet-50, \d made it better \((.*?)\) and \d stayed",
        front,
    )
    assert "SE" in said[1].split("; ") and "NL" not in said[1].split("; ")
    assert "of a quarter of the published width" in front


@pytest.fixture
def front(book):
    return book("front")


def test_a_figure_has_its_own_words_and_else_its_name(book):
    chapters = book("chapters")
    source = 'figure = draw()\nplots.show(page, figure, "two_words")'
    picture = {"image/png": "x"}
    cell = nbformat.v4.new_code_cell(
        source,
        outputs=[nbformat.v4.new_output("display_data", picture, metadata={"image/png": {}})],
    )
    assert chapters.alternative_text(cell, "A block") == "A block: two words"
    cell.outputs[0].metadata = {"image/png": {"alt": "It ends at 0.5."}}
    assert chapters.alternative_text(cell, "A block") == "It ends at 0.5."
    assert chapters.alternative_text(nbformat.v4.new_code_cell("table"), "A block") is None


def test_a_page_is_shown_as_it_was_executed_in_its_language_else_in_english(book, tmp_path):
    executed_in = book("chapters").executed_in
    assert executed_in("zh_CN", tmp_path, "04_sge") is None
    english, chinese = tmp_path / "04_sge.ipynb", tmp_path / "zh_CN" / "04_sge.ipynb"
    english.touch()
    assert executed_in("zh_CN", tmp_path, "04_sge") == english
    chinese.parent.mkdir()
    chinese.touch()
    assert executed_in("zh_CN", tmp_path, "04_sge") == chinese
    assert executed_in("en", tmp_path, "04_sge") == english


def test_the_answer_adds_what_limits_an_outcome(front):
    claim = next(c for c in CLAIMS if c.better == SE.title and c.family == PRIMARY)
    outcome = "better by under 1.5 points, on these images"
    limited = Verdict(claim, True, "points", "5 of 5 folds", outcome, p_adjusted=0.01)
    assert front._named(limited) == "SE by under 1.5 points, on these images"
    assert front._named(replace(limited, outcome="better")) == "SE"


def test_the_answer_names_the_plain_network_and_the_blocks_that_never_finished(
    front, whole_study, monkeypatch
):
    pages = recorded_plans(whole_study)
    claims = [claim for claim in CLAIMS if claim.family == PRIMARY]
    shared = {"p_adjusted": 0.5, "value": 0.0}
    found = [Verdict(c, True, "points", "", "within 1.5 points", **shared) for c in claims]
    monkeypatch.setattr(front, "judged_claims", lambda pages: found)
    assert "of 8 attention blocks added to ResNet-50, 8 stayed within 1.5" in front.answer(pages)
    found[:2] = [
        replace(found[0], outcome="better", constant=True),
        replace(found[1], outcome="open", value=None),
    ]
    ends = front.answer(pages).partition("added to ResNet-50, ")[2]
    assert ends.startswith("6 stayed within 1.5 points of it (SRM; SGE; SA; NL; GC; BAT), ")
    assert "1 did the same to every image (SE) and 1 never finished (GE).**" in ends


def test_a_study_under_way_shows_means_and_folds_and_no_outcome(whole_study, tmp_path, front):
    folder = shutil.copytree(whole_study, tmp_path / "study")
    for path in (folder / "runs").glob("animals10-bat_resnet50-f[34]-*"):
        shutil.rmtree(path)
    pages = recorded_plans(folder)
    table = front.headline(front.subject(pages), {})
    assert table.loc["BAT", "Outcome"] == "3 of 5 folds"
    assert table.loc["SE", "Outcome"] == "5 of 5 folds"
    assert re.fullmatch(r"\+\d\.\d\d", table.loc["SE", "Points above ResNet-50"])  # no interval
    assert front.count(pages) == "None of the 24 claims is decided here."
    assert front.decided(pages) == ""
    every = len(list((whole_study / "runs").iterdir()))
    done = f"{every - 2} of {every}"
    assert front.under_way(pages) == f"**The profile study is under way:** {done} runs are done."
    assert front.answer(pages).startswith("**Not answered yet:** of the 45 runs that decide,")
    assert ", 43 are done; until all are" in front.answer(pages)
    assert not any(word in front.answer(pages) for word in OUTCOMES)
    assert front.foremost({"study": pages, "quick": {}}) == pages
    [path] = (folder / "runs").glob("animals10-gc_resnet50-f0-*/metrics.json")
    path.write_text('{"status": "failed", "reason": "the loss is not finite", "epoch": 2}')
    pages = recorded_plans(folder)
    assert done in front.under_way(pages)  # a run that diverged is done as well
    table = front.headline(front.subject(pages), {})
    assert table.loc["GC", "Outcome"] == "4 of 5 folds, 1 run diverged"


def test_a_study_is_under_way_until_the_last_run_that_no_page_shows(whole_study, tmp_path, front):
    assert front.under_way(recorded_plans(whole_study)) is None
    folder = shutil.copytree(whole_study, tmp_path / "study")
    experiments = {p: Run(p).experiment for p in (folder / "runs").iterdir()}
    [widest, *_] = (p for p, e in experiments.items() if e.recipe.width == 0.5)
    shutil.rmtree(widest)
    said = f"{len(experiments) - 1} of {len(experiments)} runs"
    assert said in front.under_way(recorded_plans(folder))


def test_claims_that_wait_for_runs_are_not_decided_yet_and_only_a_goal_is_not_tested(
    whole_study, tmp_path, front
):
    assert front.count(recorded_plans(whole_study)).count("**1 not tested**") == 1
    assert "not decided yet" not in front.count(recorded_plans(whole_study))
    folder = shutil.copytree(whole_study, tmp_path / "study")
    for path in (folder / "runs").glob("cifar10-*"):
        shutil.rmtree(path)
    counts = front.count(recorded_plans(folder))
    assert "**15 not decided yet** and **1 not tested**" in counts


def test_means_over_other_folds_are_told_from_those_over_the_same(whole_study, book):
    pages, included = recorded_plans(whole_study), book("included")
    assert included.same_seeds(pages[OVERVIEW], "animals10")
    assert not included.same_seeds(pages[OVERVIEW], "caltech16")  # VGG-19 has three


def test_parts_of_the_study_that_are_not_trained_are_said_to_be_so(book, tmp_path):
    included = book("included")
    assert included.controls(tmp_path / "study") == (
        "Not trained yet: Controls; Half the epochs; Twice the epochs; Half the published width."
    )
    assert included.pilot_trials(tmp_path / "study") == "No run of the pilot is published here."


def test_of_constant_blocks_no_outcome_is_listed(whole_study, tmp_path, front):
    folder = shutil.copytree(whole_study, tmp_path / "study")
    for path in (folder / "runs").glob("animals10-se_resnet50-*/metrics.json"):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps({**metrics, "frozen": {"accuracy": 0.7, "changed": 0.0}}))
    lines = front.decided(recorded_plans(folder)).splitlines()
    assert not any(line.startswith("* Better") and "SE-ResNet-50 >" in line for line in lines)
    constant = next(
        line for line in lines if line.startswith("* Constant: no verdict on attention")
    )
    assert "SE-ResNet-50 > ResNet-50 on Animals-10" in constant


def test_nothing_published_says_what_to_run(book, tmp_path, capsys):
    folders = ["--published", str(tmp_path / "none"), "--output", str(tmp_path / "site")]
    assert book("build").main(folders) == 2
    assert "make reproduce-all PROFILE=quick" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


# Where it is built -------------------------------------------------------------------------------


@pytest.fixture
def built(book, tmp_path, published_once, monkeypatch):
    """A function that builds a site in ``tmp_path / "site"`` without Sphinx; the exit code."""
    build = book("build")

    def render(source, language, output):
        site = output / "html" / build.SITES[language]
        site.mkdir(exist_ok=True)
        (site / ".buildinfo").touch()
        (site / "index.html").write_text(language)
        return 0

    def lay_out(plans, published, source, language):
        source.mkdir(parents=True)
        (source / "conf.py").touch()

    monkeypatch.setattr(build, "BOOK", tmp_path / "book")  # what would be lost is no book
    monkeypatch.setattr(build, "render", render)
    monkeypatch.setattr(build, "lay_out", lay_out)

    def make(*options, output=tmp_path / "site", published=published_once):
        folders = ["--published", str(published), "--output", str(output)]
        return build.main([*folders, *map(str, options)])

    return make


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["book", "book/site", "book/_build/../lessons"])
def test_no_site_is_built_among_the_books_own_files(built, tmp_path, place, capsys):
    for folder in ("published", "lessons", "_build"):
        (tmp_path / "book" / folder).mkdir(parents=True)
        (tmp_path / "book" / folder / "a file").touch()
    before = files(tmp_path)
    assert built("--results", tmp_path / "results", output=tmp_path / place) == 1
    assert "lies among the book's own files: choose another --output" in capsys.readouterr().err
    assert files(tmp_path) == before
    assert built(output=tmp_path / "book" / "_build" / "more") == 0


@pytest.mark.parametrize("name", ["html", "source"])
def test_what_was_not_made_here_is_not_replaced(built, tmp_path, name, capsys):
    (tmp_path / "site" / name / "zh").mkdir(parents=True)
    (tmp_path / "site" / name / "zh" / "mine.html").write_text("mine")
    assert built() == 1
    assert f"site/{name} was not made here: remove it, or choose" in capsys.readouterr().err
    assert [*files(tmp_path).values()] == [b"mine"]


def test_an_earlier_site_stays_until_the_new_one_is_whole(
    built, book, tmp_path, capsys, monkeypatch
):
    site = tmp_path / "site" / "html"
    site.mkdir(parents=True)  # an empty one is nobody's
    assert built() == 0
    said = f"Built {site}/index.html\nBuilt {site}/zh/index.html\n"
    assert capsys.readouterr().out == said
    before = files(site)
    assert before[site / "zh" / "index.html"] == b"zh_CN"

    def fail(source, language, output):
        assert files(site) == before
        return language == "zh_CN"

    with monkeypatch.context() as patched:
        patched.setattr(book("build"), "render", fail)
        assert built() == 1
    assert files(site) == before
    assert "Sphinx fails on " in capsys.readouterr().err
    assert built("--languages", "zh_CN") == built() == 0
    assert {path.name for path in site.parent.iterdir()} == {".build.lock", "html", "source"}


def test_own_results_that_cannot_be_shown_are_an_error_and_the_rest_is(built, tmp_path, capsys):
    (tmp_path / "results" / "quick" / "runs").mkdir(parents=True)
    assert built("--results", tmp_path / "results") == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and "make reproduce-all PROFILE=quick" in err
    assert out.startswith("Built ") and (tmp_path / "site" / "html" / "index.html").exists()


def test_a_damaged_record_is_an_error_and_no_traceback(built, tmp_path, published_once, capsys):
    published = shutil.copytree(published_once, tmp_path / "published")
    path = next(published.glob("smoke/runs/*/experiment.json"))
    path.write_text("{")
    assert built(published=published) == 1
    assert capsys.readouterr().err.startswith(f"error: {path} is not readable JSON (")
    assert not (tmp_path / "site").exists()


# What a page is asked in the browser -------------------------------------------------------------

# Its images that are empty, its formulas that are not drawn, how many are, and how many are wrong.
WHOLE = """
    const empty = [...document.images].filter(image => {
        if (!image.complete || image.naturalWidth < 2) return true;
        if (image.src.endsWith('.svg')) return false;
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 64;
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0, 64, 64);
        const pixels = new Uint32Array(context.getImageData(0, 0, 64, 64).data.buffer);
        return pixels.every(pixel => pixel === pixels[0]);
    }).map(image => image.src);
    const formulas = [...document.querySelectorAll('.math')];
    const bare = formulas.filter(formula => !formula.querySelector('mjx-container svg'));
    return {empty: empty, bare: bare.map(formula => formula.textContent), drawn: formulas.length,
            wrong: document.querySelectorAll('mjx-merror, [data-mjx-error]').length};
"""
# How wide it is on a screen of a width, and the first parts that stick out of it.
OVERFLOW = """
    const scrolls = node => node && (
        ['auto', 'scroll', 'hidden'].includes(getComputedStyle(node).overflowX)
        || scrolls(node.parentElement));
    const wide = [...document.querySelectorAll('.bd-article *')].filter(node =>
        node.getBoundingClientRect().right > arguments[0] + 1
        && !scrolls(node.parentElement));
    return [document.documentElement.scrollWidth,
            wide.slice(0, 3).map(node => node.outerHTML.slice(0, 200))];
"""
# In light or dark: text too faint for its ground, and the grounds of the page and of its figures.
CONTRAST = """
    document.documentElement.dataset.theme = arguments[0];
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const light = rgb => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = node => {
        for (; node; node = node.parentElement) {
            const rgb = parse(getComputedStyle(node).backgroundColor);
            if (rgb.length < 4 || rgb[3] > 0.5) return rgb;
        }
        return [255, 255, 255];
    };
    const faint = {};
    let read = 0;
    for (const node of document.querySelectorAll('.bd-article *, .bd-sidebar-primary a')) {
        const own = [...node.childNodes].some(
            child => child.nodeType === 3 && child.textContent.trim());
        const style = getComputedStyle(node);
        if (!own || style.visibility === 'hidden' || !node.offsetParent) continue;
        const [a, b] = [light(parse(style.color)), light(ground(node))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        read += 1;
        if (contrast < 4.5)
            faint[node.tagName + '.' + node.className] =
                [node.textContent.slice(0, 40), contrast.toFixed(2)];
    }
    const colour = node => parse(getComputedStyle(node).backgroundColor).slice(0, 3);
    return {faint: faint, read: read, page: colour(document.body),
            figures: [...document.querySelectorAll('.bd-article img')].map(colour)};
"""
MODES = ("light", "dark")


@pytest.fixture(scope="module")
def visited(browser, html, address):
    """Page -> what was seen of it: each is opened once, narrow, for it takes seconds."""
    seen = {}
    for name in [*pages_of_both(html), "genindex.html", "search.html", "zh/search.html"]:
        open_page(browser, address + name, NARROW)
        seen[name] = browser.execute_script(WHOLE)
        seen[name]["overflow"] = browser.execute_script(OVERFLOW, NARROW)
        if name in pages(html):
            resize(browser, WIDE)
            WebDriverWait(browser, 20).until(
                lambda b: b.execute_script("return innerWidth === arguments[0]", WIDE)
            )
            browser.execute_script("""
                const still = document.createElement('style');  // colours change at once
                still.textContent = '* {transition: none !important}';
                document.head.append(still);
            """)
            for mode in MODES:
                seen[name][mode] = browser.execute_script(CONTRAST, mode)
        seen[name]["troubles"] = troubles(browser, address)
    return seen


@needs_browser
def test_every_page_opens_whole(visited):
    for name, page in visited.items():
        assert page["troubles"] == [], name
        assert page["empty"] == [], name
        assert page["bare"] == [] and page["wrong"] == 0, name
    assert sum(page["drawn"] for page in visited.values()) > 5


@needs_browser
def test_a_figure_opens_as_large_as_it_was_drawn(browser, html, address):
    open_page(browser, address + "index.html")
    figures = browser.execute_script("""
        return [...document.querySelectorAll('.bd-article img')].map(image =>
            [image.parentElement.href, image.src, image.naturalWidth, image.clientWidth]);
    """)
    assert figures
    for link, source, drawn, shown in figures:
        assert link == source and drawn > shown


@needs_browser
def test_nothing_overflows_a_narrow_screen(visited, html):
    for name in pages_of_both(html):
        width, wide = visited[name]["overflow"]
        assert wide == [] and width <= NARROW, name


@needs_browser
@pytest.mark.parametrize("mode", MODES)
def test_text_stands_out_from_its_ground(visited, html, mode):
    for name in pages(html):
        seen = visited[name][mode]
        assert seen["read"] > 20, name
        assert seen["faint"] == {}, name
        assert (sum(seen["page"]) < 150) == (mode == "dark"), name
        if mode == "dark":  # figures are drawn for a white ground
            assert all(sum(ground) > 600 for ground in seen["figures"]), name


@needs_browser
@pytest.mark.parametrize("mode", MODES)
def test_the_chosen_theme_is_kept(browser, address, mode):
    browser.get(address)
    browser.execute_script(f"localStorage.setItem('mode', '{mode}')")
    browser.execute_script(f"localStorage.setItem('theme', '{mode}')")
    open_page(browser, address + "method.html")
    assert browser.execute_script("return document.documentElement.dataset.theme") == mode
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == (mode == "dark")
    browser.execute_script("localStorage.clear()")


def neighbour(page, side):
    """The page that a page's link to the next or previous one names; None without such a link."""
    text = page.read_text(encoding="utf-8")
    link = re.search(rf'<a class="{side}"\s+href="(.*?)"', text)
    return link and link[1]


def test_next_leads_through_all_pages_and_previous_back(html):
    chain = ["index.html"]
    while following := neighbour(html / chain[-1], "right-next"):
        assert neighbour(html / following, "left-prev") == chain[-1]
        chain.append(following)
        assert len(chain) <= len(pages(html))
    assert sorted(chain) == pages(html)
    chapters = [name for name in chain if name[0] == "0"]
    assert chapters == sorted(chapters)


@needs_browser
def test_the_links_to_the_next_and_the_previous_page_can_be_clicked(browser, html, address):
    open_page(browser, address + "index.html")
    for side, target in (
        ("right-next", neighbour(html / "index.html", "right-next")),
        ("left-prev", "index.html"),
    ):
        browser.find_element("css selector", f"a.{side}").click()
        assert urlsplit(browser.current_url).path.lstrip("/") == target


def found(browser, address, query):
    """The pages that a search finds, by their paths."""
    open_page(browser, f"{address}search.html?q={query}")
    wait = WebDriverWait(browser, 20)
    wait.until(lambda b: b.find_elements("css selector", "#search-results li a"))
    wait.until(lambda b: b.find_element("css selector", ".search-summary").text.strip())
    links = browser.find_elements("css selector", "#search-results li a")
    assert troubles(browser, address.removesuffix("zh/")) == []
    return {urlsplit(link.get_attribute("href")).path for link in links}


@needs_browser
def test_search_finds_a_page(browser, address):
    assert "/method.html" in found(browser, address, "simultaneous")

    wait = WebDriverWait(browser, 20)
    open_page(browser, address + "index.html")
    buttons = browser.find_elements("css selector", "button.search-button__button")
    next(button for button in buttons if button.is_displayed()).click()
    field = wait.until(lambda b: b.switch_to.active_element)
    field.send_keys("interval\n")
    wait.until(lambda b: "search.html?q=interval" in b.current_url)
    wait.until(lambda b: b.find_elements("css selector", "#search-results li a"))


# The Chinese site --------------------------------------------------------------------------------


@needs_browser
def test_search_finds_chinese_words_and_english_ones_in_chinese_pages(browser, html, address):
    said = {name: words(html / "zh" / name) for name in pages(html / "zh")}
    for query in ("注意力", "置信区间", "simultaneous"):
        there = {f"/zh/{name}" for name, text in said.items() if query in text}
        assert there and there <= found(browser, f"{address}zh/", query), query


def words(page):
    """What the article of a page says, without its markup."""
    article = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    return unescape(re.sub(r"<[^>]*>", "", article))


def test_the_switch_names_the_same_page_of_the_other_language(html):
    for name in [*pages(html), "genindex.html", "search.html"]:
        for folder, language, other in ((html, "en", "zh/"), (html / "zh", "zh-CN", "../")):
            text = (folder / name).read_text(encoding="utf-8")
            assert f'<html lang="{language}"' in text
            [link] = re.findall(r'<a class="[^"]*language" href="(.*?)"', text)
            assert (folder / link).resolve() == (folder / other / name).resolve()
            assert (folder / link).exists()


def test_a_section_has_the_same_anchor_in_both_languages(html):
    for name in pages(html):
        english, chinese = (
            re.findall(r'<section [^>]*id="(.*?)"', (folder / name).read_text(encoding="utf-8"))
            for folder in (html, html / "zh")
        )
        assert english == chinese, name


@needs_browser
def test_the_switch_works_without_a_server(browser, html):
    resize(browser, NARROW)
    browser.get((html / "method.html").as_uri())
    for target in (html / "zh" / "method.html", html / "method.html"):
        browser.find_element("css selector", "a.language").click()
        assert browser.current_url == target.as_uri()


@needs_browser
def test_every_character_of_the_chinese_site_has_a_glyph(browser, html, address):
    letters = set().union(*(words(html / "zh" / name) for name in pages(html / "zh")))
    letters = sorted(letter for letter in letters if letter.isprintable() and letter > "~")
    open_page(browser, f"{address}zh/index.html")
    bare, boxes = browser.execute_script(
        """
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d', {willReadFrequently: true});
        const article = document.querySelector('.bd-article');
        context.font = '24px ' + getComputedStyle(article).fontFamily;
        context.textBaseline = 'top';
        const drawn = letter => {
            context.clearRect(0, 0, 40, 40);
            context.fillText(letter, 4, 4);
            return context.getImageData(0, 0, 40, 40).data.join();
        };
        const box = drawn(String.fromCodePoint(0x10fffd));  // no font has it
        return [drawn('字') === box, arguments[0].filter(letter => drawn(letter) === box)];
    """,
        letters,
    )
    if bare:
        pytest.skip("no font for Chinese; apt-get install fonts-noto-cjk")
    assert boxes == []
