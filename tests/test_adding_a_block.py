"""README's "Adding a block", followed to the letter on a copy of the checkout: ECA in three places.

Efficient Channel Attention (Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151) gates each
channel by a 1-D convolution over the means of its neighbours.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import nbformat
import pytest

from attn_blocks.files import PROJECT

BLOCK = '''"""Efficient Channel Attention, https://arxiv.org/abs/1910.03151."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from attn_blocks.layers.base import check_input, positive, register


@register("eca")
class EfficientChannelAttention(nn.Layer):
    """y = x * sigmoid(w * z): z the mean of x over its pixels, w a 1-D convolution of size k."""

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        k = positive("kernel_size", kernel_size)
        self.conv = nn.Conv1D(1, 1, k, padding=k // 2, bias_attr=False)

    def gate(self, x: paddle.Tensor) -> paddle.Tensor:
        z = x.mean((2, 3))  # [N, C]
        return F.sigmoid(self.conv(z.unsqueeze(1))).reshape([-1, self.channels, 1, 1])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_input(self, x)
        return x * self.gate(x)
'''
PAGE = '        "10_eca": (_animals(Entry("eca_resnet50", "ECA-ResNet-50")),),\n'
CELLS = [
    "# Efficient Channel Attention",
    """profile = seeds = data_dir = results_dir = device = epochs = None""",
    """import attn_book
import attn_blocks as ab
from attn_book.analysis import explain, plots, tables, verdicts
from attn_book.records import planned
from attn_book.training import run as training_run

page = attn_book.plan("10_eca", profile, seeds, data_dir, results_dir, device, epochs)
plots.show(page, plots.block_diagram("eca"), "block")""",
    """training_run.train_all(page)
runs = planned.runs_of(page, "animals10")
for figure in (plots.training_curves, plots.accuracy_against_cost, plots.confusion_matrices):
    plots.show(page, figure(runs), figure.__name__)
plots.show(page, plots.gain_forest(page), "gains")""",
    """run = runs["ECA-ResNet-50"][0]
view = explain.View(page, "animals10", run)
assert len(view.channel_gates()) == 16
plots.show(page, plots.walk(view.walk(stage=1)), "walk")
gates = explain.channel_gates_by_class(page, "animals10", run)
plots.show(page, plots.channel_gates(gates), "gates")
plots.show(page, plots.grad_cam(explain.grad_cams(page, "animals10", runs)), "grad_cam")
print(verdicts.verdict_text(page))
tables.accuracy_table(page, "animals10")""",
]
# One test more for the copy, beside those that TESTS names.
COUNTED = """
import attn_blocks as ab

def test_eca_is_built_and_counted():
    model = ab.create_model("eca_resnet50", num_classes=10, kernel_size=5)
    plain = ab.create_model("resnet50", num_classes=10)
    assert ab.count_params(model) - ab.count_params(plain) == 16 * 5  # sixteen blocks of five
    assert ab.count_macs(model, (3, 64, 64)) > ab.count_macs(plain, (3, 64, 64))
    layer1 = {"channels": 256, "map": 56, "kernel_size": 5}
    assert model.settings["attn"]["eca"]["layer1"] == layer1
    names = [name for name in ab.list_models() if name.startswith("eca_")]
    assert names == [f"eca_resnet{depth}" for depth in (18, 34, 50, 101)]
"""


def page():
    """A page that exists, with other cells; its second one takes the parameters."""
    notebook = nbformat.read(PROJECT / "notebooks/04_sge.ipynb", as_version=4)
    notebook.cells = [nbformat.v4.new_markdown_cell(CELLS[0])]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in CELLS[1:]]
    notebook.cells[1].metadata["tags"] = ["parameters"]
    return notebook


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this checkout with the three additions."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("src", "notebooks"):
        shutil.copytree(
            PROJECT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    (folder / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    (folder / "src/attn_blocks/layers/eca.py").write_text(BLOCK)
    pages = folder / "src/attn_book/study/pages.py"
    text = pages.read_text()
    before, _, after = text.partition("        OVERVIEW: (")
    assert after, "PAGES is no longer where README says"
    pages.write_text(f"{before}{PAGE}        OVERVIEW: ({after}")
    nbformat.write(page(), folder / "notebooks/10_eca.ipynb")
    return folder


def python(checkout, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "ATTN_BLOCKS_NATIVE": "0"}
    answer = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_the_readme_names_the_three_places():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Adding a block")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d\. .*`(src|notebooks)/([\w/<>.]+)`", section, re.MULTILINE)
    assert [f"{top}/{rest}" for top, rest in steps] == [
        "src/attn_blocks/layers/<name>.py",
        "src/attn_book/study/pages.py",
        "notebooks/<number>_<name>.ipynb",
    ]


def test_its_page_trains_and_draws(checkout, data_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--results-dir", str(tmp_path)]
    python(checkout, "-m", "attn_book", "reproduce", "eca", "--profile", "smoke", *folders)
    assert list((tmp_path / "smoke/runs").glob("shapes-eca_resnet50-f0-s0-*/metrics.json"))
    figures = {path.stem for path in (tmp_path / "smoke/figures").glob("10_eca_*.png")}
    names = ["block", "training_curves", "accuracy_against_cost", "confusion_matrices"]
    assert figures == {f"10_eca_{name}" for name in [*names, "gains", "walk", "gates", "grad_cam"]}


TESTS = [
    "conftest.py",
    "layers/test_properties.py",
    "layers/test_registry.py",
    # What these ask for is asked of the eight blocks of the book alone.
    "analysis/test_diagrams.py",
    "analysis/test_reference.py",
    "book/test_sources.py",
]
# Test -> how often it runs for one block.
HELD = {
    "test_shape_is_kept_for_odd_and_oblong_maps": 4,
    "test_samples_do_not_see_each_other_in_evaluation": 1,
    "test_gradients_are_finite_at_constant_maps": 12,
    "test_gradient_is_the_slope_of_the_output": 2,
    "test_second_derivative_is_the_slope_of_the_first": 1,
    "test_traced_block_gives_the_same_and_is_saved_and_loaded": 1,
    "test_autocast_breaks_nothing": 1,
    "test_starts_as_documented": 1,
    "test_first_argument_is_the_channel_count": 1,
    "test_channel_count_must_be_a_positive_whole_number": 4,
    "test_input_of_another_shape_is_refused": 4,
    "test_any_setting_works_or_is_refused_in_words_that_name_it": 1,
}


def test_the_tests_of_all_blocks_hold_it_to_the_same_and_those_of_the_book_pass(checkout):
    for name in (*(f"tests/{name}" for name in TESTS), "book/sources.md"):
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PROJECT / name).read_bytes())
    shutil.copytree(PROJECT / "tests/recordings", checkout / "tests/recordings")
    (checkout / "tests/test_eca.py").write_text(COUNTED)
    chosen = ["tests", "-rp", "-k", "eca or of_the_book"]
    said = python(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen)
    passed = re.findall(r"^PASSED \S+::(\w+)\[.*\beca\b", said, re.MULTILINE)
    assert Counter(passed) == HELD
    assert "PASSED tests/test_eca.py::test_eca_is_built_and_counted" in said
    of_the_book = re.findall(r"^PASSED \S+::(\w+_of_the_book_\w+)$", said, re.MULTILINE)
    assert len(of_the_book) == 3
