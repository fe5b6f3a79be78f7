"""The records of networks at full width: what is wrong with one is listed, whatever it is."""

import shutil

import pytest

from attn_blocks.errors import CheckpointError
from attn_book.records import full_size
from attn_book.records.published import PUBLISHED
from attn_book.records.seal import seal

NAME = "animals10-resnet50-s0"


@pytest.fixture
def folder(tmp_path):
    """One of the published records, alone and whole."""
    (tmp_path / "records").mkdir()
    for suffix in (".json", ".scores.npy"):
        path = PUBLISHED / full_size.FOLDER / "records" / f"{NAME}{suffix}"
        shutil.copy(path, tmp_path / "records")
    seal(tmp_path)
    assert full_size.problems(tmp_path) == []
    return tmp_path


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "a head that is cut": lambda content: content.replace(b"), }", b"(, }", 1),
    "an archive": lambda content: b"PK\x03\x04" + content,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_scores_are_named(folder, damage):
    path = folder / "records" / f"{NAME}.scores.npy"
    path.write_bytes(damage(path.read_bytes()))
    broken, found = full_size.problems(folder)
    assert broken == f"records/{path.name} is not as it was published"
    assert found.startswith(f"record {NAME}: cannot be read ({path} is damaged (")
    with pytest.raises(CheckpointError, match="is damaged"):
        full_size.read(path.with_name(f"{NAME}.json"))
