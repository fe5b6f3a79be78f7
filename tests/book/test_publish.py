"""Publishing and checking: made-up results that are wrong in each way, and what is committed."""

import base64
import csv
import errno
import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from attn_blocks import files as files_module
from attn_blocks.errors import CheckpointError
from attn_blocks.files import PROJECT
from attn_blocks.tensors import load_tensors, save_tensors
from attn_book.driver import cli, verify
from attn_book.driver import publish as publishing
from attn_book.driver.retrain import retrain
from attn_book.driver.summary import write_summary
from attn_book.driver.verify import check
from attn_book.language import CHINESE, VARIABLE, speaking
from attn_book.records import first_study, full_size, semantics
from attn_book.records import published as records_published
from attn_book.records.published import PUBLISHED, PublishError
from attn_book.records.reading import RECORDS
from attn_book.records.recorded import recorded_plans
from attn_book.records.reproduction import check_reproduction
from attn_book.records.run import Run
from attn_book.records.seal import SUMS, seal
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import RESNET, SGE
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import build, checkpoint, loop
from attn_book.training import run as training_run


@pytest.fixture
def published(published_once, tmp_path):
    return shutil.copytree(published_once, tmp_path / "published")


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def run_of(folder, entry, seed=0):
    return next((folder / "smoke" / "runs").glob(f"shapes-{entry.model}-f0-s{seed}-*"))


def test_committed_results_are_whole_and_current():
    assert check() == []


def test_outside_a_checkout_there_is_nothing_to_publish_to(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(files_module, "PROJECT", tmp_path)
    for command in ("verify-published", "publish", "reproduce"):
        assert cli.main([command, "--profile", "smoke"][: 1 if "verify" in command else 3]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {command} needs a checkout of the book")
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_small_networks_of_the_first_seed_are_published_in_float16(tmp_path, monkeypatch, data_dir):
    shared = replace(PROFILES["smoke"], shared=True)
    for module in (publishing, records_published):
        monkeypatch.setattr(module, "PROFILES", {**PROFILES, "smoke": shared})
    recipe = PROFILES["smoke"].recipes["animals10"]
    images = load_images("shapes", recipe, data_dir)
    results, target = tmp_path / "results", tmp_path / "published"
    runs = [
        training_run.train_experiment(
            Experiment("shapes", images.fingerprint, SGE.model, recipe, seed),
            *(results / "smoke", data_dir, "cpu", False),
        )
        for seed in (0, 1)
    ]
    publishing.publish("smoke", results, target)
    assert check(target) == []
    (path,) = (target / "smoke" / "weights").iterdir()
    assert path.stem == runs[0].folder.name
    assert {array.dtype for array in load_tensors(path)[0].values()} == {np.dtype("float16")}
    # Where only the record is at hand, its network is the published one.
    elsewhere = Run(tmp_path / "elsewhere" / "smoke" / "runs" / path.stem)
    assert records_published.import_published_record(elsewhere, target)
    load = partial(checkpoint.load_model, published=target)
    whole, half = (
        loop.evaluate(build.prepare(load(run), images, recipe))[1] for run in (runs[0], elsewhere)
    )
    np.testing.assert_allclose(half, whole, atol=0.02)
    with pytest.raises(CheckpointError, match="best weights are not published"):
        load(elsewhere, "best")
    # Published again from a machine without them, they stay,
    publishing.publish("smoke", tmp_path / "elsewhere", target)
    assert path.exists() and check(target) == []
    # but not beside the record of another training.
    history = elsewhere.folder / "history.csv"
    loss = history.read_text().splitlines()[1].split(",")[2]
    history.write_text(history.read_text().replace(loss, f"{float(loss) + 1}", 1))
    publishing.publish("smoke", tmp_path / "elsewhere", target)
    assert not path.exists() and check(target) == []


def test_weights_beyond_what_half_precision_holds_stay_finite(tmp_path):
    run = Run(tmp_path / "a-run")
    weights = {"bn._variance": np.array([1e6, 2.0], np.float32)}
    save_tensors(run.folder / "last.safetensors", weights, {"epoch": "1"})
    assert publishing.half_precision(run)["bn._variance"].tolist() == [65504, 2]


def test_what_the_texts_say_of_records_is_in_them():
    records = [
        record
        for record in full_size.records(PUBLISHED / full_size.FOLDER)
        if record.task == "animals10"
    ]

    def ends_at(model):
        return 100 * np.mean([record.accuracy for record in records if record.model == model])

    gains = {
        block: ends_at(f"{block}_resnet50") - ends_at("resnet50")
        for block in ("se", "srm", "sge", "bat")
    }
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for block, gain in gains.items():
        assert f"{block.upper()} {gain:+.1f}" in readme


def test_the_deviations_name_the_pilots_hours_as_they_are_on_record():
    deviations = (PROJECT / "book" / "deviations.md").read_text(encoding="utf-8")
    folders = (PUBLISHED / "study" / "runs").glob("animals10-resnet50-*-s10?-*")
    pilot = sorted(map(Run, folders), key=lambda run: run.experiment.seed)
    slowed = [run for run in pilot if run.history["seconds"].max() > 1000]
    assert len(slowed) == 4 and all(3300 < run.history["seconds"].max() < 3700 for run in slowed)

    def seconds(runs):
        return " and ".join(f"{run.metrics['seconds']:,.0f}" for run in runs)

    first = [run for run in slowed if run.experiment.recipe.learning_rate == 0.05]
    longest = [run for run in slowed if run.experiment.recipe.epochs == 45]
    assert f"(rate 0.05, 20 epochs; {seconds(first)} seconds)" in deviations
    assert f"which decide nothing ({seconds(longest)} seconds)" in deviations
    hours = sum(run.metrics["seconds"] for run in pilot) / 3600
    decide = hours - sum(run.metrics["seconds"] for run in longest) / 3600
    fastest = min(run.history["seconds"].min() for run in pilot)
    alone = sum(run.experiment.recipe.epochs for run in pilot) * fastest / 3600
    said = f"take {hours:.1f} core-hours, and those that could decide {decide:.1f}."
    assert said in deviations and f"makes {alone:.1f} core-hours for all" in deviations


def test_the_deviations_name_every_run_of_the_nine_that_was_paused():
    deviations = (PROJECT / "book" / "deviations.md").read_text(encoding="utf-8")
    folders = sorted((PUBLISHED / "study" / "runs").glob("animals10-*-s[0-4]-*"))
    paused = [run for run in map(Run, folders) if run.history["seconds"].max() > 1000]
    assert [run.folder.name[:21] for run in paused] == [
        "animals10-ge_resnet50",
        "animals10-se_resnet50",
    ]
    held = [run.metrics["seconds"] for run in reversed(paused)]
    times = [run.history["seconds"] for run in reversed(paused)]
    without = [of_run[of_run < 1000].sum() for of_run in times]
    assert all((of_run > 1000).sum() == 2 for of_run in times)
    said = "without the two epochs they are {:,.0f} and {:,.0f}, and not {:,.0f} and {:,.0f}."
    assert said.format(*without, *held) in deviations


def test_the_first_study_is_kept_as_evidence(tmp_path):
    kept = PUBLISHED / first_study.FOLDER
    runs, trials = (first_study.runs(kept, part) for part in ("runs", "tuning"))
    assert (len(runs), len(trials)) == (48, 11)
    assert {run.seed for run in runs} == {0, 1, 2}
    assert {run.seed for run in trials} == {100}
    copy = tmp_path / first_study.FOLDER
    shutil.copytree(kept, copy)
    assert first_study.problems(copy) == []
    path = next(copy.glob("runs/*/metrics.json"))
    path.write_text(path.read_text().replace('"final_val_acc": 0.', '"final_val_acc": 0.1'))
    seal(copy)
    (problem,) = first_study.problems(copy)
    assert problem.endswith("history, confusion matrix and accuracy do not agree")


def test_records_tables_and_page_are_published_and_nothing_else(published, made_up):
    names = [path.name for path in (made_up / "smoke" / "runs").iterdir()]
    records = [f"runs/{n}/{r}" for n in names for r in RECORDS]
    extra = [SUMS, "summary.csv", "verdicts.csv", "notebooks/04_sge.ipynb"]
    assert files(published / "smoke") == sorted(records + extra)
    assert check(published) == []
    assert [path.name for path in published.iterdir()] == ["smoke"]  # no temporary folder is left


def test_tables_hold_the_runs_and_the_claims_that_they_speak_to(published):
    summary = (published / "smoke" / "summary.csv").read_text().splitlines()
    assert len(summary) == 1 + 9 + 3
    with (published / "smoke" / "verdicts.csv").open(newline="") as stream:
        rows = {row["claim"]: row for row in csv.DictReader(stream)}
    sge = rows["SGE-ResNet-50 > ResNet-50 on Animals-10"]
    # 10 points in every seed, but neither the study's runs nor the claim's images.
    assert (sge["difference"], sge["folds"], sge["outcome"]) == (
        "10.0",
        "3 of 3 seeds",
        "not tested",
    )
    assert sge["reported"] == sge["low"] == sge["p_adjusted"] == ""
    assert not any(row["task"] == "caltech16" for row in rows.values())


def test_page_names_no_machine_and_keeps_its_pictures(published, picture):
    text = (published / "smoke" / "notebooks" / "04_sge.ipynb").read_text(encoding="utf-8")
    assert "someone" not in text and "papermill" not in text and "stderr" not in text
    notebook = nbformat.reads(text, as_version=4)
    assert notebook.cells[2].source == '# Parameters\nprofile = "smoke"'
    fold = {"tags": ["hide-cell"], "mystnb": {"code_prompt_show": "Solution"}}
    assert notebook.cells[-1].metadata == fold
    packed = notebook.cells[5].outputs[0].data["image/png"]
    before, after = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB"))
        for p in (picture, packed)
    )
    assert len(packed) < len(picture)
    np.testing.assert_array_equal(before, after)


def in_chinese(folder, change=lambda text: text):
    """The page of the made-up results as it is executed in Chinese."""
    said = (folder / "notebooks" / "04_sge.ipynb").read_text(encoding="utf-8")
    plan = recorded_plans(folder)["04_sge"]
    with speaking(CHINESE):
        provenance = plan.provenance
    assert plan.provenance in said and provenance.endswith("宽度 0.0625 · 种子 0、1、2 · cpu")
    said = said.replace(plan.provenance, provenance)
    path = folder / "notebooks" / CHINESE / "04_sge.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(change(said.replace("Final accuracy", "最终准确率")), encoding="utf-8")


def test_a_page_in_another_language_is_published_beside_the_english_one(made_up, tmp_path):
    in_chinese(made_up / "smoke")
    notes = publishing.publish("smoke", made_up, tmp_path / "published")
    assert not any("zh_CN" in note for note in notes)
    pages = [name for name in files(tmp_path / "published" / "smoke") if name.endswith(".ipynb")]
    assert pages == ["notebooks/04_sge.ipynb", "notebooks/zh_CN/04_sge.ipynb"]
    assert check(tmp_path / "published") == []


def test_tables_are_english_and_what_is_published_is_right_in_any_language(published, monkeypatch):
    tables = ("summary.csv", "verdicts.csv")
    before = {name: (published / "smoke" / name).read_bytes() for name in tables}
    monkeypatch.setenv(VARIABLE, CHINESE)
    assert check(published) == []
    write_summary(published / "smoke", list(recorded_plans(published / "smoke").values()))
    assert before == {name: (published / "smoke" / name).read_bytes() for name in tables}


def test_a_page_with_other_numbers_than_in_english_is_named(made_up, tmp_path):
    in_chinese(made_up / "smoke", lambda text: text.replace("0.5000", "0.6000"))
    with pytest.raises(PublishError, match="page 04_sge in zh_CN: shows other numbers than in Eng"):
        publishing.publish("smoke", made_up, tmp_path / "published")


def test_pages_that_cannot_be_shown_are_named(made_up, tmp_path):
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    assert "page 01_se: it is not executed; run: make reproduce-01_se PROFILE=smoke" in notes
    shutil.copy(made_up / "smoke/notebooks/04_sge.ipynb", made_up / "smoke/notebooks/07_gc.ipynb")
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    assert "page 07_gc: no run of NL-ResNet-50 on animals10, seed 0 is published" in notes
    assert "04_sge" not in notes


def test_a_guide_is_published_while_its_code_is_todays(made_up, tmp_path):
    target = tmp_path / "published"
    notes = "\n".join(publishing.publish("smoke", made_up, target))
    assert "page export: it is not executed; run: make reproduce-export PROFILE=smoke" in notes
    guide = nbformat.read(PROJECT / "notebooks" / "export.ipynb", as_version=4)
    guide.metadata["papermill"] = {"end_time": "2026-01-03T08:00:00+00:00"}
    executed = made_up / "smoke" / "notebooks" / "export.ipynb"
    nbformat.write(guide, executed)
    assert not any("export" in note for note in publishing.publish("smoke", made_up, target))
    assert check(target) == []
    shown = target / "smoke" / "notebooks" / "export.ipynb"
    stamp = {"executed": "2026-01-03T08:00:00+00:00", "runs": {}}
    assert nbformat.read(shown, as_version=4).metadata["attn_blocks"] == stamp
    guide.cells[0].source += " Once more."
    nbformat.write(guide, shown)
    seal(target / "smoke")
    assert any(
        "page export: its stamp, of when it was executed, is None" in p for p in check(target)
    )
    guide.metadata["attn_blocks"] = stamp
    nbformat.write(guide, shown)
    seal(target / "smoke")
    (problem,) = check(target)
    assert problem.endswith(
        "another text than notebooks/export.ipynb; run: make reproduce-export PROFILE=quick"
    )
    executed.unlink()
    publishing.publish("smoke", made_up, target)  # takes over today's prose
    assert nbformat.read(shown, as_version=4).cells[0].source + " Once more." == (
        guide.cells[0].source
    )
    assert check(target) == []
    next(cell for cell in guide.cells if cell.cell_type == "code").source += "\n# other code"
    nbformat.write(guide, shown)
    seal(target / "smoke")
    notes = "\n".join(publishing.publish("smoke", made_up, target))
    assert "left out page export: it is another text than notebooks/export.ipynb" in notes
    assert not shown.exists() and check(target) == []


def test_unfinished_failed_and_foreign_runs_stay_out(made_up, tmp_path, edit, add_run):
    (run_of(made_up, SGE, 0) / "metrics.json").unlink()
    edit(run_of(made_up, SGE, 1) / "metrics.json", status="failed", reason="it was stopped")
    foreign = add_run(made_up / "smoke", RESNET, "animals10", 7, 0.5)
    record = json.loads((foreign / "experiment.json").read_text())
    record["recipe"]["epochs"] = 99
    (foreign / "experiment.json").write_text(json.dumps(record))
    foreign = foreign.rename(foreign.with_name(Run(foreign).experiment.name))
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    names = {path.name for path in (tmp_path / "published/smoke/runs").iterdir()}
    assert sorted(n for n in names if "sge" in n) == [run_of(made_up, SGE, 2).name]
    assert f"left out {foreign.name}: it follows no recipe of the profile smoke" in notes


def diverge(folder):
    """Leave of a run what one leaves that diverged in its second epoch."""
    history = (folder / "history.csv").read_text().splitlines(keepends=True)
    (folder / "history.csv").write_text("".join(history[:-1]))
    (folder / "logits.safetensors").unlink()
    failed = {"status": "failed", "reason": "the loss is not finite", "epoch": 2, "step": 1}
    (folder / "metrics.json").write_text(json.dumps(failed))


def test_a_run_that_diverged_is_published_and_not_replaced(made_up, tmp_path):
    target = tmp_path / "published"
    name = run_of(made_up, SGE, 1).name
    whole = shutil.copytree(run_of(made_up, SGE, 1), tmp_path / "whole")
    diverge(run_of(made_up, SGE, 1))
    notes = "\n".join(publishing.publish("smoke", made_up, target))
    kept = target / "smoke" / "runs" / name
    assert {path.name for path in kept.iterdir()} == set(RECORDS) - {"logits.safetensors"}
    assert check(target) == []
    assert "04_sge: no run of" not in notes  # it lacks none: this one has ended
    summary = (target / "smoke" / "summary.csv").read_text()
    assert summary.count(",cpu,failed") == 1
    # A repeat that finishes changes nothing.
    shutil.rmtree(run_of(made_up, SGE, 1))
    shutil.copytree(whole, made_up / "smoke" / "runs" / name)
    publishing.publish("smoke", made_up, target)
    assert Run(kept).diverged
    # A folder that JupyterLab leaves is no record, and its files are named.
    (kept / ".ipynb_checkpoints").mkdir()
    assert check(target) == []
    (kept / ".ipynb_checkpoints" / "metrics-checkpoint.json").touch()
    (problem,) = check(target)
    assert problem.endswith("/metrics-checkpoint.json does not belong to what was published")
    # One that failed otherwise is none.
    (kept / "metrics.json").write_text('{"status": "failed", "reason": "out of memory"}')
    assert any(f"run {name}: holds " in problem for problem in check(target))


def test_runs_of_changed_semantics_stay_out_and_the_part_is_named(made_up, tmp_path, edit):
    run = run_of(made_up, SGE)
    versions = Run(run).record["semantics"]
    edit(run / "experiment.json", semantics={**versions, "block/sge": 0})
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    assert f"left out {run.name}: block/sge (0, now 1) changed since it was made" in notes
    assert "page 04_sge: no run of SGE-ResNet-50 on animals10, seed 0 is published" in notes


def test_machines_add_to_one_another(made_up, published):
    for run in (made_up / "smoke/runs").glob("*resnet50-f0-s0*"):
        shutil.rmtree(run)
    shutil.rmtree(made_up / "smoke/notebooks")
    before = files(published)
    assert not any("04_sge" in note for note in publishing.publish("smoke", made_up, published))
    assert files(published) == before


def test_a_run_made_again_with_the_same_numbers_changes_nothing(made_up, published, edit):
    edit(run_of(made_up, SGE) / "metrics.json", finished="2027-01-01T00:00:00+00:00")
    shutil.rmtree(made_up / "smoke/notebooks")
    before = (run_of(published, SGE) / "metrics.json").read_bytes()
    assert not any("04_sge" in note for note in publishing.publish("smoke", made_up, published))
    assert (run_of(published, SGE) / "metrics.json").read_bytes() == before


def test_newer_images_replace_older_ones(made_up, published, add_run):
    new = add_run(made_up / "smoke", RESNET, "animals10", 0, 0.9, "e" * 64, "2026-02-01")
    notes = publishing.publish("smoke", made_up, published)
    assert [path.name for path in (published / "smoke/runs").glob("*resnet50*")] == [new.name]
    assert sum("newer runs of its comparison are on Shapes" in note for note in notes) == 9
    assert check(published) == []


def test_page_executed_before_its_runs_is_left_out(made_up, tmp_path, edit):
    edit(run_of(made_up, SGE) / "metrics.json", finished="2027-01-01T00:00:00+00:00")
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    assert "page 04_sge: it was executed before its last run was finished" in notes


def test_nothing_to_publish_changes_nothing(published, tmp_path):
    before = files(published)
    with pytest.raises(PublishError, match="make reproduce-all PROFILE=quick"):
        publishing.publish("quick", tmp_path / "empty", published)
    assert files(published) == before


def break_semantics(folder, edit):
    versions = Run(run_of(folder, SGE)).record["semantics"]
    semantics = {**versions, "block/sge": 0, "block/gone": 3}
    edit(run_of(folder, SGE) / "experiment.json", semantics=semantics)
    return f"run {run_of(folder, SGE).name}: block/sge (0, now 1), block/gone (3, now 1) changed"


def empty_semantics(folder, edit):
    edit(run_of(folder, SGE) / "experiment.json", semantics={})
    return f"run {run_of(folder, SGE).name}: training (not recorded, now {semantics.TRAINING}), "


def name_no_model(folder, edit):
    edit(run_of(folder, SGE) / "experiment.json", model="my_own")
    return f"run {run_of(folder, SGE).name}: unknown model 'my_own'"


def break_accuracy(folder, edit):
    edit(run_of(folder, SGE) / "metrics.json", final_val_acc=0.99)
    return "final_val_acc is 0.99, its history gives 0.6"


def break_confusion(folder, edit):
    edit(run_of(folder, SGE) / "metrics.json", confusion=[[1, 0], [0, 1]])
    return "its confusion matrix does not give its final accuracy"


def break_history(folder, edit):
    path = run_of(folder, SGE) / "history.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return "its history has 1 of 2 epochs"


def break_settings(folder, edit):
    edit(run_of(folder, SGE) / "experiment.json", seed=5)
    return "its settings are those of shapes-sge_resnet50-f0-s5-"


def break_status(folder, edit):
    edit(run_of(folder, SGE) / "metrics.json", status="failed", reason="the loss is not finite")
    return "is failed"


def break_record(folder, edit):
    edit(run_of(folder, SGE) / "metrics.json", best_epoch="the last")
    return "metrics.json is damaged (its best_epoch is 'the last')"


def add_weights(folder, edit):
    (run_of(folder, SGE) / "last.safetensors").write_bytes(b"")
    return "holds experiment.json, history.csv, last.safetensors, logits.safetensors, metrics"


def make_a_folder_of_a_file(folder, edit):
    (run_of(folder, SGE) / "metrics.json").unlink()
    (run_of(folder, SGE) / "metrics.json").mkdir()
    return "holds experiment.json, history.csv, logits.safetensors instead of"


def break_summary(folder, edit):
    path = folder / "smoke" / "summary.csv"
    path.write_text(path.read_text().replace(",0.6,", ",0.9,", 1))
    return "summary.csv is not what the records give; run: make publish PROFILE=smoke"


def remove_verdicts(folder, edit):
    (folder / "smoke" / "verdicts.csv").unlink()
    return "verdicts.csv is not what the records give"


def remove_run(folder, edit):
    shutil.rmtree(run_of(folder, SGE, 2))
    return "page 04_sge: no run of SGE-ResNet-50 on animals10, seed 2 is published"


def mix_images(folder, edit):
    run = run_of(folder, SGE)
    edit(run / "experiment.json", fingerprint="a" * 64)
    run.rename(run.with_name(Run(run).experiment.name))
    return "the runs of animals10 are on different images"


def change_page(folder, change):
    path = folder / "smoke" / "notebooks" / "04_sge.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def break_digest(folder, edit):
    change_page(folder, lambda n: n.metadata["attn_blocks"]["runs"].popitem())
    return "page 04_sge: it shows other runs than those that are published; run: make reproduce-04"


def break_provenance(folder, edit):
    change_page(folder, lambda n: n.cells[3].outputs.clear())
    return "page 04_sge: it does not say of its results: profile smoke"


def name_the_machine(folder, edit):
    cell = nbformat.v4.new_code_cell(
        "x",
        outputs=[
            nbformat.v4.new_output("stream", name="stdout", text="saved to '/srv/me/results/x'")
        ],
    )
    change_page(folder, lambda n: n.cells.append(cell))
    return "page 04_sge: names a folder of the machine that executed it: /srv/me"


def bloat(folder, edit):
    output = nbformat.v4.new_output("display_data", data={"image/png": "A" * 2_100_000})
    cell = nbformat.v4.new_code_cell("huge()", outputs=[output])
    change_page(folder, lambda n: n.cells.append(cell))
    return "has 2.1 MB, more than 2.0 (its largest figure has 2.1, from: huge())"


def edit_page(change):
    """Damage to the page's JSON."""

    def damage(folder, _):
        path = folder / "smoke" / "notebooks" / "04_sge.ipynb"
        page = json.loads(path.read_text(encoding="utf-8"))
        change(page)
        path.write_text(json.dumps(page), encoding="utf-8")

    return damage


def write_page(content):
    def damage(folder, _):
        (folder / "smoke" / "notebooks" / "04_sge.ipynb").write_bytes(content)

    return damage


def make_a_folder_of_a_page(folder, _):
    write_page(b"")(folder, _)
    (folder / "smoke" / "notebooks" / "04_sge.ipynb").unlink()
    (folder / "smoke" / "notebooks" / "04_sge.ipynb").mkdir()


NO_NOTEBOOK = "page 04_sge: 04_sge.ipynb is no whole notebook ("
ODD_STAMP = "page 04_sge: its stamp, of what it shows and when it was executed, is "
ODD_PAGES = {
    "cut": (write_page(b'{"cells": [{"cell_type": "code"'), NO_NOTEBOOK),
    "empty": (write_page(b""), NO_NOTEBOOK),
    "a list": (write_page(b"[]"), NO_NOTEBOOK),
    "not UTF-8": (write_page(b"\xff\xfe{}"), NO_NOTEBOOK),
    "deep": (write_page(b"[" * 100_000), NO_NOTEBOOK),
    "a folder": (make_a_folder_of_a_page, NO_NOTEBOOK),
    "no cells": (edit_page(lambda page: page.pop("cells")), NO_NOTEBOOK),
    "odd cell": (edit_page(lambda page: page["cells"].append({"cell_type": "x"})), NO_NOTEBOOK),
    "odd output": (edit_page(lambda page: page["cells"][3].update(outputs=[5])), NO_NOTEBOOK),
    "no stamp": (edit_page(lambda page: page["metadata"].pop("attn_blocks")), ODD_STAMP),
}
ODD_PAGES |= {
    f"stamp {stamp}": (
        edit_page(lambda page, s=stamp: page["metadata"].update(attn_blocks=s)),
        words,
    )
    for stamp, words in [
        (None, ODD_STAMP),
        ((), ODD_STAMP),
        ("x", ODD_STAMP),
        (5, ODD_STAMP),
    ]
}
ODD_PAGES |= {
    f"executed {when}": (
        edit_page(lambda page, w=when: page["metadata"]["attn_blocks"].update(executed=w)),
        ODD_STAMP,
    )
    for when in (None, 5, "", "yesterday", ["2026-01-03"])
}


@pytest.mark.parametrize(("damage", "words"), ODD_PAGES.values(), ids=ODD_PAGES)
def test_a_damaged_page_is_named_in_words(damage, words, published):
    damage(published, None)
    seal(published / "smoke")
    assert any(p.startswith(f"smoke: {words}") for p in check(published)), check(published)


@pytest.mark.parametrize(
    "markup",
    [
        "<script>alert(1)</script>",
        "<SCRIPT src=//x>",
        "<img src=x onerror=alert(1)>",
        "<img/onerror =alert(1) src=x>",
        "<a href='javascript:alert(1)'>here</a>",
        "<iframe src=//x></iframe>",
        "<svg onload=alert(1)>",
    ],
)
@pytest.mark.parametrize("place", ["text/html", "text/markdown", "cell"])
def test_what_a_browser_would_run_is_not_published(markup, place, published):
    cell = nbformat.v4.new_markdown_cell(f"A **cell** {markup}")
    if place != "cell":
        output = nbformat.v4.new_output("display_data", data={place: f"An output {markup}"})
        cell = nbformat.v4.new_code_cell("x", outputs=[output])
    change_page(published, lambda notebook: notebook.cells.append(cell))
    seal(published / "smoke")
    assert check(published)[0].startswith("smoke: page 04_sge: holds what a browser would run: ")


def test_outputs_of_other_kinds_are_not_published(published):
    output = nbformat.v4.new_output("display_data", data={"application/javascript": "alert(1)"})
    cell = nbformat.v4.new_code_cell("x", outputs=[output])
    change_page(published, lambda notebook: notebook.cells.append(cell))
    assert "holds what a browser would run: 'application/javascript'" in "".join(check(published))


def change_number(folder):
    path = folder / "smoke/notebooks/04_sge.ipynb"
    text = path.read_text(encoding="utf-8")
    assert "0.5000" in text
    path.write_text(text.replace("0.5000", "0.9900"), encoding="utf-8")


def change_loss(folder):
    path = run_of(folder, SGE) / "history.csv"
    path.write_text(path.read_text().replace(",2.1,", ",2.2,"))


TAMPERING = {
    "a number on a page": change_number,
    "a loss": change_loss,
    "a page less": lambda folder: (folder / "smoke/notebooks/04_sge.ipynb").unlink(),
    "a file more": lambda folder: (folder / "smoke/notebooks/more.html").write_text("<script>"),
}


@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING)
def test_what_fits_its_records_and_is_not_what_was_published_is_found(tamper, published):
    tamper(published)
    (problem,) = check(published)
    assert (
        "is not as it was published" in problem
        or "is missing" in problem
        or "not belong" in problem
    )
    seal(published / "smoke")  # whoever does that, too, is found by the history alone: method.md
    assert check(published) == []


def test_other_things_at_the_top_are_found(published):
    (published / "more.html").write_text("")
    shutil.copytree(published / "smoke", published / ".smoke")
    problems = check(published)
    assert problems[0].startswith(".smoke: is not a profile")
    assert problems[1:] == ["more.html: does not belong to what was published"]


def test_nothing_published_is_a_failure(published, tmp_path, monkeypatch, capsys):
    shutil.rmtree(published / "smoke")
    for folder in (published, tmp_path / "none"):
        (problem,) = check(folder)
        assert problem.startswith(f"nothing is published in {folder}; run: make reproduce-all")
    (published / "smoke").mkdir()
    assert check(published)[1].startswith("smoke: no finished run is published; run: make repro")
    monkeypatch.setattr(verify.check, "__defaults__", (tmp_path / "none",))
    assert cli.main(["verify-published"]) == 1
    assert "nothing is published" in capsys.readouterr().err


def test_nothing_is_published_on_top_of_what_was_changed(published, made_up):
    change_number(published)
    with pytest.raises(PublishError, match="04_sge.ipynb is not as it was published; restore it"):
        publishing.publish("smoke", made_up, published)
    (published / "smoke" / SUMS).unlink()
    publishing.publish("smoke", made_up, published)
    assert check(published) == []


def test_a_damaged_page_is_left_out_with_the_reason(made_up, tmp_path):
    (made_up / "smoke/notebooks/04_sge.ipynb").write_text('{"cells": [')
    notes = "\n".join(publishing.publish("smoke", made_up, tmp_path / "published"))
    assert "left out page 04_sge: 04_sge.ipynb is no whole notebook (" in notes


def test_an_older_page_that_stays_is_named_with_the_reason(made_up, published):
    (made_up / "smoke/notebooks/04_sge.ipynb").write_text('{"cells": [')
    before = (published / "smoke/notebooks/04_sge.ipynb").read_bytes()
    notes = "\n".join(publishing.publish("smoke", made_up, published))
    assert "page 04_sge stays as it was: 04_sge.ipynb is no whole notebook (" in notes
    assert (published / "smoke/notebooks/04_sge.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        break_semantics,
        empty_semantics,
        name_no_model,
        make_a_folder_of_a_file,
        break_accuracy,
        break_confusion,
        break_history,
        break_settings,
        break_status,
        break_record,
        add_weights,
        break_summary,
        remove_verdicts,
        remove_run,
        mix_images,
        break_digest,
        break_provenance,
        name_the_machine,
        bloat,
    ],
    ids=lambda f: f.__name__,
)
def test_check_finds(damage, published, edit):
    expected = damage(published, edit)
    if (published / "smoke" / SUMS).exists():
        seal(published / "smoke")  # found without the sums
    problems = check(published)
    assert any(p.startswith("smoke: ") and expected in p for p in problems), problems


def test_a_published_file_that_cannot_be_read_is_named(published, monkeypatch):
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "summary.csv":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert check(published) == [
        "smoke: summary.csv cannot be read (Permission denied)",
        "smoke: summary.csv is not what the records give; run: make publish PROFILE=smoke",
    ]


def test_check_knows_the_profiles(published):
    (published / "smoke").rename(published / "study2")
    assert check(published)[0].startswith("study2: is not a profile; choose one of: smoke, quick")


def test_a_change_of_semantics_makes_every_record_old(published, monkeypatch):
    version = semantics.TRAINING
    monkeypatch.setattr(semantics, "TRAINING", version + 1)
    problems = check(published)
    assert len(problems) == 12
    words = f"training ({version}, now {version + 1}) changed since it was made"
    assert all(words in problem for problem in problems)


def test_a_published_run_is_trained_again(tmp_path, data_dir):
    recipe = Recipe(
        width=1 / 16,
        stem="cifar",
        image_size=16,
        augmentation="pad_crop",
        epochs=1,
        batch_size=10,
        learning_rate=0.05,
        train_images=20,
        validation_images=10,
    )
    images = load_images("shapes", recipe, data_dir)
    experiment = Experiment("shapes", images.fingerprint, "resnet18", recipe, 0)
    run = training_run.train_experiment(
        experiment, tmp_path / "smoke", data_dir, "cpu", progress=False
    )
    sentence = retrain(None, tmp_path, data_dir)
    assert sentence == f"{experiment.name}: identical to the last bit"

    other = Run(shutil.copytree(run.folder, tmp_path / "other"))
    text = (run.folder / "history.csv").read_text()
    (other.folder / "history.csv").write_text(text.replace(".", ".5", 1))
    assert "not bit for bit" in check_reproduction(other, run)
    with pytest.raises(CheckpointError, match="more than 0.05 apart"):
        other.metrics["final_val_acc"] = 1.0
        check_reproduction(other, run)


def test_retraining_an_unknown_run_is_refused(published):
    with pytest.raises(ValueError, match="unknown published run 'x'"):
        retrain("x", published)
