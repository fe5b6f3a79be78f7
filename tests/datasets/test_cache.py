"""The cache is whole or absent, built once, and explains itself when it cannot be written."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_blocks.datasets import cache as caches
from attn_blocks.datasets import load
from attn_blocks.errors import DataError

LOAD = (
    "import sys; from attn_blocks.datasets import load; print(load('animals10', sys.argv[1]).label)"
)


def run(data: Path, **options) -> subprocess.Popen:
    """A process of its own that loads the data set."""
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(data: Path) -> Path:
    (folder,) = (path for path in (data / ".cache").glob("animals10-*") if path.is_dir())
    return folder


def damage_index(folder: Path, **changes) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **changes}))


DAMAGES = {
    "pixels cut": lambda folder: os.truncate(folder / "pixels.u8", 100),
    "pixels empty": lambda folder: os.truncate(folder / "pixels.u8", 0),
    "pixels gone": lambda folder: (folder / "pixels.u8").unlink(),
    "index gone": lambda folder: (folder / "index.json").unlink(),
    "index cut": lambda folder: os.truncate(folder / "index.json", 30),
    "index of another kind": lambda folder: (folder / "index.json").write_text("[]"),
    "a name too few": lambda folder: damage_index(folder, names=["a"]),
    "offsets cut": lambda folder: os.truncate(folder / "offsets.npy", 140),
    "offsets of another set": lambda folder: np.save(folder / "offsets.npy", np.arange(20)),
    "labels pickled": lambda folder: np.save(
        folder / "labels.npy", np.array([{}] * 20), allow_pickle=True
    ),
    "labels too few": lambda folder: np.save(folder / "labels.npy", np.zeros(3, np.int64)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cache_is_named_and_built_again(data, capfd, damage):
    before = load("animals10", data)
    pixels = np.array(before.train.pixels)
    damage(finished(data))
    after = load("animals10", data)
    said = capfd.readouterr().err
    assert f"{finished(data)} is incomplete or damaged and is built again" in said
    assert "delete it" not in said
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.train.pixels, pixels)
    load("animals10", data)
    assert "damaged" not in capfd.readouterr().err


def test_images_in_use_survive_a_rebuild(data):
    before = load("animals10", data)
    first = np.array(before.train[0])
    damage_index(finished(data), bytes=3)
    load("animals10", data)
    assert np.array_equal(before.train[0], first)


def test_a_half_written_cache_is_named_and_removed(data, capfd):
    leftover = data / ".cache/.animals10.killed.tmp"
    leftover.mkdir(parents=True)
    (leftover / "pixels.u8").write_bytes(b"half")
    load("animals10", data)
    assert f"{leftover} was left by an interrupted run" in capfd.readouterr().err
    assert not leftover.exists()


def test_an_error_while_building_leaves_nothing(data, monkeypatch):
    def fail(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(caches.Writer, "finish", fail)
    with pytest.raises(KeyboardInterrupt):
        load("animals10", data)
    assert [path.name for path in (data / ".cache").iterdir() if path.is_dir()] == []


def test_a_killed_process_loses_nothing_but_time(tmp_path, class_folder):
    class_folder(tmp_path / "animals10/dog", 300)
    class_folder(tmp_path / "animals10/cat", 300, seed=1000)
    # Without decoding, the builder waits in the middle of its work until it is killed.
    code = (
        "import sys, time; from attn_blocks.datasets import cache, load\n"
        "add = cache.Writer.add\n"
        "def slow(self, *item):\n"
        "    add(self, *item)\n"
        "    if len(self.names) == 200: print('half', flush=True); time.sleep(60)\n"
        "cache.Writer.add = slow\n"
        "load('animals10', sys.argv[1])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list((tmp_path / ".cache").glob(".animals10.*.tmp"))
    assert len(load("animals10", tmp_path).train) == 480
    assert not list((tmp_path / ".cache").glob(".animals10.*.tmp"))


def test_two_processes_build_it_once(tmp_path, class_folder):
    class_folder(tmp_path / "animals10/dog", 200)
    class_folder(tmp_path / "animals10/cat", 200, seed=1000)
    both = [run(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert sum("Decoding Animals-10" in errors for _, errors in outputs) == 1
    assert len(list((tmp_path / ".cache").glob("animals10-s64-*/"))) == 1


def test_a_second_builder_says_that_it_waits(data, capfd):
    cache = data / ".cache"
    held = threading.Event()

    def hold():
        with caches.building(cache, "animals10"):
            held.set()
            deadline = time.monotonic() + 60
            while "waiting for another process" not in seen() and time.monotonic() < deadline:
                time.sleep(0.02)

    texts = []

    def seen():
        texts.append(capfd.readouterr().err)
        return "".join(texts)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    assert len(load("animals10", data).train) == 16
    holder.join()
    assert f"waiting for another process that decodes animals10 into {cache}" in seen()


def test_a_full_disk_is_explained_and_the_same_call_goes_on(tmp_path, class_folder):
    for number, name in enumerate(("dog", "cat")):
        class_folder(tmp_path / "animals10" / name, 30, seed=100 * number)
    # A limit on the size of files stands in for the disk: writing fails in the same way.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(DataError) as caught:
            load("animals10", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for part in ("no room left in", str(tmp_path / ".cache"), "MB", "ATTN_BLOCKS_CACHE"):
        assert part in str(caught.value)
    assert not [path for path in (tmp_path / ".cache").iterdir() if path.is_dir()]
    assert len(load("animals10", tmp_path).train) == 48


def test_the_room_needed_is_extrapolated(tmp_path):
    with caches.Writer(tmp_path, "animals10", total=1000) as writer:
        writer.add(np.zeros((100, 100, 3), np.uint8), 0, "a", "d", 0)
        text = writer._explain(OSError(errno.ENOSPC, "No space left on device"))
    assert "need about 32 MB" in text and "No space left on device" in text


def test_other_errors_of_the_disk_are_told_apart(tmp_path):
    with caches.Writer(tmp_path, "animals10", total=1) as writer:
        text = writer._explain(OSError(errno.EROFS, "Read-only file system"))
    assert "cannot be written: Read-only file system" in text and "room" not in text


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data_=st.data())
def test_any_damage_to_a_cache_is_noticed_or_harmless(tmp_path, data_):
    target = tmp_path / "shapes-s4-x"
    with caches.Writer(tmp_path, "shapes", 2) as writer:
        for number in range(2):
            pixels = np.full((2 + number, 3, 3), number, np.uint8)
            writer.add(pixels, number, f"{number}", "d", number)
        writer.finish(target)
    file = target / data_.draw(st.sampled_from(sorted(path.name for path in target.iterdir())))
    content = bytearray(file.read_bytes())
    place = data_.draw(st.integers(0, len(content) - 1))
    content[place] = data_.draw(st.integers(0, 255))
    file.write_bytes(content)
    stored = caches.read(target)
    if file.name == "pixels.u8":
        assert stored is not None
    elif stored is not None:
        assert stored.names == ["0", "1"]
        assert [stored.images[index].shape for index in range(2)] == [(2, 3, 3), (3, 3, 3)]
