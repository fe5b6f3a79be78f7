"""Files are whole or absent."""

import json

import numpy as np
import pytest

from attn_blocks import files
from attn_blocks.errors import CheckpointError


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as stream:
        stream.write("half of the new")
        raise RuntimeError("the disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": 1,}'])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="metrics.json"):
        files.read_json(path)


def test_tensors_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "w.safetensors"
    # A transposed view is not contiguous; its values, not its memory, must be written.
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.float64(0.1).reshape(1)}
    files.save_tensors(path, tensors, {"epoch": "3"})
    loaded, metadata = files.load_tensors(path)
    assert metadata == {"epoch": "3"}
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_a_truncated_or_foreign_tensor_file_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    files.save_tensors(path, {"a": np.zeros(1000, np.float32)}, {})
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"\x80\x04pickle", json.dumps({}).encode()):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="w.safetensors"):
            files.load_tensors(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        files.load_tensors(tmp_path / "absent.safetensors")


def test_project_folder_prefers_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_RESULTS", str(tmp_path / "environment"))
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS", tmp_path) == tmp_path
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS") == tmp_path / "environment"
    monkeypatch.delenv("ATTN_BLOCKS_RESULTS")
    # From any working folder, as notebooks have their own.
    monkeypatch.chdir(tmp_path)
    assert files.project_folder("results", "ATTN_BLOCKS_RESULTS") == files.PROJECT / "results"
