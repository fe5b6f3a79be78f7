"""Who gets which task, and what workers answer; `test_faults` has them do real work."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attn_blocks.errors import StorageError
from attn_blocks.files import folder_lock
from attn_book.driver import processes, worker
from attn_book.driver.processes import Task, Worker, run_tasks

# In place of a worker that trains: it reads the request and does what that says.
START = """
import json, os, sys, time
request = json.loads(sys.stdin.readline())
if "wait" in request:
    time.sleep(request["wait"])
if "touch" in request:
    open(request["touch"], "x").close()
if "code" in request:
    sys.exit(request["code"])
answer = {"error": None, "errno": None, "notes": [str(os.getpid())]}
print(json.dumps(answer | request.get("answer", {})))
"""


BEGIN = processes.START  # of the real ones


@pytest.fixture(autouse=True)
def quick_workers(monkeypatch):
    monkeypatch.setattr(processes, "START", START)


def task(folder, name, **request):
    done = folder / f"{name}.done"
    request.setdefault("touch", str(done))
    return Task(name, "train", request, folder, f".{name}.lock", None, done.exists)


def collect(tasks, jobs=2):
    """What ``run_tasks`` reports of each task, and the most that ran at once."""
    ended, most = {}, [0]
    run_tasks(
        tasks,
        jobs,
        os.environ,
        lambda running: most.append(len(running)),
        lambda task, notes, error: ended.update({task.title: error}),
    )
    return ended, max(most)


def test_tasks_are_done_some_at_once(tmp_path):
    tasks = [task(tmp_path, name, wait=0.5) for name in "abc"]
    assert collect(tasks) == ({"a": None, "b": None, "c": None}, 2)
    assert all(one.is_done() for one in tasks)


def test_what_is_done_already_starts_no_process(tmp_path):
    (tmp_path / "a.done").touch()
    assert collect([task(tmp_path, "a")]) == ({"a": None}, 0)


def test_errors_are_told_and_stop_no_other(tmp_path):
    tasks = [
        task(tmp_path, "a", answer={"error": "the loss is not finite"}),
        task(tmp_path, "b", code=3),
        task(tmp_path, "c"),
    ]
    ended, _ = collect(tasks, jobs=1)
    assert ended == {
        "a": "the loss is not finite",
        "b": "the process ended early (exit code 3)",
        "c": None,
    }


def test_what_follows_from_a_task_is_done_after_the_others(tmp_path):
    order, after = [], {"a": [task(tmp_path, "c")], "c": [task(tmp_path, "d")]}
    (tmp_path / "d.done").touch()

    def done(task, notes, error):
        order.append(task.title)
        return after.get(task.title)

    tasks = [task(tmp_path, name) for name in "ab"]
    run_tasks(tasks, 1, os.environ, lambda running: None, done)
    assert order == ["a", "b", "c", "d"]
    assert len(tasks) == 2  # the caller's list stays as it was


def test_a_killed_worker_is_told_apart(tmp_path):
    killed = Worker(task(tmp_path, "a", wait=600))
    killed.process.kill()
    assert killed.result() == ([], "the process ended early (signal SIGKILL)")


def test_a_full_disk_stops_all(tmp_path):
    answer = {"error": "no room left for x", "errno": errno.ENOSPC}
    tasks = [task(tmp_path, "a", wait=600), task(tmp_path, "b", answer=answer), task(tmp_path, "c")]
    begun = time.monotonic()
    with pytest.raises(StorageError, match="no room left for x"):
        collect(tasks)
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "a.done").exists() and not (tmp_path / "c.done").exists()
    with folder_lock(tmp_path, ".a.lock", wait=False) as held:
        assert held


def test_a_task_of_another_driver_is_waited_for_and_not_made_again(tmp_path, capfd):
    a, b = task(tmp_path, "a"), task(tmp_path, "b")
    other = folder_lock(tmp_path, ".a.lock")
    other.__enter__()
    order = []

    def done(task, notes, error):
        order.append(task.title)

    def on_progress(running):
        if order and not a.is_done():  # the other driver finishes, and lets go
            Path(a.request["touch"]).touch()
            other.__exit__(None, None, None)

    run_tasks([a, b], 1, os.environ, on_progress, done)
    assert order == ["b", "a"]
    assert "Waiting for another process that makes 1 of these" in capfd.readouterr().out


def test_a_worker_imports_nothing_from_the_folder_of_the_command(tmp_path):
    for name in ("installed", "here"):
        package = tmp_path / name / "attn_book" / "driver"
        package.mkdir(parents=True)
        for folder in (package, package.parent):
            (folder / "__init__.py").touch()
        (package / "worker.py").write_text(f"def main(): print({name!r})")
    (tmp_path / "here" / "signal.py").write_text("raise SystemError")
    answer = subprocess.run(
        [sys.executable, "-c", BEGIN],
        cwd=tmp_path / "here",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert answer.stdout == "installed\n", answer.stderr


def test_a_result_fits_into_the_pipe():
    notes = [f"note {number} \u6ce8" * 100 for number in range(500)]
    error = "\U0001f600" * processes.LONGEST_ERROR
    line = worker._line({"error": error, "errno": None, "notes": list(notes)})
    assert len(line) <= processes.LONGEST_RESULT
    result = json.loads(line)
    assert result["error"] == error and result["notes"] == notes[: len(result["notes"])] != []


def test_a_worker_ends_with_its_driver_whatever_happens(monkeypatch):
    ended = []
    monkeypatch.setattr(worker.os, "read", lambda *_: b"")
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError):
        worker._exit_with_driver()
    assert ended == [1]


def test_the_log_of_the_worker_before_is_kept(tmp_path):
    for line in (b"the first failed", b"the second too"):
        with processes._log(tmp_path / "train.log") as log:
            log.write(line)
    assert (tmp_path / "train.log").read_bytes() == b"the second too"
    assert (tmp_path / "train.before.log").read_bytes() == b"the first failed"
