"""The command line: what it prints, and its exit code."""

import os
import subprocess
import sys

from attn_book.driver import cli, publish


def test_a_path_that_is_not_utf_8_is_printed_escaped(attn_book, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    done = attn_book("data", "--data-dir", odd)
    assert done.returncode == 0, done.stderr
    assert f"Data folder: {tmp_path}/caf\\udce9" in done.stdout


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "attn_book", "data", "prepare", "animals10"]
    done = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: SOURCE is missing: the folder, zip or tar of Animals")


def test_an_empty_source_is_none(attn_book, tmp_path):
    done = attn_book("data", "prepare", "animals10", "", "--data-dir", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: SOURCE is missing: the folder, zip or tar of Animals")


def test_a_missing_data_folder_is_an_error_and_not_an_empty_one(attn_book, tmp_path):
    for command in (["data"], ["train", "sge", "--profile", "smoke"]):
        done = attn_book(*command, "--data-dir", tmp_path / "no", ATTN_BLOCKS_RESULTS=str(tmp_path))
        assert done.returncode == 2
        assert f"error: {tmp_path / 'no'} is no folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_publish_takes_the_folders_that_it_is_given(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        publish, "publish", lambda *given, **named: seen.append((given, named)) or []
    )
    options = ["--results-dir", "/r", "--data-dir", "/d"]
    assert cli.main(["publish", "--profile", "quick", *options]) == 0
    assert seen == [(("quick", "/r"), {"data_dir": "/d"})]
    assert "Published: book/published/quick" in capsys.readouterr().out
    empty = [text if text.startswith("-") else "" for text in options]  # as of unset variables
    assert cli.main(["publish", "--profile", "quick", *empty]) == 0
    assert seen[1] == (("quick", None), {"data_dir": None})
