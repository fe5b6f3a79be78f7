"""The records behind "Why do they report 0.5888?": which fault is nearest, and ``faults.json``."""

import pytest

from attn_blocks.files import read_json, write_json
from attn_book.records import faults
from attn_book.records.published import PUBLISHED
from attn_book.study import design
from attn_book.study.pages import RESNET

TITLES = [entry.title for entry in design.UNEQUAL.entries]


@pytest.fixture
def folder(tmp_path, study_run):
    """A study whose ResNet-50 of fold 0 is trained, and the faults of training but the last."""
    folder = tmp_path / "study"
    for seed in (1, 0):
        study_run(folder, "animals10", RESNET, seed, 0.8)
    for place, entry in enumerate(design.UNEQUAL.entries[:-1]):
        study_run(folder, "animals10", entry, 0, 0.5 + 0.05 * place)
    return folder


def test_the_nearest_fault_is_known_once_all_are_there(folder, study_run):
    runs = faults.trained(folder)
    assert list(runs) == TITLES and runs[TITLES[-1]] is None
    assert faults.nearest(runs) is None
    last = study_run(folder, "animals10", design.UNEQUAL.entries[-1], 0, 0.43)
    assert faults.nearest(faults.trained(folder)) == TITLES[2]  # 0.6
    # A run that diverged has ended, and lands nowhere.
    third = faults.trained(folder)[TITLES[2]]
    for run in (last, third):
        broken = {"status": "failed", "reason": "the loss is infinite", "epoch": 2}
        write_json(run.folder / "metrics.json", broken)
    assert faults.trained(folder)[TITLES[2]].diverged
    assert faults.nearest(faults.trained(folder)) == TITLES[1]  # 0.55


def test_the_design_names_the_nearest_fault_of_the_published_runs():
    runs = faults.trained(PUBLISHED / "study")
    assert faults.nearest(runs) == design.NEAREST, (
        "set design.NEAREST to it: SE is trained with that fault, as book/protocol.md says"
    )
    assert bool(design.RESCUED) == ("rescued" in design.EXTRA) == (design.NEAREST is not None)


def test_the_block_is_trained_as_the_nearest_fault_is():
    for fault in design.UNEQUAL.entries:
        (entry,) = design.rescued(fault).entries
        assert (entry.model, entry.changes) == ("se_resnet50", fault.changes)


def test_an_epoch_passes_a_level_when_it_reaches_it(folder):
    run = faults.subject(folder)  # epoch n has n / 4
    assert (run.experiment.seed, run.experiment.fold) == (0, 0)
    assert [faults.epoch_of(run, level) for level in (0.25, 0.5888, 0.75)] == [1, 3, 3]
    assert faults.epoch_of(run, 1e6) is None


def write(folder, **changes):
    right = dict.fromkeys((faults.AS_TRAINED, *faults.FAULTS), 2)
    metrics = faults.subject(folder).folder / "metrics.json"
    write_json(metrics, {**read_json(metrics), "final_val_acc": 0.5})
    write_json(folder / faults.FILE, {**faults.record_of(faults.subject(folder), right), **changes})


def test_a_record_of_faults_is_checked(folder):
    assert faults.problems(folder) == [] and faults.accuracies(folder) == {}
    write(folder)
    assert faults.problems(folder) == []
    assert faults.accuracies(folder)[faults.SQUEEZED] == 0.5
    right = read_json(folder / faults.FILE)["right"]
    for changes, words in (
        ({"fingerprint": "e" * 64}, "is not about animals10-resnet50-f0-s0"),
        ({"metrics": "0" * 64}, "is not about"),
        ({"images": 5}, "is not about"),
        ({"right": {**right, faults.SQUEEZED: 5}}, "other than counts of 4 images"),
        ({"right": {**right, faults.SQUEEZED: 0.5}}, "other than counts"),
        ({"right": {**right, "upside down": 1}}, "upside down"),
        ({"right": {**right, faults.AS_TRAINED: 3}}, "another accuracy than on record"),
        ({"right": [2]}, "cannot be read"),
    ):
        write(folder, **changes)
        (problem,) = faults.problems(folder)
        assert words in problem
    (folder / faults.FILE).write_text("{")
    assert "cannot be read" in faults.problems(folder)[0]
    write(folder)
    (faults.subject(folder).folder / "metrics.json").unlink()
    assert faults.problems(folder) == [f"{faults.FILE} is of a network that is not published"]
