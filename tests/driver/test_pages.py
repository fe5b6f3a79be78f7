"""When a page is executed, and when it is executed again."""

import pytest

from attn_book.analysis import evidence
from attn_book.driver import reproduce
from attn_book.driver.pages import page_task
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
    monkeypatch.setattr(reproduce.published, "is_done", lambda run: run.status == "finished")

    def accuracy(task, title, seed):
        return None if title == BAT.title else 0.7

    study_of(tmp_path / "study", accuracy, ["animals10"])
    return lambda page: plan(page, "study", results_dir=tmp_path, load=recorded)


def test_a_page_of_the_study_waits_for_runs_that_it_does_not_show(study, tmp_path, study_run):
    pages = [study("02_ge"), study("08_bat")]
    for seed in range(5):
        schedule = reproduce.Schedule(pages, 1, {})
        assert schedule._ready_pages() == []
        study_run(tmp_path / "study", "animals10", BAT, seed, 0.7)
    ready = reproduce.Schedule(pages, 1, {})._ready_pages()
    assert [task.title for task in ready] == ["02_ge", "08_bat"]


def test_a_page_of_the_study_is_executed_again_when_its_family_grows(study, tmp_path, study_run):
    page = study("02_ge")
    before = page_task(page, {}).request["key"]
    assert page_task(page, {}).request["key"] == before
    study_run(tmp_path / "study", "animals10", BAT, 0, 0.7)
    assert page_task(page, {}).request["key"] != before
