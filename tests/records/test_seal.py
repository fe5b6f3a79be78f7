"""Sums over what is published: every other file, change and loss is found."""

import errno
import shutil
import subprocess

import pytest

from attn_book.records import seal as records_seal
from attn_book.records.seal import SUMS, broken_seals, seal


@pytest.fixture
def folder(tmp_path):
    for name in ("a/b/page.ipynb", "summary.csv"):
        (tmp_path / "sealed" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sealed" / name).write_text(name)
    seal(tmp_path / "sealed")
    return tmp_path / "sealed"


def test_what_is_sealed_is_whole_and_the_usual_command_says_so_too(folder):
    assert broken_seals(folder) == []
    if shutil.which("sha256sum"):
        command = ["sha256sum", "--check", "--strict", SUMS]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.stdout == "a/b/page.ipynb: OK\nsummary.csv: OK\n"


def link(folder):
    (folder / "summary.csv").unlink()
    (folder / "summary.csv").symlink_to("a/b/page.ipynb")


def link_folder(folder):
    (folder / "more").symlink_to("a")


def hide(folder):
    (folder / "a/.hidden").write_text("")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "summary.csv").write_text("x"), "summary.csv is not as it was published"),
        (lambda f: (f / "summary.csv").unlink(), "summary.csv is missing"),
        (lambda f: shutil.rmtree(f / "a"), "a/b/page.ipynb is missing"),
        (lambda f: (f / "a/x\ny").write_text(""), r"a/x\ny does not belong to what was published"),
        (hide, "a/.hidden does not belong to what was published"),
        (link, "summary.csv is a link or a folder"),
        (link_folder, "more does not belong to what was published"),
        (lambda f: (f / SUMS).unlink(), f"{SUMS}, which holds the sums of its files, is missing"),
        (lambda f: (f / SUMS).write_text(""), f"{SUMS} is damaged: it holds other lines"),
        (lambda f: (f / SUMS).write_text("0 x\n"), f"{SUMS} is damaged: it holds other lines"),
        (lambda f: (f / SUMS).write_bytes(b"\xff"), f"{SUMS} cannot be read"),
    ],
)
def test_every_change_is_named(folder, change, words):
    change(folder)
    (problem,) = broken_seals(folder)
    assert problem.startswith(words)


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(records_seal, "sha256_of", refuse)
    assert broken_seals(folder) == [
        f"{name} cannot be read (Permission denied)" for name in ("a/b/page.ipynb", "summary.csv")
    ]
