"""Downloads from a server on this machine that breaks off, forgets ranges, or serves junk."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from attn_blocks.datasets import download as module
from attn_blocks.datasets.download import fetch
from attn_blocks.errors import DataError
from attn_blocks.files import folder_lock

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``drops`` holds how many bytes each of the next answers sends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.drops, self.status = CONTENT, [], 200
        self.ranges, self.length_told = True, True
        self.requests: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        else:
            self.send_response(200)
        if server.length_told:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = start + server.drops.pop(0) if server.drops else len(server.content)
        self.wfile.write(server.content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def directly(monkeypatch):
    """No proxy lies between the tests and their server, and a failed try is followed at once."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "WAIT", 0)


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads/archive.tar.gz"


def visible(folder):
    """The names in a folder but for that of the lock."""
    return [path.name for path in folder.iterdir() if path.name[0] != "."]


def test_a_whole_file(server, target, capfd):
    assert fetch(server.address, target, MD5, "Test") == target
    assert target.read_bytes() == CONTENT and server.requests == [None]
    assert visible(target.parent) == ["archive.tar.gz"]
    assert "Downloading Test" in capfd.readouterr().err


def test_what_is_there_is_not_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(server.address, target, MD5, "Test")
    assert server.requests == []


def test_a_wrong_file_in_its_place_is_fetched_again_and_kept(server, target, capfd):
    target.parent.mkdir()
    target.write_bytes(b"somebody's own")
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT
    assert target.with_name("archive.tar.gz.damaged").read_bytes() == b"somebody's own"
    assert "archive.tar.gz has a wrong checksum and is fetched again" in capfd.readouterr().err


def test_a_wrong_file_stays_until_another_has_arrived(server, target):
    target.parent.mkdir()
    target.write_bytes(b"somebody's own")
    server.status = 404
    with pytest.raises(DataError, match="404 Not Found"):
        fetch(server.address, target, MD5, "Test")
    server.status, server.content = 200, b"?"
    with pytest.raises(DataError, match="checksum of what arrived"):
        fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == b"somebody's own"
    assert visible(target.parent) == ["archive.tar.gz"]


@pytest.mark.parametrize("before", [None, b"junk"])
def test_what_another_process_has_fetched_meanwhile_is_taken(server, target, monkeypatch, before):
    target.parent.mkdir()
    if before is not None:
        target.write_bytes(before)

    def lock_of_the_other(*arguments, **options):
        target.write_bytes(CONTENT)
        return folder_lock(*arguments, **options)

    monkeypatch.setattr(module, "folder_lock", lock_of_the_other)
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT and server.requests == []
    assert visible(target.parent) == ["archive.tar.gz"]


def test_broken_connections_go_on_where_they_were(server, target):
    server.drops = [300_000, 0, 200_000, 100]
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT
    assert server.requests == [
        None,
        "bytes=300000-",
        "bytes=300000-",
        "bytes=500000-",
        "bytes=500100-",
    ]


def test_a_server_without_ranges_starts_again(server, target):
    server.ranges, server.drops = False, [300_000, 900_000]
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT and len(server.requests) == 3


def test_a_broken_download_is_resumed_by_the_next_call(server, target):
    server.drops = [300_000] + [0] * module.TRIES
    with pytest.raises(DataError) as caught:
        fetch(server.address, target, MD5, "Test")
    for text in (server.address, "closed early", "300,000 bytes", "run the same command again"):
        assert text in str(caught.value)
    assert not target.exists()
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT and server.requests[-1] == "bytes=300000-"


def test_a_complete_part_is_taken(server, target):
    target.parent.mkdir()
    target.with_name("archive.tar.gz.part").write_bytes(CONTENT)
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT


def test_a_part_of_something_larger_is_dropped(server, target):
    target.parent.mkdir()
    target.with_name("archive.tar.gz.part").write_bytes(CONTENT + b"more")
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, target):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match=f"checksum of what arrived is .* should be {MD5}"):
        fetch(server.address, target, MD5, "Test")
    assert visible(target.parent) == []


def test_a_cut_file_of_unknown_length_fails_the_checksum(server, target):
    server.length_told, server.drops = False, [1000]
    with pytest.raises(DataError, match="checksum"):
        fetch(server.address, target, MD5, "Test")
    assert not target.exists()


def test_a_refusal_is_final_and_an_overload_is_tried_again(server, target):
    server.status = 404
    with pytest.raises(DataError, match="404 Not Found"):
        fetch(server.address, target, MD5, "Test")
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(DataError, match="503 Service Unavailable"):
        fetch(server.address, target, MD5, "Test")
    assert len(server.requests) == 1 + module.TRIES


def test_no_server(target):
    with Server() as unused:
        address = unused.address
    with pytest.raises(DataError, match=r"could not be downloaded: .*refused.* 0 bytes"):
        fetch(address, target, MD5, "Test")


def test_a_full_disk_is_not_taken_for_a_network_fault(server, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_receive", full)
    with pytest.raises(DataError, match="no room left for .*archive.tar.gz.part"):
        fetch(server.address, target, MD5, "Test")
    assert len(server.requests) == 1


def test_a_folder_that_cannot_be_written_is_not_taken_for_one_either(server, target):
    target.parent.parent.mkdir(exist_ok=True)
    target.parent.write_text("in the way")
    with pytest.raises(DataError, match=r"downloads cannot be written: .*choose another"):
        fetch(server.address, target, MD5, "Test")
    assert not server.requests


def test_what_is_in_the_place_of_a_file_is_named(server, target):
    part = target.with_name("archive.tar.gz.part")
    part.mkdir(parents=True)
    with pytest.raises(DataError, match=r"archive.tar.gz.part cannot be written: .*directory"):
        fetch(server.address, target, MD5, "Test")
    part.rmdir()
    target.mkdir()
    with pytest.raises(DataError, match=r"archive.tar.gz cannot be written: .*directory"):
        fetch(server.address, target, MD5, "Test")
    assert not server.requests


def test_one_process_at_a_time_fetches_a_file(server, target):
    with (
        folder_lock(target.parent, ".archive.tar.gz.lock"),
        pytest.raises(DataError, match="another process is downloading .*archive.tar.gz; wait"),
    ):
        fetch(server.address, target, MD5, "Test")
    assert not server.requests
    fetch(server.address, target, MD5, "Test")
    assert target.read_bytes() == CONTENT
