"""Every block against arrays recorded from PyTorch code; ``book/sources.md`` says whose it was.

The recordings of ``tests/recordings`` always, those of ``$ATTN_REFERENCE_DIR`` where it is set.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from attn_blocks.errors import DataError, SettingError
from attn_book.analysis import reference
from attn_book.records import semantics

# Float64; of an array's largest value where that is above 1. Paddle has float64 kernels for
# everything that the blocks use, so there is no second, float32 tolerance.
TOLERANCE = 1e-9
FOLDERS = [reference.SHIPPED, *map(Path, filter(None, [os.environ.get(reference.VARIABLE)]))]
RECORDINGS = [path for folder in FOLDERS for path in reference.files(folder)]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_block_equals_the_original(path):
    meta = reference.meta_of(path)
    training = meta["mode"] == "train"
    for mode in {training, not training} if meta["mode_independent"] else {training}:
        differences = reference.compare(path, mode)
        assert {"y", "gx"} <= differences.keys()
        wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
        assert not wrong


@pytest.mark.parametrize("attn", semantics.BLOCKS)
def test_a_checkout_holds_every_block_in_both_modes(attn):
    modes = set()
    for path in reference.files(reference.SHIPPED, attn):
        meta = reference.meta_of(path)
        modes |= {"train", "eval"} if meta["mode_independent"] else {meta["mode"]}
    assert modes == {"train", "eval"}


@pytest.mark.parametrize("changed", ["y", "gx", "grad/weight"])
def test_a_wrong_recording_is_noticed(tmp_path, changed):
    [path] = reference.files(reference.SHIPPED, "sge")
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[changed] = arrays[changed] + 1e-6
    np.savez(tmp_path / path.name, **arrays)
    differences = reference.compare(tmp_path / path.name, training=False)
    name = {"grad/weight": "gradient of weight"}.get(changed, changed)
    assert [n for n, value in differences.items() if value > TOLERANCE] == [name]


def test_an_empty_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(reference.VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=r"no \.npz files"):
        reference.table("sge")


def test_the_table_has_a_row_for_each_recording_of_the_block(monkeypatch):
    monkeypatch.delenv(reference.VARIABLE, raising=False)
    table = reference.table("ge")
    assert table.index.name == "recording in tests/recordings"
    assert list(table.index) == [path.stem for path in reference.files(reference.SHIPPED, "ge")]
    assert set(table["repository"]) == {
        "hyunjaelee410/style-based-recalibration-module",
        "huggingface/pytorch-image-models",
    }
    assert table.drop(columns="repository").astype(float).max(axis=None) <= TOLERANCE
    with pytest.raises(SettingError, match="sge"):
        reference.table("sgee")


def test_a_block_without_recordings_is_said_to_have_none(tmp_path, monkeypatch):
    (path,) = [*reference.SHIPPED.glob("srm*.npz")][:1]
    shutil.copy(path, tmp_path)
    monkeypatch.setenv(reference.VARIABLE, str(tmp_path))
    assert reference.table("sge") == "There is no recording of sge in ATTN_REFERENCE_DIR."


def test_the_table_is_of_the_folder_that_is_named(tmp_path, monkeypatch):
    for attn in ("sge", "srm"):
        shutil.copy(reference.files(reference.SHIPPED, attn)[0], tmp_path)
    monkeypatch.setenv(reference.VARIABLE, str(tmp_path))
    table = reference.table("srm")
    assert table.index.name == f"recording in {reference.VARIABLE}"
    assert len(table) == 1


def test_without_recordings_the_table_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv(reference.VARIABLE, raising=False)
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "none")
    assert f"{reference.VARIABLE} is not set" in reference.table("sge")
