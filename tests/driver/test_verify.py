"""What commands say where a file or a folder cannot be read or written."""

from pathlib import Path

import pytest

from attn_blocks.errors import StorageError
from attn_book.driver import cli, doctor, predict


def test_what_was_predicted_is_printed_though_no_picture_can_be_drawn(monkeypatch, capsys):
    def refuse(*_):
        raise StorageError("cams/cat-cam.png cannot be written", OSError())

    monkeypatch.setattr(predict, "predict", lambda *_: {"cat.png": [("cat", 0.75)]})
    monkeypatch.setattr(predict, "draw_cams", refuse)
    assert cli.main(["predict", "cat.png", "--weights", "run", "--cam", "cams"]) == 2
    out, err = capsys.readouterr()
    assert out == "cat.png\tcat\t0.750\n"
    assert err == "error: cams/cat-cam.png cannot be written\n"


@pytest.fixture(params=[True, False], ids=["checkout", "installed"])
def in_checkout(request, monkeypatch):
    """Whether the packages lie in a checkout, which has a Makefile."""
    monkeypatch.setattr(doctor, "in_checkout", lambda: request.param)
    return request.param


def test_a_folder_that_cannot_be_written_needs_no_room(in_checkout, tmp_path, monkeypatch):
    other = "name another folder: " + ("RESULTS=/path" if in_checkout else "--results-dir /path")
    monkeypatch.setattr(doctor, "LEAST_FREE", float("inf"))
    assert doctor._disk("RESULTS", tmp_path).fix == f"make room, or {other}"
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    found = doctor._disk("RESULTS", tmp_path)
    assert found.problem == f"{tmp_path} cannot be written"
    assert found.fix == f"change who may write there, or {other}"


def test_without_a_makefile_nothing_is_to_be_made(in_checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHONS", ((2, 7), (2, 7)))
    fixes = doctor._python().fix, doctor._data(Path(tmp_path / "none")).fix
    assert ["make " in fix for fix in fixes] == [in_checkout] * 2
    if not in_checkout:
        assert fixes[1].endswith("attn-book doctor --data-dir /path/to/the/images")
