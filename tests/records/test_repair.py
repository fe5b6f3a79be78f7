"""Damaged records: named and removed, never read."""

import contextlib
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_blocks.errors import CheckpointError, StorageError
from attn_blocks.files import read_json
from attn_blocks.tensors import save_tensors
from attn_book.records import reading, repair
from attn_book.records import run as records_run
from attn_book.records.logits import save_logits


@pytest.mark.parametrize(
    "content",
    [
        "epoch,lr\n1,0.1\n",
        "epoch,lr,train_loss,train_acc,val_loss,val_acc,seconds\n1,0.1,2.0,0.5\n",
        "epoch,lr,train_loss,train_acc,val_loss,val_acc,seconds\n1,0.1,x,0,0,0,0\n",
    ],
)
def test_a_damaged_history_is_named(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="history.csv"):
        reading.read_history(path)


def changed(name, **values):
    """A damage: a JSON record with other values (None takes one out)."""

    def damage(folder):
        record = {**read_json(folder / name), **values}
        record = {key: value for key, value in record.items() if value is not None}
        (folder / name).write_text(json.dumps(record))

    return damage


def cut(name, size):
    """A damage: a file without its last bytes."""

    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-size])

    return damage


def edited(name, old, new):
    """A damage: other text."""

    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


def folder_for(name):
    """A damage: a folder in a file's place."""

    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()
        (folder / name / "file").write_text("")

    return damage


AGAIN = "make reproduce-all sets it aside and makes it again"


DAMAGES = {
    "history cut in a line": (
        cut("history.csv", 9),
        "history.csv is damaged (its last line is cut off)",
    ),
    "history cut in a number": (
        cut("history.csv", 2),
        "history.csv is damaged (its last line is cut off)",
    ),
    "history with a line cut": (
        edited("history.csv", ",1.5\n2", "\n2"),
        "history.csv is damaged (epoch 1 has 6 values)",
    ),
    "history empty": (
        cut("history.csv", 10_000),
        "history.csv is damaged (its columns are missing)",
    ),
    "history of other columns": (
        edited("history.csv", "val_acc", "acc"),
        "history.csv is damaged (its columns",
    ),
    "history with a hole": (
        edited("history.csv", "\n2,", "\n3,"),
        "history.csv is damaged (epoch 2 is called 3)",
    ),
    "history with NaN": (
        edited("history.csv", "0.7", "nan"),
        "history.csv is damaged (a value of epoch 1 is not finite)",
    ),
    "history of bytes": (
        lambda folder: (folder / "history.csv").write_bytes(b"\xff\0"),
        "history.csv is damaged ('utf-8' codec can't decode",
    ),
    "metrics cut": (cut("metrics.json", 5), "metrics.json is not readable JSON ("),
    "metrics a list": (
        lambda folder: (folder / "metrics.json").write_text("[]"),
        "metrics.json is damaged (list indices must be",
    ),
    "metrics without accuracy": (
        changed("metrics.json", final_val_acc=None),
        "metrics.json is damaged ('final_val_acc' is missing)",
    ),
    "metrics with NaN": (
        edited("metrics.json", "20", "NaN"),
        "metrics.json is not readable JSON (NaN is not JSON)",
    ),
    "metrics with text for a number": (
        changed("metrics.json", params="many"),
        "metrics.json is damaged (its params is",
    ),
    "metrics with a number of 401 digits": (
        edited("metrics.json", "20", "1" + "0" * 400),
        "metrics.json is not readable JSON (a number of 401 digits)",
    ),
    "metrics with a number of 9001 digits": (
        edited("metrics.json", "20", "1" + "0" * 9000),
        "metrics.json is not readable JSON (",
    ),
    "metrics with a float that is too large": (
        edited("metrics.json", "5.3", "1e999"),
        "metrics.json is not readable JSON (the number 1e999)",
    ),
    "record with a number of 401 digits": (
        edited("experiment.json", '"seed": 1', '"seed": 1' + "0" * 400),
        "experiment.json is not readable JSON (a number of 401 digits)",
    ),
    **{
        f"a folder for {name}": (folder_for(name), f"{name} is {words}")
        for name, words in {
            "experiment.json": "not readable JSON (",
            "history.csv": "damaged (",
            "logits.safetensors": "not a complete safetensors file",
            "metrics.json": "not readable JSON (",
            "last.safetensors": "not a complete safetensors file",
        }.items()
    },
    "metrics of an unknown status": (
        changed("metrics.json", status="fine"),
        "metrics.json is damaged (its status is",
    ),
    "metrics with an accuracy in percent": (
        changed("metrics.json", final_val_acc=86.1),
        "metrics.json is damaged (its final_val_acc is 86.1, which is no share)",
    ),
    "metrics with an empty confusion matrix": (
        changed("metrics.json", confusion=[[0, 0], [0, 0]]),
        "metrics.json is damaged (its confusion matrix counts no image)",
    ),
    "metrics with half a confusion matrix": (
        changed("metrics.json", confusion=[[1, 1], [1]]),
        "metrics.json is damaged (its confusion matrix is not square)",
    ),
    "metrics whose blocks are none": (
        changed("metrics.json", blocks=["attn"]),
        "metrics.json is damaged ('list' object has no attribute 'items')",
    ),
    "metrics with a block of nothing": (
        changed("metrics.json", blocks={"attn": {"parameters": "many"}}),
        "metrics.json is damaged (its block attn is",
    ),
    "metrics with nothing frozen": (
        edited("metrics.json", "{", '{"frozen": null,'),
        "metrics.json is damaged ('NoneType' object is not subscriptable)",
    ),
    "metrics of half a freezing": (
        changed("metrics.json", frozen={"accuracy": 0.5}),
        "metrics.json is damaged ('changed' is missing)",
    ),
    "metrics of another run": (
        changed("metrics.json", final_val_acc=0.75),
        "metrics.json does not fit the rest of the run "
        "(final_val_acc is 0.75, its history gives 0.5)",
    ),
    "logits cut": (
        cut("logits.safetensors", 1),
        "logits.safetensors is not a complete safetensors file",
    ),
    "logits without labels": (
        lambda folder: save_tensors(
            folder / "logits.safetensors", {"logits": np.zeros((4, 2), np.float16)}, {}
        ),
        "logits.safetensors is damaged ('labels')",
    ),
    "logits of another run": (
        lambda folder: save_logits(
            folder / "logits.safetensors", np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
        ),
        "metrics.json does not fit the rest of the run (its logits do not give its confusion",
    ),
    "record cut": (cut("experiment.json", 5), "experiment.json is not readable JSON ("),
    "record without a seed": (
        changed("experiment.json", seed=None),
        "experiment.json is damaged ('seed' is missing)",
    ),
    "record with other data": (
        changed("experiment.json", data="Shapes"),
        "experiment.json is damaged (string ind",
    ),
    "record of another run": (
        changed("experiment.json", seed=2),
        "metrics.json does not fit the rest of the run (its record is that of shapes-resnet18-f0-",
    ),
    "weights cut": (
        cut("last.safetensors", 1),
        "last.safetensors is not a complete safetensors file",
    ),
    "best weights empty": (
        cut("best.safetensors", 10_000),
        "best.safetensors is not a complete safetensors file",
    ),
    "weights of no epoch": (
        lambda folder: save_tensors(folder / "last.safetensors", {"w": np.zeros(3)}, {}),
        "last.safetensors does not say of which epoch it is",
    ),
    "weights of another epoch": (
        lambda folder: save_tensors(folder / "last.safetensors", {}, {"epoch": "1"}),
        "metrics.json does not fit the rest of the run (last.safetensors is not of epoch 2)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_set_aside(run, damage):
    change, words = DAMAGES[damage]
    assert repair.set_aside_damaged_files(run) == []
    assert run.status == "finished" and run.has_weights
    change(run.folder)
    (problem,) = repair.set_aside_damaged_files(run)
    assert problem.startswith(f"{run.folder}/{words}")
    assert problem.endswith(AGAIN)
    name = words.split()[0]
    assert not (run.folder / name).exists() and (run.folder / f"{name}.damaged").exists()
    # Nothing is left to say, and the run is not taken for finished.
    assert repair.set_aside_damaged_files(run) == []
    assert run.status == "unfinished" or not run.has_weights


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO], ids=["forbidden", "broken disk"])
@pytest.mark.parametrize("name", repair.READERS)
def test_a_file_that_cannot_be_read_is_left_alone(run, name, reason, monkeypatch):
    before, opened = sorted(run.folder.iterdir()), Path.open

    def refuse(path, *arguments, **options):
        if path.name == name:
            raise OSError(reason, os.strerror(reason), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=rf"/{name} cannot be read: {os.strerror(reason)}; "):
        repair.put_in_order(run)
    assert sorted(run.folder.iterdir()) == before


def test_of_a_history_that_may_not_be_read_the_right_is_to_be_changed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointError, match="Permission denied.*; change who may read it$"):
        reading.read_history(tmp_path / "history.csv")


def test_a_damaged_record_is_never_read(run):
    (run.folder / "metrics.json").write_text('{"status": "finished"}')
    (run.folder / "history.csv").write_text("")
    assert run.status == "unfinished"
    for attribute in ("metrics", "history"):
        with pytest.raises(CheckpointError, match=rf"{attribute}\..* is damaged"):
            getattr(run, attribute)


@pytest.mark.parametrize(("recorded", "fits"), [(20.0, True), (20.1, True), (19.9, False)])
def test_a_sum_halfway_between_two_fits_both_and_no_other(run, recorded, fits):
    """10.02 and 10.03 make 20.05, which float arithmetic rounds up or down."""
    path = run.folder / "history.csv"
    first, *rows = path.read_text().splitlines()
    column = first.split(",").index("seconds")
    cells = [row.split(",") for row in rows]
    for row, seconds in zip(cells, ("10.02", "10.03"), strict=True):
        row[column] = seconds
    path.write_text("\n".join([first, *map(",".join, cells)]) + "\n")
    changed("metrics.json", seconds=recorded)(run.folder)
    assert bool(repair.disagreements(records_run.Run(run.folder))) != fits


def test_a_checkpoint_needs_its_history_and_its_best_weights(run):
    assert len(repair.history_until_checkpoint(run.folder, {"epoch": "2"})) == 2
    with pytest.raises(CheckpointError, match="last.safetensors is of epoch 3, the history has 2"):
        repair.history_until_checkpoint(run.folder, {"epoch": "3"})
    with pytest.raises(CheckpointError, match="does not say of which epoch"):
        repair.history_until_checkpoint(run.folder, {"epoch": "two"})
    # Stopped while epoch 2 was being saved: the best weights may already be its own.
    assert len(repair.history_until_checkpoint(run.folder, {"epoch": "1"})) == 1
    save_tensors(run.folder / "best.safetensors", {"w": np.zeros(3)}, {"epoch": "1"})
    with pytest.raises(CheckpointError, match="best.safetensors is of epoch 1, the best was 2"):
        repair.history_until_checkpoint(run.folder, {"epoch": "2"})


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)


JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
@pytest.mark.parametrize(
    ("name", "read"),
    [("metrics.json", reading.read_metrics), ("experiment.json", reading.read_record)],
)
def test_changed_records_are_read_or_refused_in_our_own_words(run, name, read, data):
    whole = read_json(run.folder / name)
    if data.draw(st.booleans()):
        where = whole
        while True:
            key = data.draw(st.sampled_from(sorted(where)))
            if not isinstance(where[key], dict) or not where[key] or data.draw(st.booleans()):
                break
            where = where[key]
        if data.draw(st.booleans()):
            where[key] = data.draw(JSON)
        else:
            del where[key]
    else:
        whole = data.draw(JSON)
    path = run.folder / f"changed-{name}"
    path.write_text(json.dumps(whole))
    try:
        assert read(path) == whole
        if name == "experiment.json":
            (path.parent / "changed").mkdir(exist_ok=True)
            path.replace(path.parent / "changed" / name)
            assert records_run.Run(path.parent / "changed").experiment.name
    except CheckpointError as error:
        assert str(path) in str(error)


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_changed_histories_are_read_or_refused_in_our_own_words(run, data):
    content = bytearray((run.folder / "history.csv").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path = run.folder / "changed-history.csv"
    path.write_bytes(bytes(content))
    try:
        rows = reading.read_history(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(
            math.isfinite(value) or name == "val_loss"
            for row in rows
            for name, value in row.items()
        )


def test_an_infinite_validation_loss_is_no_damage(run):
    edited("history.csv", "0.6", "inf")(run.folder)
    assert repair.set_aside_damaged_files(run) == []
    assert run.history["val_loss"].tolist() == [math.inf, 0.6]


def test_a_run_of_older_semantics_is_set_aside(run):
    record = read_json(run.folder / "experiment.json")
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    assert repair.put_in_order(run) == []
    older = {**record, "semantics": {**record["semantics"], "training": 0}}
    (run.folder / "experiment.json").write_text(json.dumps(older))
    (line,) = repair.put_in_order(run)
    kept = run.folder.parents[1] / "outdated" / f"{run.folder.name}-1"
    assert line.startswith(f"{run.folder} is set aside in {kept}: training (0, now ")
    assert {path.name for path in kept.iterdir()} == before.keys()
    assert (kept / "history.csv").read_bytes() == before["history.csv"]
    assert run.status == "unfinished" and not list(run.folder.iterdir())


def test_a_run_of_an_unknown_network_is_named(run):
    changed("experiment.json", model="resnet999")(run.folder)
    (line,) = repair.set_aside_outdated(run)
    assert line.startswith(
        f"{run.folder / 'experiment.json'} is damaged (unknown model 'resnet999'"
    )
    assert line.endswith(AGAIN)
    assert (run.folder / "experiment.json.damaged").exists()


def test_what_is_moved_aside_leaves_locks_and_the_log(run):
    for name in (".lock", "train.log"):
        (run.folder / name).touch()
    first = repair.move_aside(run)
    assert {path.name for path in run.folder.iterdir()} == {".lock", "train.log"}
    (run.folder / "metrics.json").touch()
    assert [path.name for path in repair.move_aside(run).iterdir()] == ["metrics.json"]
    assert (first / "last.safetensors").exists()


@pytest.mark.parametrize("done", range(8))  # of six files and the folder that they lie in
def test_a_move_that_was_killed_is_finished_at_the_next_start(run, done, monkeypatch):
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    rename, left = Path.rename, iter(range(done))

    def killed(path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        repair.move_aside(run)
    lines = repair.put_in_order(run)
    (kept,) = (run.folder.parents[1] / "outdated").iterdir()
    assert kept.name == f"{run.folder.name}-1"
    whole = f"{run.folder} is set aside in {kept}, which had been interrupted"
    assert lines == [whole] * (done < 7)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not list(run.folder.iterdir()) and repair.put_in_order(run) == []


def test_a_checkpoint_that_cannot_be_restored_is_kept(run):
    kept = {
        name: (run.folder / name).read_bytes() for name in ("history.csv", *records_run.WEIGHTS)
    }
    repair.set_aside_checkpoint(run.folder)
    for name, content in kept.items():
        assert (run.folder / f"{name}.damaged").read_bytes() == content
    # Without one there is nothing to keep: the run was stopped in its first epoch.
    (run.folder / "history.csv").touch()
    repair.set_aside_checkpoint(run.folder)
    assert (run.folder / "history.csv").exists()
