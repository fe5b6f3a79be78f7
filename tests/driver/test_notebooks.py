"""All pages and guides, executed headless in the smoke profile by the command readers use."""

import csv
import importlib.util
import inspect
import itertools
import os
import platform
import re
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import paddle
import pandas as pd
import pytest

from attn_blocks import native
from attn_blocks.files import PROJECT
from attn_blocks.layers import ATTNS, list_attns
from attn_book.analysis import verdicts
from attn_book.driver import cli, reproduce, summary
from attn_book.study import plan
from attn_book.study.claims import CLAIMS
from attn_book.study.pages import GUIDES, OVERVIEW, PAGES
from attn_book.training import loop

PAGE = "04_sge"
FIGURES = {"block", "samples", "curves", "confusion", "grad_cam"}
# The imports, and a single call from which a reader learns nothing but its output.
PLUMBING = re.compile(
    r"^page = plan\(|\A(findings|readings|reference|tables|verdicts)\.[^\n]*\Z", re.MULTILINE
)


@pytest.fixture(scope="module")
def options(data_dir, tmp_path_factory):
    results_dir = tmp_path_factory.mktemp("pages")
    return ["--profile", "smoke", "--data-dir", data_dir, "--results-dir", results_dir]


def reproduce_command(*arguments):
    """What the command prints."""
    # Where the native operators are missing, every training warns of it, as it should.
    switch = {} if native.available() else {"ATTN_BLOCKS_NATIVE": "0"}
    answer = subprocess.run(
        [sys.executable, "-m", "attn_book", "reproduce", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | switch,
        timeout=1500,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def written(folder):
    """When each file of the runs, notebooks and figures was written."""
    return {
        path: path.stat().st_mtime_ns
        for name in ("runs", "notebooks", "figures")
        for path in (folder / name).rglob("*")
        if path.suffix != ".lock"
    }


def tables(folder):
    return {name: (folder / name).read_text() for name in ("summary.csv", "verdicts.csv")}


@pytest.fixture(scope="module")
def first(options):
    """One page reproduced from nothing: what was printed and summed up, and what was written."""
    printed, folder = reproduce_command("sge", *options), options[-1] / "smoke"
    return SimpleNamespace(printed=printed, tables=tables(folder), written=written(folder))


@pytest.fixture(scope="module")
def all_printed(first, options):
    """What is printed when all pages are reproduced, after ``first``."""
    return reproduce_command(*options)


@pytest.fixture(scope="module")
def results_dir(all_printed, options):
    return options[-1] / "smoke"


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
    data = re.escape("Shapes (10 classes; 40 / 20 images), 56 px, width 0.0625")
    assert re.search(rf"\*\*{page}\*\* — profile smoke · .*{data}.* · seed 0 · cpu", words)


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
        judged = list(csv.DictReader(stream))
    assert [row["claim"] for row in judged] == [claim.text for claim in CLAIMS]


# One page, then all, then one again ---------------------------------------------------------------


def test_a_page_is_trained_executed_and_summed_up(first, results_dir):
    assert "1 page, 2 runs, 0 of them finished" in first.printed
    assert "Shapes" in first.printed
    assert "SGE-ResNet-50" in first.printed
    runs = first.tables["summary.csv"].splitlines()
    assert runs[0] == ",".join(summary.SUMMARY_COLUMNS)
    assert len(runs) == 3
    for line in runs[1:]:
        _, pages, part, *what = line.split(",")
        assert PAGE in pages.split()
        assert (part, what[:2]) == ("", ["shapes", "10"])
    assert all(line.endswith(",cpu,finished") for line in runs[1:])
    claims = first.tables["verdicts.csv"].splitlines()
    assert claims[0] == ",".join(verdicts.VERDICT_COLUMNS)
    assert len(claims) == 3
    assert all(line.endswith(",not tested,1 of 1 seed") for line in claims[1:])
    made = {path.relative_to(results_dir).as_posix() for path in first.written}
    assert {name for name in made if name.endswith(".ipynb")} == {f"notebooks/{PAGE}.ipynb"}
    assert f"figures/{PAGE}_curves.png" in made


def test_all_pages_take_what_one_has_made(first, all_printed, results_dir):
    assert f"{len(PAGES) + len(GUIDES)} pages, 17 runs, 2 of them finished" in all_printed
    assert "Up to date: 1 page" in all_printed
    after = written(results_dir)
    assert first.written == {path: after.get(path) for path in first.written}


def test_another_call_makes_nothing_again(results_dir, options, capsys):
    before = written(results_dir), tables(results_dir)
    assert cli.main(["reproduce", PAGE, *map(str, options)]) == 0
    printed = capsys.readouterr().out
    assert "1 page, 2 runs, 2 of them finished" in printed
    assert "Up to date: 1 page" in printed
    assert before == (written(results_dir), tables(results_dir))


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


# What the guides say of what they ran -------------------------------------------------------------

HAS_ONNX = all(map(importlib.util.find_spec, ("paddle2onnx", "onnxruntime")))
BETWEEN = {"nl", "gc", "bat"}


@pytest.fixture(scope="module")
def outputs(results_dir):
    """Guide -> the outputs of each cell that has any: tables, and text as it was printed."""
    return {
        guide: [part for cell in executed(results_dir, guide).cells for part in parts(cell)]
        for guide in GUIDES
    }


def parts(cell):
    """The outputs of a cell; what it printed in several goes, which is a matter of time, as one."""
    grouped = itertools.groupby(cell.get("outputs", ()), key=lambda o: "data" not in o)
    for printed, outputs in grouped:
        if printed:
            yield "".join(output["text"] for output in outputs)
        else:
            yield from map(shown, outputs)


def shown(output):
    data = output.get("data", {})
    return table(data["text/html"]) if "text/html" in data else output["text"]


def table(html):
    """A table as pandas writes it, of text."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", html, re.DOTALL)
    header, *body = (re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows)
    return pd.DataFrame([row[1:] for row in body], [row[0] for row in body], header[1:])


def test_guides_alone_need_no_images_and_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan.datasets, "load", lambda *_, **__: pytest.fail("images were loaded"))
    monkeypatch.setattr(reproduce.Schedule, "run", lambda _: 0)  # it has executed them above
    assert reproduce.reproduce(GUIDES, profile="smoke", results_dir=tmp_path) == 0
    printed = capsys.readouterr().out
    assert "2 pages, 0 runs" in printed and "Data:" not in printed
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_guides_leave_nothing_but_themselves(results_dir):
    of_guides = {path.name for guide in GUIDES for path in results_dir.rglob(f"*{guide}*")}
    assert {name for name in of_guides if name[0] != "."} == {f"{guide}.ipynb" for guide in GUIDES}


def test_every_block_goes_into_a_network_of_ones_own(outputs):
    blocks, refused, gradients, into_resnet, same, into_mobilenet, changes, _, _ = outputs[
        "own_network"
    ]
    assert set(blocks.index) == set(gradients.index) == set(changes.index) == set(list_attns())
    assert set(blocks["output"]) == {"[2, 128, 14, 14]"}
    assert re.findall(r"(\w+: .*; \w+=\d+ works)", refused) == refused.splitlines()
    assert set(gradients.index[gradients["place"] == "between"]) == BETWEEN
    tensors, reached = (gradients[c].astype(int) for c in ("tensors", "with a gradient"))
    assert list(gradients.index[reached == 0]) == list(gradients.index[tensors == 0]) == ["ge"]
    assert set(gradients.index[reached < tensors]) == {"nl", "gc", "sa", "srm", "bat"}
    assert (tensors - reached)["bat"] == 4  # biases in front of a batch norm
    for line in (into_resnet, into_mobilenet):
        before, after = (int(n.replace(",", "")) for n in re.findall(r"\d[\d,]{5,}", line))
        assert after > before
    assert same.startswith("missing [], unknown [], largest difference ")
    assert float(same.split()[-1]) < 1e-5
    moved = changes["change of the logits"].astype(float)
    assert set(moved.index[moved == 0]) == {"nl", "gc"}


def test_pytorch_weights_give_pytorchs_output_or_are_refused(outputs):
    loaded, refused = outputs["own_network"][-2:]
    assert float(loaded.split()[-1]) < 1e-12
    assert refused.startswith("the state does not fit StyleRecalibration, nothing was loaded")


def test_every_exported_network_computes_the_same(outputs):
    version, sizes, dropping, process, differences, onednn, onnx = outputs["export"]
    assert version.split() == ["Paddle", paddle.__version__]
    assert set(sizes.index) == set(differences.index) == set(list_attns())
    assert list(sizes.columns) == [".pdiparams", ".json"]
    assert float(dropping.split()[-1]) > 0.01
    assert float(process.split()[-1]) < 1e-4
    assert list(differences.columns) == [
        "paddle.jit.load",
        "paddle.inference",
        "one image alone",
    ]
    assert differences.astype(float).to_numpy().max() < 1e-4
    if paddle.__version__ == "3.3.1" and platform.machine() == "x86_64":
        of_ge, of_gc = onednn.splitlines()
        assert float(of_ge.split()[-1]) > 0.01
        assert of_gc.startswith("gc: InvalidArgumentError: MKL-DNN Layer Norm supports only")
    if HAS_ONNX:
        assert set(onnx.index) == set(list_attns())
        assert onnx["ONNX Runtime"].astype(float).max() < 1e-4
    else:
        assert "paddle2onnx is not installed here" in onnx


def test_the_code_for_paddleclas_prints_what_the_page_says():
    text = (PROJECT / "notebooks" / "own_network.ipynb").read_text(encoding="utf-8")
    cells = [cell.source for cell in nbformat.reads(text, as_version=4).cells]
    [cell] = [source for source in cells if "from paddleclas" in source]
    [code] = re.findall(r"```python\n(.*?)```", cell, re.DOTALL)
    compile(code, "own_network.ipynb", "exec")
    pytest.importorskip("paddleclas", reason="PaddleClas needs an environment of its own")
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    printed = answer.stdout.splitlines()[-1]
    assert f"it prints `{printed}`" in cell, answer.stderr
