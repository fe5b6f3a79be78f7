"""Archives unpack completely, below the target, or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_blocks.datasets import archives
from attn_blocks.datasets.archives import unpack
from attn_blocks.errors import DataError


def write_zip(path: Path, entries: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as opened:
        for name, content in entries.items():
            opened.writestr(zipfile.ZipInfo(name), content)
    return path


def write_tar(path: Path, entries: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


WRITERS = {"zip": write_zip, "tar": write_tar}


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def everything(name: str) -> bool:
    return True


def files(target: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_of_any_compression_whatever_it_is_called(tmp_path, target, mode):
    entries = {"a/b/x.jpg": b"1" * 3_000_000, "y.jpg": b"", "./c//z.jpg": b"3"}
    unpack(write_tar(tmp_path / "archive.zip", entries, mode), target, everything)
    assert files(target) == {"a/b/x.jpg": b"1" * 3_000_000, "y.jpg": b"", "c/z.jpg": b"3"}


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
)
def test_zip(tmp_path, target, compression):
    entries = {"a/": b"", "a/x.jpg": b"1" * 3_000_000, "win\\dows.jpg": b"2", "ü 鸡\n.jpg": b"3"}
    archive = write_zip(tmp_path / "archive.tar", entries, compression=compression)
    unpack(archive, target, everything)
    assert files(target) == {
        "a/x.jpg": b"1" * 3_000_000,
        "win/dows.jpg": b"2",
        "ü 鸡\n.jpg": b"3",
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_only_what_is_wanted_is_written(tmp_path, target, kind):
    archive = WRITERS[kind](tmp_path / "a", {"d/x.jpg": b"1", "d/run.sh": b"2"})
    unpack(archive, target, lambda name: name.endswith(".jpg"))
    assert files(target) == {"d/x.jpg": b"1"}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "name", ["../x.jpg", "a/../../x.jpg", "/x.jpg", "a/..", "..\\x.jpg", "C:\\x.jpg", "C:/x.jpg"]
)
def test_names_that_lead_out_refuse_the_archive(tmp_path, target, kind, name):
    archive = WRITERS[kind](tmp_path / "a", {"good.jpg": b"1", name: b"2"})
    with pytest.raises(DataError, match="leads out of the folder.*nothing was unpacked"):
        unpack(archive, target, everything)
    assert files(target) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "target"]


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_and_devices_in_a_tar_refuse_it(tmp_path, target, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        opened.addfile(tarfile.TarInfo("good.jpg"))
        info = tarfile.TarInfo("x.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        opened.addfile(info)
    with pytest.raises(DataError, match="'x.jpg' is a link or device|damaged"):
        unpack(tmp_path / "a.tar", target, everything)
    assert files(target) == {}


def test_a_link_in_a_zip_refuses_it(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("x.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'x.jpg' is a link or device"):
        unpack(tmp_path / "a.zip", target, everything)


@pytest.mark.parametrize("kind", WRITERS)
def test_too_many_files_or_bytes_are_refused_before_unpacking(tmp_path, target, kind, monkeypatch):
    archive = WRITERS[kind](tmp_path / "a", {f"{number}.jpg": b"12345" for number in range(20)})
    monkeypatch.setattr(archives, "MAX_FILES", 19)
    with pytest.raises(DataError, match="more than 19 files"):
        unpack(archive, target, everything)
    monkeypatch.setattr(archives, "MAX_FILES", 20)
    monkeypatch.setattr(archives, "MAX_BYTES", 99)
    with pytest.raises(DataError, match="holds more than"):
        unpack(archive, target, everything)
    assert files(target) == {}
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    unpack(archive, target, everything)
    assert len(files(target)) == 20


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_bomb_is_refused_from_its_header(tmp_path, target, compress):
    info = tarfile.TarInfo("x.jpg")
    info.size = 10 * 2**40
    (tmp_path / "a").write_bytes(compress(info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(DataError, match="holds more than"):
        unpack(tmp_path / "a", target, everything)


def test_a_header_that_claims_gigabytes_is_not_read_into_memory(tmp_path, target):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 3 * 2**30
    content = info.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="a header of more than 8,192 bytes"):
        unpack(tmp_path / "a.tar.gz", target, everything)


@pytest.mark.parametrize("size", [8_193, 60_000])
def test_long_headers_which_take_quadratic_time_are_refused(tmp_path, target, size):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    content = info.tobuf(tarfile.USTAR_FORMAT) + b"1" * size + bytes(-size % 512 + 10_240)
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="a header of more than 8,192 bytes"):
        unpack(tmp_path / "a.tar", target, everything)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_ordinary_long_names_and_notes_are_read(tmp_path, target, form):
    name = "/".join(["f" * 200] * 10) + "/x.jpg"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as opened:
        info = tarfile.TarInfo(name)
        info.size, info.pax_headers = 5, {"LIBARCHIVE.xattr.com.apple.quarantine": "x" * 2000}
        opened.addfile(info, io.BytesIO(b"12345"))
    unpack(tmp_path / "a.tar", target, everything)
    assert files(target) == {name: b"12345"}


def test_a_zip_that_lies_about_a_size_is_damaged(tmp_path, target):
    write_zip(tmp_path / "a.zip", {"x.jpg": bytes(1000)}, compression=zipfile.ZIP_DEFLATED)
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(
        content.replace(struct.pack("<I", 1000), struct.pack("<I", 10))
    )
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path / "a.zip", target, everything)


def test_an_encrypted_zip(tmp_path, target):
    write_zip(tmp_path / "a.zip", {"x.jpg": b"1"})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        unpack(tmp_path / "a.zip", target, everything)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_entry_that_is_there_twice_is_refused(tmp_path, target, kind):
    path = tmp_path / "a"
    if kind == "tar":
        with tarfile.open(path, "w") as opened:
            for _ in range(2):
                opened.addfile(tarfile.TarInfo("x.jpg"))
    else:
        with zipfile.ZipFile(path, "w") as opened, pytest.warns(UserWarning):
            for _ in range(2):
                opened.writestr("x.jpg", "")
    with pytest.raises(DataError, match="cannot be unpacked.*x.jpg"):
        unpack(path, target, everything)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_cut_archives_are_damaged(tmp_path, target, kind, share):
    path = WRITERS[kind](tmp_path / "a", {f"{n}.jpg": bytes([n]) * 5000 for n in range(9)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="is damaged or not a zip or tar file"):
        unpack(path, target, everything)


NINE = {f"{number}.jpg": bytes([number + 1]) * 1000 for number in range(9)}
MEMBER = 512 + 1024  # of NINE in a tar: a header, and the content in blocks of 512


@pytest.mark.parametrize("members", range(10))
def test_a_tar_that_is_cut_before_a_member_is_damaged(tmp_path, target, members):
    path = write_tar(tmp_path / "a.tar", NINE)
    path.write_bytes(path.read_bytes()[: members * MEMBER])
    with pytest.raises(DataError, match="is damaged or not a zip or tar file"):
        unpack(path, target, everything)
    assert files(target) == {}


@pytest.mark.parametrize("length", [512, MEMBER, 2 * MEMBER])
@pytest.mark.parametrize("value", [0, 255])
def test_a_tar_with_overwritten_headers_is_damaged(tmp_path, target, length, value):
    path = write_tar(tmp_path / "a.tar", NINE)
    content = bytearray(path.read_bytes())
    content[3 * MEMBER : 3 * MEMBER + length] = bytes([value]) * length
    path.write_bytes(content)
    with pytest.raises(DataError, match="its end is missing|more follows after its end"):
        unpack(path, target, everything)
    assert files(target) == {}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_one_flipped_bit_in_a_compressed_tar_loses_and_changes_no_image(tmp_path, mode):
    path = write_tar(tmp_path / "a", NINE, mode)
    content = path.read_bytes()
    refused = 0
    for place in range(0, 8 * len(content), max(1, 8 * len(content) // 60)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        refused += unpacks_nothing_or(NINE, path, tmp_path / str(place))
    assert refused > 50


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_flipped_bit_in_a_zip_loses_and_changes_no_image(tmp_path, compression):
    entries = {f"d/{number}.jpg": bytes([number]) * 9 for number in range(2)}
    path = write_zip(tmp_path / "a", entries, compression=compression)
    content = path.read_bytes()
    for place in range(0, 8 * len(content), 3):  # every byte, in two or three of its bits
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        unpacks_nothing_or(entries, path, tmp_path / str(place))


def unpacks_nothing_or(entries: dict[str, bytes], archive: Path, target: Path) -> bool:
    """Whether the archive is refused; otherwise it has to give exactly these images."""
    target.mkdir()
    try:
        unpack(archive, target, lambda name: name.endswith(".jpg"))
    except DataError:
        return True
    assert files(target) == entries
    return False


def test_a_zip_whose_list_is_shorter_than_it_says_is_damaged(tmp_path, target):
    path = write_zip(tmp_path / "a.zip", NINE)
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    entry = size // len(NINE)
    shorter = struct.pack("<II", size - entry, start)
    content = content[: end - entry] + content[end : end + 12] + shorter + content[end + 20 :]
    path.write_bytes(content)
    with pytest.raises(DataError, match="it lists 8 entries and should hold 9"):
        unpack(path, target, everything)


def test_a_zip_of_more_entries_than_its_count_has_bits(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.comment = b"a comment" * 500
        for number in range(65_600):
            opened.writestr(f"{number}.txt", "")
        opened.writestr("x.jpg", "1")
    unpack(tmp_path / "a.zip", target, lambda name: name.endswith(".jpg"))
    assert files(target) == {"x.jpg": b"1"}


def test_an_archive_that_changes_while_it_is_unpacked_is_damaged(tmp_path, target, monkeypatch):
    path = write_tar(tmp_path / "a.tar", NINE)
    enough = archives.shutil.disk_usage

    def exchange(folder):
        write_tar(path, dict(list(NINE.items())[:8]))
        return enough(folder)

    monkeypatch.setattr(archives.shutil, "disk_usage", exchange)
    with pytest.raises(DataError, match="8 of 9 files could be read again"):
        unpack(path, target, everything)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, target):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match="neither a folder nor a regular file"):
        unpack(tmp_path / "a.tar", target, everything)


def test_no_room_is_said_before_unpacking(tmp_path, target, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", {"x.jpg": bytes(2_000_000)})
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="2 MB are needed, 1 MB are free"):
        unpack(archive, target, everything)


def test_what_does_not_exist(tmp_path, target):
    with pytest.raises(DataError, match="cannot be unpacked: .*No such file"):
        unpack(tmp_path / "nowhere.zip", target, everything)


parts = st.one_of(
    st.sampled_from(["..", ".", "", "a", "C:", "~", "x.jpg", "a" * 300]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
names = st.lists(parts, min_size=1, max_size=4).map("/".join)


@settings(
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.sampled_from(sorted(WRITERS)), st.lists(names, max_size=4, unique=True))
def test_no_name_writes_outside(tmp_path_factory, kind, names):
    root = tmp_path_factory.mktemp("fuzz")
    target = root / "target"
    target.mkdir()
    archive = WRITERS[kind](root / "a", dict.fromkeys(names, b"x"))
    try:
        unpack(archive, target, everything)
    except DataError as error:
        assert str(error)
    assert sorted(path.name for path in root.iterdir()) == ["a", "target"]
    assert all(path.resolve().is_relative_to(target) for path in target.rglob("*"))


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_any_damage_is_refused_in_words_or_harmless(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("fuzz")
    target = root / "target"
    target.mkdir()
    entries = {"a/x.jpg": b"12345" * 20, "b.jpg": b"67890" * 20}
    if data.draw(st.booleans()):
        path = write_zip(
            root / "a", entries, compression=data.draw(st.sampled_from([0, 8, 12, 14]))
        )
    else:
        path = write_tar(root / "a", entries, data.draw(st.sampled_from(["w", "w:gz", "w:xz"])))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        unpack(path, target, everything)
    except DataError as error:
        assert str(error)
    assert sorted(path.name for path in root.iterdir()) == ["a", "target"]


@settings(max_examples=60)
@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_in_words_or_empty(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "target").mkdir()
    (root / "a").write_bytes(content)
    try:
        unpack(root / "a", root / "target", everything)
    except DataError as error:
        assert str(error)
