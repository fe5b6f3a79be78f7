"""Published records in place of training, and the way back."""

from dataclasses import replace

import numpy as np
import pytest

from attn_blocks.files import read_json, write_json
from attn_blocks.tensors import save_tensors
from attn_book.records import planned, published, reading
from attn_book.records.seal import seal
from attn_book.study.plan import plan
from attn_book.study.recipes import PROFILES


@pytest.fixture
def shared_study(tmp_path, monkeypatch, data_dir, write_run):
    """A study of one run that another machine made and published; its experiment."""
    study = plan("01_se", "smoke", 0, data_dir, tmp_path / "results")
    experiment = study.experiments[0]
    shared = replace(PROFILES["smoke"], shared=True)
    monkeypatch.setattr(published, "PROFILES", {**PROFILES, "smoke": shared})
    record = tmp_path / "published" / "smoke" / "runs" / experiment.name
    write_run(record, experiment)
    return study, experiment, record


def test_a_published_run_is_finished_here_too(shared_study):
    study, experiment, record = shared_study
    run = planned.run_of(study, experiment)
    assert published.import_published_record(run, record.parents[2])
    assert run.status == "finished" and not run.has_weights
    assert {path.name for path in run.folder.iterdir()} == set(reading.RECORDS)
    assert published.is_done(run, record.parents[2])
    assert not published.is_done(run, study.results_dir)  # where nothing is published
    # Its weights stay where they are published.
    assert published.weights_of(run, record.parents[2]) is None
    path = record.parents[1] / published.WEIGHTS_FOLDER / f"{experiment.name}.safetensors"
    save_tensors(path, {"w": np.zeros(3, np.float16)}, {})
    assert published.weights_of(run, record.parents[2]) == path


def test_a_run_that_was_begun_here_goes_on_here(shared_study):
    study, experiment, record = shared_study
    run = planned.run_of(study, experiment)
    save_tensors(run.folder / "last.safetensors", {"w": np.zeros(3)}, {"epoch": "1"})
    assert not published.import_published_record(run, record.parents[2])
    (run.folder / "last.safetensors").unlink()
    assert published.import_published_record(run, record.parents[2])
    # Nor is a run that has ended overwritten.
    assert not published.import_published_record(run, record.parents[2])


def test_a_published_run_can_be_trained_here_instead(shared_study, write_run):
    study, experiment, record = shared_study
    run = planned.run_of(study, experiment)
    assert not published.return_published(run, record.parents[2])
    published.import_published_record(run, record.parents[2])
    assert published.return_published(run, record.parents[2])
    assert run.status == "unfinished" and not list(run.folder.iterdir())
    # What was trained here is nobody else's, even if its numbers are the same.
    write_run(run.folder, experiment, weights=True)
    assert not published.return_published(run, record.parents[2])


def test_a_published_run_of_other_semantics_is_not_taken(shared_study):
    study, experiment, record = shared_study
    whole = read_json(record / "experiment.json")
    write_json(
        record / "experiment.json", {**whole, "semantics": {**whole["semantics"], "training": 0}}
    )
    assert not published.import_published_record(
        planned.run_of(study, experiment), record.parents[2]
    )


def test_a_published_run_that_diverged_is_taken_and_not_repeated(shared_study):
    study, experiment, record = shared_study
    (record / "logits.safetensors").unlink()
    failed = {"status": "failed", "reason": "the loss is not finite", "epoch": 2, "step": 3}
    write_json(record / "metrics.json", failed)
    run = planned.run_of(study, experiment)
    assert published.import_published_record(run, record.parents[2])
    assert run.diverged and published.is_done(run, record.parents[2])


def test_what_was_published_before_is_replaced_and_kept(shared_study):
    study, experiment, record = shared_study
    run = planned.run_of(study, experiment)
    published.import_published_record(run, record.parents[2])
    before = (run.folder / "metrics.json").read_bytes()
    known = read_json(record / "metrics.json")
    write_json(record / "metrics.json", {**known, "finished": "2026-02-03T04:05:06+00:00"})
    assert published.import_published_record(run, record.parents[2])
    assert published.is_done(run, record.parents[2])
    (kept,) = (study.results_dir / "outdated").iterdir()
    assert (kept / "metrics.json").read_bytes() == before
    # One that lacks a file of its import is made whole; one that diverged here is a result.
    (run.folder / "logits.safetensors").unlink()
    assert published.import_published_record(run, record.parents[2])
    failed = {"status": "failed", "reason": "the loss is not finite", "epoch": 1}
    write_json(run.folder / "metrics.json", failed)
    assert not published.import_published_record(run, record.parents[2])


def test_a_published_record_that_was_changed_is_not_taken(shared_study):
    study, experiment, record = shared_study
    run = planned.run_of(study, experiment)
    seal(record.parents[1])
    (record.parents[1] / "summary.csv").write_text("another file is another matter")
    assert published.import_published_record(run, record.parents[2])
    published.return_published(run, record.parents[2])
    (record / "metrics.json").write_text("{")
    with pytest.raises(published.PublishError) as caught:
        published.import_published_record(run, record.parents[2])
    assert f"runs/{experiment.name}/metrics.json is not as it was published" in str(caught.value)
    assert str(caught.value).endswith(f"put it back: git checkout -- {record}")


def test_a_run_that_ran_out_of_memory_is_not_done(shared_study):
    study, experiment, _ = shared_study
    run = planned.run_of(study, experiment)
    write_json(run.folder / "metrics.json", {"status": "failed", "reason": "out of memory"})
    assert not published.is_done(run, study.results_dir)


def test_short_profiles_are_always_trained(shared_study, monkeypatch):
    study, experiment, record = shared_study
    monkeypatch.setattr(published, "PROFILES", PROFILES)
    assert not published.import_published_record(
        planned.run_of(study, experiment), record.parents[2]
    )
