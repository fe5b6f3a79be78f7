"""Every block against arrays recorded from the papers' own PyTorch code."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from attn_blocks.errors import DataError, SettingError
from attn_book.analysis import reference

# Float64; of an array's largest value where that is above 1. Paddle has float64 kernels for
# everything that the blocks use, so there is no second, float32 tolerance.
TOLERANCE = 1e-9
UNSET = (
    f"{reference.VARIABLE} is not set: the blocks are not compared with the papers' own code here, "
    "only with their NumPy restatement (tests/layers/test_against_numpy.py); set it to the folder "
    "of recorded .npz files"
)


def recordings():
    try:
        return reference.files() or []
    except DataError:
        return []  # the first test fails with the reason


def test_the_folder_holds_reference_files():
    if reference.files() is None:
        pytest.skip(UNSET)


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
def test_block_equals_the_original(path):
    with np.load(path, allow_pickle=False) as archive:
        meta = json.loads(str(archive["meta"]))
    training = meta["mode"] == "train"
    for mode in {training, not training} if meta["mode_independent"] else {training}:
        differences = reference.compare(path, mode)
        assert {"y", "gx"} <= differences.keys()
        wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
        assert not wrong


def test_a_wrong_recording_is_noticed(tmp_path):
    if not recordings():
        pytest.skip(UNSET)
    path = next(p for p in recordings() if p.name.startswith("sge"))
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["y"] = arrays["y"] + 1e-6
    np.savez(tmp_path / path.name, **arrays)
    differences = reference.compare(tmp_path / path.name, training=False)
    assert differences["y"] > TOLERANCE >= differences["gx"]


def test_an_empty_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(reference.VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="no .npz files"):
        reference.files()


def test_the_table_has_a_row_for_each_recording_of_the_block(tmp_path, monkeypatch):
    if not recordings():
        pytest.skip(UNSET)
    for name in ("sge", "srm", "se_timm"):
        shutil.copy(next(p for p in recordings() if p.name.startswith(name)), tmp_path)
    monkeypatch.setenv(reference.VARIABLE, str(tmp_path))
    assert [name.split("__")[0] for name in reference.table("se").index] == ["se_timm"]
    assert len(reference.table("sge")) == 1
    with pytest.raises(SettingError, match="sge"):
        reference.table("sgee")


def test_without_recordings_the_table_says_what_to_set(monkeypatch):
    monkeypatch.delenv(reference.VARIABLE, raising=False)
    assert reference.VARIABLE in reference.table("sge")
