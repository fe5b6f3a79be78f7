"""Files are whole or absent."""

import ast
import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks import files
from attn_blocks.datasets import DATASETS
from attn_blocks.errors import CheckpointError, SettingError, StorageError
from attn_blocks.tensors import load_tensors, save_tensors, tensor_shapes


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as stream:
        stream.write("half of the new")
        raise RuntimeError("the disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    target, rename = tmp_path / "study", files.Path.rename
    target.mkdir()
    (target / "record").write_text("old")

    def refuse_the_new(path, place):
        if path.name == target.name and place == target:
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(path, place)

    monkeypatch.setattr(files.Path, "rename", refuse_the_new)
    with pytest.raises(PermissionError), files.atomic_folder(target) as space:
        (space / "record").write_text("new")
    assert (target / "record").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_written_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Or else a power cut could leave an empty file in place of the old one."""
    done = []

    def noted(name, original):
        return lambda path, place: done.append((name, place.name)) or original(path, place)

    def synced(descriptor):
        done.append(("synced", os.fstat(descriptor).st_size))

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "sync", lambda: done.append(("synced", "all")))
    for name in ("replace", "rename"):
        monkeypatch.setattr(files.Path, name, noted(name, getattr(files.Path, name)))
    files.write_bytes(tmp_path / "a.txt", b"whole")
    assert done == [("synced", 5), ("replace", "a.txt")]
    done.clear()
    with files.atomic_folder(tmp_path / "study") as space:
        (space / "b.txt").write_text("new")
    assert done == [("synced", "all"), ("rename", "study")]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_room_that_is_needed(tmp_path, monkeypatch, reason):
    def full(descriptor):
        raise OSError(reason, os.strerror(reason))

    path = tmp_path / "last.safetensors"
    save_tensors(path, {"a": np.zeros(10, np.float32)}, {})
    old = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        save_tensors(path, {"a": np.zeros(1_000_000, np.float32)}, {})
    message = str(caught.value)
    assert f"no room left for {path}: it needs 4.0 MB" in message
    assert "MB are free" in message
    assert "give the same command again" in message
    assert (caught.value.errno, caught.value.strerror) == (reason, os.strerror(reason))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for work in (files.write_bytes, files.write_json):
        with pytest.raises(StorageError, match=r"file/x cannot be written: .*choose another"):
            work(tmp_path / "file" / "x", b"" if work is files.write_bytes else {})
    with pytest.raises(StorageError, match="file/results cannot be written"):  # noqa: SIM117
        with files.folder_lock(tmp_path / "file" / "results"):
            pass


def test_a_full_disk_in_held_work_is_explained(tmp_path):
    with pytest.raises(StorageError, match=r"no room left for .*vdl: it needs more"):  # noqa: SIM117
        with files.folder_lock(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "vdl"))
    with (
        pytest.raises(FileNotFoundError),
        files.folder_lock(tmp_path),
    ):  # what is not about room stays
        raise FileNotFoundError(errno.ENOENT, "No such file")


HOLD = """
import sys, time
from attn_blocks.files import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_holds_a_folder_and_the_lock_of_a_killed_one_is_taken_over(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with files.folder_lock(tmp_path, wait=False) as held:
            assert not held
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / ".lock").exists()
    with files.folder_lock(tmp_path, wait=False) as held:  # at once
        assert held


def test_what_killed_writes_left_is_named_and_removed(tmp_path):
    left = tmp_path / ".history.csv.abc123.tmp"
    left.write_text("epoch,lr")
    (tmp_path / "history.csv").write_text("whole")
    assert files.remove_leftovers(tmp_path) == [
        f"{left} was left by an interrupted write; it is removed"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    assert files.remove_leftovers(tmp_path / "absent") == []


def test_a_write_makes_folders_and_keeps_line_ends(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with files.atomic_write(path) as stream:
        stream.write("ä\n")
    assert path.read_bytes() == "ä\n".encode()


def test_json_refuses_what_json_cannot_hold(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(ValueError):
        files.write_json(path, {"loss": float("nan")})
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"a": 1,}', b"[NaN]", b"[" * 100_000, b"1" * 5000],
    ids=range(7),
)
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="metrics.json"):
        files.read_json(path)


@settings(max_examples=100)
@given(content=st.binary(max_size=60) | st.text('{}[]",:0123456789.eE-+ntfNaI').map(str.encode))
def test_json_is_read_or_refused_in_our_own_words(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        value = files.read_json(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        json.dumps(value, allow_nan=False)


def reads_code(call):
    """Whether a call may run what it reads."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in ("eval", "exec", "compile", "__import__")
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    if (function.value.id, function.attr) in (("np", "load"), ("numpy", "load")):
        return not any(k.arg == "allow_pickle" and k.value.value is False for k in call.keywords)
    return function.value.id in (
        "pickle",
        "marshal",
        "shelve",
        "joblib",
        "yaml",
        "paddle",
        "torch",
        "pd",
    ) and function.attr in ("load", "loads", "open", "unsafe_load", "read_pickle")


def imported(node):
    """The modules that may run what they read, of those that a statement imports."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
    known = {"pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle", "torch"}
    return known & {name.partition(".")[0] for name in names}


def test_no_file_is_read_as_code_but_the_block_that_a_reader_names():
    calls, importers = {}, {}
    for path in [*(files.PROJECT / "src").rglob("*.py"), *(files.PROJECT / "book").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                calls.setdefault(reads_code(node), []).append(path.name)
            for module in imported(node):
                importers.setdefault(module, []).append(path.name)
    assert len(calls[False]) > 1000
    assert importers == {"pickle": ["cifar10.py"]}  # with a reader of its own, see there
    assert calls[True] == ["own.py"] * 2  # ``attn-book judge``: exec and compile
    assert reads_code(ast.parse("np.load(path)").body[0].value)
    assert imported(ast.parse("from torch.serialization import load as np").body[0]) == {"torch"}


READERS = (files.read_json, load_tensors, tensor_shapes)


@pytest.mark.parametrize("read", READERS)
def test_what_to_do_about_a_damaged_file_is_the_callers_to_say(tmp_path, read):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"{")
    for remedy, words in (((), "; delete it and make or fetch it again"), (["ask"], "; ask")):
        with pytest.raises(CheckpointError, match=rf"w.safetensors is not .*\){words}$"):
            read(path, *remedy)
    with pytest.raises(CheckpointError, match=r"w.safetensors is not .*\)$"):
        read(path, remedy="")
    save_tensors(path, {"a": np.array([np.nan])}, {})
    with pytest.raises(CheckpointError, match="a holds NaN or infinity; ask$"):
        load_tensors(path, "ask")


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch, read):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "w.safetensors"
    save_tensors(path, {}, {})
    for name in ("open", "read_text"):  # the superuser may read anything, so it is acted
        monkeypatch.setattr(files.Path, name, refuse)
    with pytest.raises(CheckpointError, match="Permission denied.*; change who may read it$"):
        read(path)


def test_project_folder_prefers_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_RESULTS", str(tmp_path / "environment"))
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS", tmp_path) == tmp_path
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS") == tmp_path / "environment"
    monkeypatch.delenv("ATTN_BLOCKS_RESULTS")
    # From any working folder, as notebooks have their own.
    monkeypatch.chdir(tmp_path)
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS") == files.PROJECT / "results"


@pytest.mark.parametrize("folder", [5, b"data", ["data"], "~nobody-of-this-name/data"])
def test_what_is_no_path_is_refused(folder):
    with pytest.raises(SettingError, match="the path of the folder data cannot be"):
        files.project_folder("data", folder=folder)


def test_the_command_line_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", os.devnull)
    assert files.command_line() == "attn-book"  # not installed as a script
    (scripts / "attn-book").write_text("#!/bin/sh\n")
    (scripts / "attn-book").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert files.command_line() == ".venv/bin/attn-book"
    assert ".venv/bin/attn-book data prepare cifar10 --dow" in DATASETS["cifar10"].how_to_get
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert files.command_line() == str(scripts / "attn-book")
    monkeypatch.setenv("PATH", str(scripts))
    assert files.command_line() == "attn-book"
