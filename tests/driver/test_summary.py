"""The tables of all runs and claims: what tells runs apart, and that no command shrinks them."""

import csv

import pytest

from attn_book.driver import summary
from attn_book.driver.verify import check
from attn_book.records import first_study, full_size
from attn_book.records.recorded import recorded_plans
from attn_book.study.design import CONTROLS, UNEQUAL
from attn_book.study.pages import RESNET, SGE, SRM


@pytest.fixture
def folder(tmp_path, study_of, study_run):
    """A study of Animals-10, and some of what it trains beside the pages."""
    folder = tmp_path / "study"
    study_of(folder, lambda *_: 0.7, ["animals10"])
    for comparison in (*CONTROLS, UNEQUAL):
        for entry in comparison.entries:
            study_run(folder, "animals10", entry, 0, 0.6)
    (folder / "runs" / ".DS_Store").touch()
    return folder


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_run_is_told_apart_and_has_its_place_in_the_study(folder):
    summary.write_summary(folder, list(recorded_plans(folder).values()))
    found = rows(folder / "summary.csv")
    assert len({row["run"] for row in found}) == len(found) == 9 * 5 + 2 + 7
    assert all(row["page"] or row["part"] for row in found)
    plain = [r for r in found if (r["model"], r["fold"], r["seed"]) == (SRM.model, "0", "0")]
    assert sorted(row["part"] for row in plain) == ["controls", "nine"]
    assert [row["page"] for row in plain if row["part"] == "controls"] == [""]
    assert sum(row["part"] == "unequal" for row in found) == 7
    # The parts are of the study.
    smoke = folder.rename(folder.with_name("smoke"))
    assert {row["part"] for row in summary.summary_rows(smoke, [])} == {""}


def test_a_command_for_one_page_keeps_what_is_said_of_the_others(folder):
    every = recorded_plans(folder)
    tables = []
    for plans in (every.values(), [every["04_sge"]], []):
        summary.write_summary(folder, list(plans))
        tables.append([(folder / name).read_text() for name in ("summary.csv", "verdicts.csv")])
    assert tables[1][0] == tables[0][0] == tables[2][0]
    claims = [{row["claim"] for row in rows_of(table)} for _, table in tables]
    assert claims[1] == claims[2] >= {f"{SGE.title} > {RESNET.title} on Animals-10"}
    assert len(claims[1]) > 10


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def test_other_records_alone_are_no_published_results(tmp_path, monkeypatch):
    for name in ("full_size", "first_study"):
        (tmp_path / name / "runs").mkdir(parents=True)
    assert check(tmp_path) == ["first_study: holds no record", "full_size: holds no record"]
    for others in (full_size, first_study):
        monkeypatch.setattr(others, "problems", lambda folder: [])
    (problem,) = check(tmp_path)
    assert problem.startswith(f"nothing is published in {tmp_path}; run: make reproduce-all")
