"""Made-up results: records and an executed page as a reproduction leaves them, without training."""

import base64
import csv
import importlib
import io
import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from attn_blocks.files import PROJECT, write_json
from attn_book.driver import publish as publishing
from attn_book.records import recorded
from attn_book.records.logits import save_logits
from attn_book.records.reading import HISTORY_COLUMNS
from attn_book.records.semantics import versions_of
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GC, RESNET, SENETS, SGE
from attn_book.study.recipes import PROFILES

SEEDS = (0, 1, 2)


@pytest.fixture
def book(monkeypatch):
    """A module of ``book/``, imported as the build does."""
    pytest.importorskip("sphinx", reason="the site is built with Sphinx; pip install '.[book]'")
    monkeypatch.syspath_prepend(str(PROJECT / "book"))
    yield importlib.import_module
    plt.close("all")


@pytest.fixture(scope="session")
def picture():
    """A PNG that could be packed tighter, as base64."""
    stream = io.BytesIO()
    pixels = np.tile(np.arange(60, dtype=np.uint8)[:, None] * 4, (40, 1, 3))
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return base64.b64encode(stream.getvalue()).decode()


def write_run(folder, entry, task, seed, accuracy, fingerprint="f" * 64, finished="2026-01-02"):
    """A finished run of the smoke profile; returns its folder."""
    recipe = PROFILES["smoke"].recipes[task]
    experiment = Experiment("shapes", fingerprint, entry.model, recipe, seed, dict(entry.options))
    run = folder / "runs" / experiment.name
    run.mkdir(parents=True)
    classes = ["circle", "square"]
    correct = round(accuracy * 10)
    write_json(
        run / "experiment.json",
        {
            "name": experiment.name,
            **experiment.to_dict(),
            "data": {
                "title": "Shapes",
                "label": f"Shapes (2 classes; 40 / 10 images {fingerprint[0]})",
                "classes": classes,
                "class_total": 2,
                "train_images": 40,
                "validation_images": 10,
            },
            "compute": {"device": "cpu", "threads": 1, "processor": "a processor"},
            "versions": {"python": "3.11"},
            "git_commit": None,
            "semantics": versions_of(experiment),
        },
    )
    rows = [
        (1, 0.05, 2.0, 0.3, 2.1, (correct - 1) / 10, 1.5),
        (2, 0.01, 1.0, 0.6, 1.1, correct / 10, 1.25),
    ]
    with (run / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([HISTORY_COLUMNS, *rows])
    write_json(
        run / "metrics.json",
        {
            "status": "finished",
            "final_val_acc": correct / 10,
            "final_train_acc": 0.6,
            "best_val_acc": correct / 10,
            "best_epoch": 2,
            "params": 1000 + len(entry.model),
            "macs": 10**6,
            "seconds": 2.8,
            "images_per_second": 29.1,
            "peak_memory_mb": 100.0,
            "confusion": [[correct, 0], [10 - correct, 0]],
            "finished": f"{finished}T12:00:00+00:00",
        },
    )
    labels = np.array([0] * correct + [1] * (10 - correct))
    save_logits(run / "logits.safetensors", np.tile([1.0, 0.0], (10, 1)), labels)
    (run / "last.safetensors").write_bytes(b"weights")
    (run / "train.log").write_text("a log")
    return run


def write_page(folder, page, picture, executed="2026-01-03T08:00:00+00:00"):
    """An executed notebook that shows the runs below ``folder``, with all that is to be removed."""
    plan = recorded.recorded_plans(folder)[page]
    v4 = nbformat.v4
    first = v4.new_code_cell(
        "page",
        outputs=[
            v4.new_output("stream", name="stderr", text="/home/someone/lib/x.py:1: UserWarning"),
            v4.new_output(
                "execute_result",
                data={
                    "text/markdown": f"**{page}** — {plan.provenance}",
                    "text/plain": "Plan(data_dir=PosixPath('/home/someone/data'))",
                },
            ),
        ],
        metadata={"execution": {"started": "now"}, "papermill": {"duration": 1}},
    )
    figure = v4.new_output("display_data", data={"image/png": picture, "text/plain": "<Figure>"})
    table = v4.new_output("display_data", data={"text/html": TABLE, "text/plain": "a table"})
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# A block\n\nDoes it help?"),
            v4.new_code_cell("profile = None", metadata={"tags": ["parameters"]}),
            v4.new_code_cell(
                '# Parameters\nprofile = "smoke"\ndata_dir = "/home/someone/data"\n'
                'results_dir = "/home/someone/results"\n',
                metadata={"tags": ["injected-parameters"]},
            ),
            first,
            v4.new_markdown_cell(FORMULA),
            v4.new_code_cell(
                'plots.show(page, plots.training_curves(runs), "curves")', outputs=[figure]
            ),
            v4.new_code_cell("results.accuracy_table(page)", outputs=[table]),
            v4.new_code_cell("1 + 1", metadata={**FOLD, "papermill": {"duration": 1}}),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "papermill": {"end_time": executed, "output_path": "/home/someone/results/x.ipynb"},
        },
    )
    path = folder / "notebooks" / f"{page}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


FOLD = {"tags": ["hide-cell"], "mystnb": {"code_prompt_show": "Solution"}}
FORMULA = "## Formula\n\nHere $x$ and\n\n$$\ny = \\sigma(" + "x + " * 40 + "x)\n$$"
# As pandas writes it: the name of the index in a row of its own.
TABLE = """<div><table border="1" class="dataframe"><thead>
<tr style="text-align: right;"><th></th><th>Reported</th><th>Final accuracy</th></tr>
<tr><th>Model</th><th></th><th></th></tr></thead>
<tbody><tr><th>ResNet-50</th><td>0.5888</td><td>0.5000</td></tr></tbody></table></div>"""


def fill(results, picture):
    """Results of the smoke profile: one page whole, others in part."""
    folder = results / "smoke"
    for number, entry in enumerate((RESNET, SGE, GC)):
        for seed in SEEDS:
            write_run(folder, entry, "animals10", seed, 0.5 + 0.1 * number + 0.1 * (seed % 2))
    for number, entry in enumerate(SENETS.entries):
        write_run(folder, entry, "cifar10", 0, 0.3 + 0.1 * number)
    write_page(folder, "04_sge", picture)
    return results


@pytest.fixture
def made_up(tmp_path, picture):
    """A results folder with a profile ``smoke``."""
    return fill(tmp_path / "results", picture)


@pytest.fixture(scope="session")
def published_once(tmp_path_factory, picture):
    """What publishing the made-up results gives, for tests that do not change it."""
    folder = tmp_path_factory.mktemp("made-up")
    publishing.publish("smoke", fill(folder / "results", picture), folder / "published")
    return folder / "published"


@pytest.fixture
def add_run():
    """The function that writes one more run."""
    return write_run


@pytest.fixture
def edit():
    """The function that changes a JSON file: ``edit(path, key=value)``."""

    def change(path, **values):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, **values}), encoding="utf-8")

    return change
