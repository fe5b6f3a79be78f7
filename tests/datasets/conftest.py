"""Small data sets made on the spot; tests of the data share them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16), **save) -> Path:
    """Write a picture of random pixels, different for every seed; ``size`` is width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def write_class(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of ``count`` pictures, 000.png and so on."""
    for number in range(count):
        write_picture(folder / f"{number:03d}.png", seed + number)
    return folder


# Test files cannot import from this one, so they get the two functions as fixtures.
@pytest.fixture(scope="session")
def picture() -> Callable[..., Path]:
    return write_picture


@pytest.fixture(scope="session")
def class_folder() -> Callable[..., Path]:
    return write_class


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two classes of Animals-10, ten images each."""
    write_class(tmp_path / "data/animals10/dog", 10)
    write_class(tmp_path / "data/animals10/cat", 10, seed=100)
    return tmp_path / "data"


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A function that makes a folder one that may not be searched, to the superuser neither."""
    stat = Path.stat

    def close(folder: Path) -> None:
        def refuse(path: Path, **options):
            if folder in path.parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return stat(path, **options)

        monkeypatch.setattr(Path, "stat", refuse)

    return close


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's own data and cache."""
    monkeypatch.delenv("ATTN_BLOCKS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
