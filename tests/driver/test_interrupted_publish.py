"""Publishing that was killed, that runs twice at once, or that has nothing to add."""

import nbformat
import pytest

from attn_blocks.files import folder_lock, recover_folder
from attn_book.driver import publish as publishing
from attn_book.driver.numbers import other_numbers
from attn_book.driver.verify import check
from attn_book.records.published import PublishError


@pytest.fixture
def killed(tmp_path):
    """What is left by a kill between the two renames of ``atomic_folder``; the published folder."""
    space = tmp_path / "published" / ".smoke.abc.tmp"
    for name in ("old", "smoke"):
        (space / name).mkdir(parents=True)
        (space / name / "summary.csv").write_text(name)
    return tmp_path / "published"


def test_what_was_published_before_is_put_back(killed, monkeypatch):
    assert check(killed) == [
        ".smoke.abc.tmp: was left by an interrupted publish; to put that right, run: make publish "
        "PROFILE=smoke"
    ]
    monkeypatch.setattr(publishing, "_publish", lambda *_: [])
    monkeypatch.delenv("ATTN_BLOCKS_RESULTS")
    (line,) = publishing.publish("smoke", None, killed)
    assert line == f"{killed}/.smoke.abc.tmp was left by an interrupted publish; it is removed"
    assert [path.name for path in killed.iterdir()] == ["smoke"]
    assert (killed / "smoke" / "summary.csv").read_text() == "old"


def test_what_was_published_last_stays(killed):
    (killed / "smoke").mkdir()
    recover_folder(killed / "smoke")
    assert [path.name for path in killed.iterdir()] == ["smoke"]
    assert not list((killed / "smoke").iterdir())


def test_a_folder_that_was_named_and_has_nothing_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "smoke" / "runs").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(PublishError, match=f"{folder}/smoke holds no results; run: make repro"):
            publishing.publish("smoke", folder, tmp_path / "published")
    monkeypatch.setenv("ATTN_BLOCKS_RESULTS", str(tmp_path))
    with pytest.raises(PublishError, match=f"{tmp_path}/smoke holds no results"):
        publishing.publish("smoke", None, tmp_path / "published")
    assert not (tmp_path / "published").exists()


def test_one_publishes_at_a_time(tmp_path, monkeypatch):
    held = []

    def publish(*_):
        with folder_lock(tmp_path, ".publish.lock", wait=False) as free:
            held.append(free)
        return []

    monkeypatch.setattr(publishing, "_publish", publish)
    monkeypatch.delenv("ATTN_BLOCKS_RESULTS")
    publishing.publish("smoke", None, tmp_path / "published")
    assert held == [False]


def test_pages_of_other_code_are_not_compared():
    def page(*sources):
        cells = [nbformat.v4.new_code_cell(source) for source in ("seeds = 0", *sources)]
        cells[0].metadata["tags"] = ["injected-parameters"]
        return nbformat.v4.new_notebook(cells=cells)

    one, other = page("1"), page("1")
    other.cells[0].source = "seeds = None"
    other.cells.insert(1, nbformat.v4.new_markdown_cell("Prose has no outputs."))
    assert other_numbers(one, other) == []
    for changed in (page(), page("2"), page("1", "2")):
        (problem,) = other_numbers(one, changed)
        assert problem.startswith("has other code than in English")
