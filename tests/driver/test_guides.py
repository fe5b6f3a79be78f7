"""The guides: executed through the command that readers use, and what they say of what they ran."""

import importlib.util
import itertools
import platform
import re
import subprocess
import sys

import nbformat
import paddle
import pandas as pd
import pytest

import attn_blocks as ab
from attn_blocks.files import PROJECT
from attn_book.study.pages import GUIDES

HAS_ONNX = all(map(importlib.util.find_spec, ("paddle2onnx", "onnxruntime")))
BETWEEN = {"nl", "gc", "bat"}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """What the command printed, and the folder of its profile."""
    folder = tmp_path_factory.mktemp("guides")
    command = [sys.executable, "-m", "attn_book", "reproduce", *GUIDES]
    options = ["--profile", "smoke", "--results-dir", str(folder), "--jobs", "1"]
    answer = subprocess.run([*command, *options], capture_output=True, text=True, timeout=1500)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout, folder / "smoke"


@pytest.fixture(scope="module")
def outputs(reproduced):
    """Guide -> the outputs of each cell that has any: tables, and text as it was printed."""
    found = {}
    for guide in GUIDES:
        notebook = nbformat.read(reproduced[1] / "notebooks" / f"{guide}.ipynb", as_version=4)
        assert {o.get("name") for c in notebook.cells for o in c.get("outputs", ())} <= {
            None,
            "stdout",
        }
        found[guide] = [part for cell in notebook.cells for part in parts(cell)]
    return found


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


def test_guides_need_no_images_and_no_runs(reproduced):
    printed, folder = reproduced
    assert "2 pages, 0 runs" in printed and "Data:" not in printed
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "notebooks"
    }


def test_every_block_goes_into_a_network_of_ones_own(outputs):
    blocks, refused, gradients, into_resnet, same, into_mobilenet, changes, _, _ = outputs[
        "own_network"
    ]
    assert set(blocks.index) == set(gradients.index) == set(changes.index) == set(ab.list_attns())
    assert set(blocks["output"]) == {"[2, 128, 14, 14]"}
    assert re.findall(r"(\w+: .*; \w+=\d+ works)", refused) == refused.splitlines()
    assert set(gradients.index[gradients["place"] == "between"]) == BETWEEN
    tensors, reached = (gradients[c].astype(int) for c in ("tensors", "with a gradient"))
    assert list(gradients.index[reached == 0]) == list(gradients.index[tensors == 0]) == ["ge"]
    assert set(gradients.index[reached < tensors]) == {"nl", "gc", "sa", "srm"}
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
    assert set(sizes.index) == set(differences.index) == set(ab.list_attns())
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
        assert set(onnx.index) == set(ab.list_attns())
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
