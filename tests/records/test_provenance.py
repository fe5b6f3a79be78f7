"""Where a result is from: the commit of the checkout, and of no other repository around it."""

import shutil
import subprocess

import pytest

from attn_book.records import provenance


@pytest.fixture
def repository(tmp_path):
    """A repository with a commit."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    author = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_the_commit_is_the_checkouts_and_no_other_repositorys(repository, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", repository)
    command = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert provenance.git_commit() == head
    # Where the package is installed into an environment inside a repository of the reader's own.
    (repository / ".venv").mkdir()
    monkeypatch.setattr(provenance, "PROJECT", repository / ".venv")
    assert provenance.git_commit() is None
    monkeypatch.setattr(provenance, "PROJECT", repository / "nowhere")
    assert provenance.git_commit() is None
