"""``attn-book judge``: a block of the reader's own from its file to its outcome."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attn_blocks.errors import SettingError
from attn_blocks.files import read_json
from attn_book.analysis import evidence
from attn_book.driver.judge import judge, plan_of
from attn_book.records.planned import run_of, runs_of
from attn_book.records.recorded import ended_runs
from attn_book.records.reproduction import is_same
from attn_book.study import own
from attn_book.study.pages import SE
from attn_book.study.plan import plan
from attn_book.study.recipes import PROFILES
from attn_book.training.run import train_all, train_experiment

BLOCKS = Path(__file__).parents[1] / "blocks"
NOTHING = f"{BLOCKS / 'next_to_nothing.py'}:NextToNothing"


@pytest.fixture
def settings(data_dir, tmp_path):
    return {"data_dir": data_dir, "results_dir": tmp_path / "results"}


def test_the_command_trains_judges_and_resumes(settings, tmp_path, write_run):
    path = Path(shutil.copy(BLOCKS / "eca.py", tmp_path))
    page = plan_of(own.find(f"{path}:ECA"), 2, "inside", "smoke", **settings)
    results = page.results_dir
    # A call before: ResNet-50 was stopped in its second run, before its end was written. Since
    # then the block was edited, and an edited block is another one.
    _, stopped = (
        train_experiment(experiment, results, page.data_dir, "cpu", progress=False)
        for entry, experiment in page.comparisons[0].experiments
        if entry.title == "ResNet-50"
    )
    (stopped.folder / "metrics.json").unlink()
    for entry, experiment in page.comparisons[0].experiments:
        if entry.title == "ECA (own)":
            write_run(run_of(page, experiment).folder, experiment, weights=True)
    path.write_text(path.read_text() + "# edited\n")
    before = ended_runs(results)
    assert len(before) == 3
    known = {p: p.stat().st_mtime_ns for run in before.values() for p in run.folder.glob("[!.]*")}
    history = (stopped.folder / "history.csv").read_text()

    options = ["--profile", "smoke", "--folds", "2", "--jobs", "2"]
    for name, value in settings.items():
        options += [f"--{name.replace('_', '-')}", value]
    answer = subprocess.run(
        [sys.executable, "-m", "attn_book", "judge", "eca.py:ECA", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert answer.returncode == 0, answer.stderr
    printed = answer.stdout
    assert "ResNet-50: 1 of 2 runs on record" in printed
    assert "ECA (own): 0 of 2 runs on record" in printed
    assert (
        "To train: 3 runs of 2 epochs. By steps tried on this machine that takes about" in printed
    )
    for heading in ("Final validation accuracy", "conv.weight", "Summand", "Training step"):
        assert heading in printed
    assert "Outcome" in printed and "not tested" in printed
    runs = ended_runs(results)
    assert len(runs) == 6 and {run.status for run in runs.values()} == {"finished"}
    # What was finished stays as it was, and what was stopped goes on: no epoch is trained again.
    assert known == {p: p.stat().st_mtime_ns for p in known}
    assert (stopped.folder / "history.csv").read_text() == history
    [figure] = (results / "figures").iterdir()
    assert figure.name.startswith("judge_ECA-") and str(figure.name) in printed


def test_a_block_of_the_books_own_gives_the_books_own_run(settings, monkeypatch):
    block = own.find("attn_blocks.layers.se:SqueezeExcite")
    monkeypatch.setenv(own.FOLDER, str(block.folder))
    page = plan_of(block, 2, "inside", "smoke", **settings)
    book = plan("01_se", "smoke", [0, 1], **settings).alone("animals10")
    ours, theirs = (
        {entry.title: e for entry, e in p.comparisons[0].experiments if e.seed == 1}
        for p in (page, book)
    )
    assert ours["ResNet-50"] == theirs["ResNet-50"]  # so that its records serve both
    results, data = page.results_dir, page.data_dir
    mine, known = (
        train_experiment(experiment, results, data, "cpu", progress=False)
        for experiment in (ours["SqueezeExcite (own)"], theirs[SE.title])
    )
    assert mine.folder != known.folder and is_same(known, mine)
    assert read_json(mine.folder / "experiment.json")["options"] == {
        "attn": block.option,
        "placement": "inside",
    }


@pytest.fixture
def tiny_study(tmp_path, monkeypatch):
    """The study with a recipe of seconds: every outcome's rule, on few images."""
    recipe = PROFILES["smoke"].recipes["animals10"]
    recipe = replace(recipe, train_images=None, validation_images=None)
    monkeypatch.setattr(evidence, "PUBLISHED", tmp_path / "nothing")
    recipes = {**PROFILES["study"].recipes, "animals10": recipe}
    profiles = {**PROFILES, "study": replace(PROFILES["study"], recipes=recipes)}
    for name, module in list(sys.modules.items()):
        if name.startswith("attn_book") and hasattr(module, "PROFILES"):
            monkeypatch.setattr(module, "PROFILES", profiles)


@pytest.fixture
def animals(tmp_path):
    """A data folder with two classes of Animals-10, told apart by their brightness."""
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / "data" / "animals10" / name
        folder.mkdir(parents=True)
        for number in range(40):
            noise = np.random.default_rng((label, number)).integers(0, 128, (64, 64, 3), np.uint8)
            Image.fromarray(noise + np.uint8(60 * label)).save(folder / f"{number:02d}.png")
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_block_that_does_next_to_nothing_is_not_better(
    tiny_study, animals, tmp_path, monkeypatch, capsys
):
    block = own.find(NOTHING)
    settings = {"data_dir": animals, "results_dir": tmp_path / "results"}
    monkeypatch.setenv("ATTN_BLOCKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(own.FOLDER, str(block.folder))
    page = plan_of(block, 2, "inside", "study", **settings)
    train_all(page, progress=False)
    assert {run_of(page, e).experiment.fold for e in page.experiments} == {0, 1}
    stamps = {p: p.stat().st_mtime_ns for p in page.results_dir.rglob("metrics.json")}

    assert judge(NOTHING, 2, profile="study", **settings) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in page.results_dir.rglob("metrics.json")}
    printed = capsys.readouterr().out
    assert "NextToNothing (own): 2 of 2 runs on record" in printed
    assert "The block has no parameters." in printed
    assert "the blocks do the same to all images" in printed
    outcome = printed.partition("\nOutcome\n")[2]
    assert "on Animals-10: open (constant: no verdict on attention)." in outcome
    assert "2 of 2 folds" in outcome and "better" not in outcome
    [plain, mine] = runs_of(page, "animals10").values()
    assert [run.metrics["params"] for run in plain] == [run.metrics["params"] for run in mine]


@pytest.mark.parametrize("folds", [1, 6])
def test_folds_are_two_to_five(folds, settings):
    with pytest.raises(SettingError, match=f"folds must be a number from 2 to 5, not {folds}"):
        judge(NOTHING, folds, profile="smoke", **settings)
    assert not settings["results_dir"].exists()


def test_a_placement_or_profile_that_does_not_exist_is_named(settings):
    with pytest.raises(SettingError, match="unknown placement 'behind'; choose one of: inside"):
        judge(NOTHING, placement="behind", profile="smoke", **settings)
    with pytest.raises(SettingError, match="unknown profile 'huge'"):
        judge(NOTHING, profile="huge", **settings)
