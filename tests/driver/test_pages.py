"""When a page is executed, when it is executed again, and what becomes of cells that fail."""

import errno
import os
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from attn_blocks.errors import StorageError
from attn_blocks.files import write_json
from attn_book.analysis import evidence
from attn_book.driver import pages
from attn_book.driver.pages import page_task
from attn_book.driver.processes import WorkerError
from attn_book.driver.schedule import Schedule
from attn_book.records import published
from attn_book.records.recorded import RecordedImages
from attn_book.study.pages import BAT
from attn_book.study.plan import plan

CLASSES = ("a", "b")


def recorded(task, *_):
    label = f"{task} (2 classes; 4 / 4 images)"
    return RecordedImages(task, task, label, CLASSES, 2, range(4), range(4), "f" * 64)


@pytest.fixture
def study(tmp_path, monkeypatch, study_of):
    """The study without the runs of BAT; a function that plans a page of it."""
    monkeypatch.setattr(evidence, "PUBLISHED", tmp_path / "nothing")
    monkeypatch.setattr(published, "is_done", lambda run: run.status == "finished")

    def accuracy(task, title, seed):
        return None if title == BAT.title else 0.7

    study_of(tmp_path / "study", accuracy, ["animals10"])
    return lambda page: plan(page, "study", results_dir=tmp_path, load=recorded)


def test_a_page_of_the_study_waits_for_runs_that_it_does_not_show(study, tmp_path, study_run):
    pages = [study("02_ge"), study("08_bat")]
    for seed in range(5):
        schedule = Schedule(pages, 1, {})
        assert schedule._ready_pages() == []
        study_run(tmp_path / "study", "animals10", BAT, seed, 0.7)
    ready = Schedule(pages, 1, {})._ready_pages()
    assert [task.title for task in ready] == ["02_ge", "08_bat"]


def test_a_page_of_the_study_is_executed_again_when_its_family_grows(study, tmp_path, study_run):
    page = study("02_ge")
    before = page_task(page, {}).request["key"]
    assert page_task(page, {}).request["key"] == before
    study_run(tmp_path / "study", "animals10", BAT, 0, 0.7)
    assert page_task(page, {}).request["key"] != before


def test_a_page_trains_in_its_notebook_what_was_planned(study, tmp_path):
    page = study("05_sa")
    settings = page_task(page, {}).request["parameters"]
    assert settings["seeds"] is None
    again = plan(page.page, **{**settings, "data_dir": None}, load=recorded)
    assert [e.name for e in again.experiments] == [e.name for e in page.experiments]
    asked = plan(page.page, "study", "0 1", None, tmp_path, load=recorded)
    assert page_task(asked, {"seeds": "0 1"}).request["parameters"]["seeds"] == [0, 1]


def test_a_page_is_executed_again_when_what_its_code_quotes_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PACKAGES", (tmp_path,))
    hashes = []
    for text in ("[1]", "[2]"):
        (tmp_path / "reported.json").write_text(text)
        hashes.append(pages._package_hashes.__wrapped__())
    assert hashes[0] != hashes[1]


def test_cells_may_fail_only_where_a_network_has_no_run(study, tmp_path, study_run):
    run = study_run(tmp_path / "study", "animals10", BAT, 0, 0.7)
    write_json(run.folder / "metrics.json", {"status": "failed", "reason": "nan", "epoch": 2})
    page = study("08_bat")
    assert page_task(page, {}).request["failures"] == [f"{run.folder.name}: nan"]
    study_run(tmp_path / "study", "animals10", BAT, 1, 0.7)
    assert page_task(page, {}).request["failures"] == []


def test_a_page_with_an_unfinished_run_is_left_out(study, capsys):
    schedule = Schedule([study("08_bat")], 1, {})
    schedule.ended = dict.fromkeys(schedule.missing, "an error")
    assert schedule._ready_pages() == [] and schedule.failed_pages == 1
    assert "FAILED 08_bat: left out, it needs BAT-ResNet-50 on Animals" in capsys.readouterr().err


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """``execute_page`` of a page whose cells raise what they are given, without a kernel."""
    output = tmp_path / "{smoke}" / "notebooks" / "04_sge.ipynb"
    output.parent.mkdir(parents=True)

    def run(source, target, *, allow_errors, **settings):
        assert source.format() == str(tmp_path / "{pages}.ipynb")
        notebook = nbformat.v4.new_notebook()
        for name, value in run.errors:
            error = nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[])
            notebook.cells.append(nbformat.v4.new_code_cell("x", outputs=[error]))
        nbformat.write(notebook, target.format())
        if run.errors:
            raise papermill.PapermillExecutionError(0, 1, "x", *run.errors[-1], [])

    monkeypatch.setattr(papermill, "execute_notebook", run)

    def page(*errors, failures=("a-run: nan",)):
        run.errors = errors
        pages.execute_page(str(tmp_path / "{pages}.ipynb"), str(output), {}, "key", failures)
        return [cell.outputs[0].text for cell in nbformat.read(output, as_version=4).cells]

    return page, output


def test_cells_that_lack_a_run_say_so_and_what_was_missing(execute):
    page, _ = execute
    (line, then) = page(("IndexError", "list index"), ("NameError", "a\nname 'x' is not"))
    assert line == "Left out, it needs a run that failed. a-run: nan (IndexError: list index)\n"
    assert then.endswith("a-run: nan (name 'x' is not)\n")


@pytest.mark.parametrize("failures", [(), ("a-run: nan",)])
def test_an_error_of_another_kind_is_shown_wherever_it_is(execute, failures):
    page, output = execute
    with pytest.raises(WorkerError, match="ZeroDivisionError" if failures else None):
        page(("ZeroDivisionError", "1"), *[("IndexError", "x")] * len(failures), failures=failures)
    assert not output.exists()
    assert output.with_name("04_sge.failed.ipynb").exists()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (("StorageError", "no room left"), errno.ENOSPC),
        (("OSError", f"[Errno {errno.EDQUOT}] Disk quota exceeded"), errno.EDQUOT),
        (("OSError", f"[Errno {errno.EFBIG}] File too large"), errno.EFBIG),
    ],
)
def test_a_full_disk_is_no_failure_of_a_run(execute, error, number):
    page, output = execute
    with pytest.raises(StorageError) as caught:
        page(error, ("NameError", "name 'x' is not defined"))
    assert caught.value.errno == number
    assert list(output.parent.iterdir()) == []


def test_a_kernel_that_starts_late_is_not_called_killed(execute, monkeypatch):
    page, _ = execute

    def slow(*_, **__):
        raise RuntimeError("Kernel didn't respond in 300 seconds")

    monkeypatch.setattr(papermill, "execute_notebook", slow)
    with pytest.raises(RuntimeError, match="didn't respond"):
        page()


def test_the_kernel_is_this_environments_own(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", "startup.py")
    before = dict(os.environ)
    with pages._own_jupyter():
        assert os.environ["JUPYTER_PATH"].startswith(sys.prefix)
        assert Path(os.environ["JUPYTER_PATH"], "kernels", "python3").is_dir()
        assert "PYTHONSTARTUP" not in os.environ
        assert os.environ["IPYTHONDIR"] != before.get("IPYTHONDIR")
    assert dict(os.environ) == before
