"""All pages and guides, executed headless in the smoke profile by the command readers use."""

import csv
import inspect
import itertools
import os
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest

from attn_blocks import native
from attn_blocks.files import PROJECT
from attn_blocks.layers import ATTNS
from attn_book.study.claims import CLAIMS
from attn_book.study.pages import GUIDES, OVERVIEW, PAGES
from attn_book.training import loop

FIGURES = {"block", "samples", "curves", "confusion", "grad_cam"}
# The imports, and a single call from which a reader learns nothing but its output.
PLUMBING = re.compile(
    r"^page = plan\(|\A(findings|readings|reference|tables|verdicts)\.[^\n]*\Z", re.MULTILINE
)


@pytest.fixture(scope="module")
def results_dir(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    # Where the native operators are missing, every training warns of it, as it should.
    switch = {} if native.available() else {"ATTN_BLOCKS_NATIVE": "0"}
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "attn_book",
            "reproduce",
            "--profile",
            "smoke",
            "--data-dir",
            str(data_dir),
            "--results-dir",
            str(folder),
        ],
        capture_output=True,
        text=True,
        env=os.environ | switch,
        timeout=1500,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder / "smoke"


def executed(results_dir, page):
    return nbformat.read(results_dir / "notebooks" / f"{page}.ipynb", as_version=4)


def texts(notebook):
    """Everything that the cells put out, as text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            yield from (data.get(kind, "") for kind in ("text/plain", "text/markdown", "text/html"))
            yield output.get("text", "")


@pytest.mark.parametrize("page", [*PAGES, *GUIDES])
def test_every_cell_ran_without_warnings(results_dir, page):
    notebook = executed(results_dir, page)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("page", PAGES)
def test_the_parameters_reached_the_page(results_dir, page):
    words = "".join(texts(executed(results_dir, page)))
    data = "Shapes (10 classes; 40 / 20 images)"
    assert f"**{page}** — profile smoke · {data} · seed 0 · cpu" in words


@pytest.mark.parametrize("page", PAGES)
def test_its_figures_exist_and_none_is_blank(results_dir, page):
    made = {
        path.stem.removeprefix(f"{page}_"): path
        for path in (results_dir / "figures").glob(f"{page}_*.png")
    }
    expected = FIGURES if page != OVERVIEW else {"sge", "srm", "nonlocal", "sa", "senet"}
    assert {name for name in expected if not any(name in found for found in made)} == set()
    for path in made.values():
        image = plt.imread(path)
        assert min(image.shape[:2]) > 100
        assert image[..., :3].std() > 0.02, path.name


@pytest.mark.parametrize("page", PAGES)
def test_its_tables_have_the_rows_they_promise(results_dir, page):
    words = "".join(texts(executed(results_dir, page)))
    for comparison in PAGES[page]:
        for entry in comparison.entries:
            assert re.search(rf"{re.escape(entry.title)}\s+[\d–]", words), entry.title
    for claim in CLAIMS:
        if claim.page == page or page == OVERVIEW:
            assert claim.text in words


def test_the_summary_has_a_row_for_every_run_and_claim(results_dir):
    with (results_dir / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 17
    assert {row["status"] for row in rows} == {"finished"}
    assert {page for row in rows for page in row["page"].split()} == set(PAGES)
    plain = next(row for row in rows if row["model"] == "resnet50" and "01_se" in row["page"])
    assert len(plain["page"].split()) == 9  # trained once, shown on every page
    with (results_dir / "verdicts.csv").open(newline="") as stream:
        verdicts = list(csv.DictReader(stream))
    assert [row["claim"] for row in verdicts] == [claim.text for claim in CLAIMS]


# What the pages hold, before they are executed ----------------------------------------------------


def cells_of(page):
    return nbformat.read(PROJECT / "notebooks" / f"{page}.ipynb", as_version=4).cells


def tags_of(cell):
    return cell.metadata.get("tags", [])


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_its_column_and_plumbing_is_folded(page):
    code = [cell for cell in cells_of(page) if cell.cell_type == "code"]
    for cell in code:
        assert max(map(len, cell.source.splitlines())) <= 88, cell.source
        if PLUMBING.search(cell.source):
            assert tags_of(cell) == ["hide-input"], cell.source


@pytest.mark.parametrize("page", [page for page in PAGES if page != OVERVIEW])
def test_sentences_follow_every_figure_of_what_is_inside(page):
    cells = cells_of(page)
    start, end = (
        next(i for i, cell in enumerate(cells) if cell.source.startswith(heading))
        for heading in ("## Looking inside\n", "## What it costs")
    )
    for i in range(start, end):
        if "plots.show(" in cells[i].source:
            assert cells[i + 1].source.startswith("readings."), cells[i].source


@pytest.mark.parametrize("page", PAGES)
def test_every_exercise_has_a_folded_solution_below_it(page):
    cells = cells_of(page)
    start = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Exercises\n"))
    exercises = [i for i in range(start, len(cells)) if re.search(r"(?m)^\d\. ", cells[i].source)]
    assert len(exercises) == 3
    for exercise, following in itertools.pairwise([*exercises, len(cells)]):
        solution, *code = cells[exercise + 1 : following]
        assert solution.source.startswith("<details>\n<summary>Solution</summary>\n\n")
        assert solution.source.endswith("\n\n</details>")
        assert all("hide-cell" in tags_of(cell) for cell in code)


@pytest.mark.parametrize("page", [page for page in PAGES if page != OVERVIEW])
def test_it_shows_its_whole_block(results_dir, page):
    words = "".join(texts(executed(results_dir, page)))
    block = ATTNS[page.partition("_")[2]]
    for method in (block.__init__, block.forward):
        assert inspect.getsource(method).rstrip() in words


@pytest.mark.parametrize("page", PAGES)
def test_a_block_of_the_readers_is_trained(results_dir, page):
    words = "".join(texts(executed(results_dir, page)))
    assert re.search(r"(?m)^MyBlock +[\d,]+ ", words)


def test_the_first_page_shows_the_training_loop(results_dir):
    words = "".join(texts(executed(results_dir, "01_se")))
    for function in (loop.train, loop.train_epoch, loop.evaluate):
        assert inspect.getsource(function).rstrip() in words
