"""Verdicts as pages and files show them."""

import csv
import math

import pytest

from attn_book.analysis import verdicts
from attn_book.analysis.judgement import Verdict
from attn_book.analysis.statistics import Residual
from attn_book.driver.summary import write_summary
from attn_book.records.recorded import recorded_plans
from attn_book.study.claims import CLAIMS
from attn_book.study.design import HALF_THE_EPOCHS, TWICE_THE_EPOCHS, WIDER
from attn_book.study.pages import GE, OVERVIEW, RESNET
from attn_book.study.plan import plan

OF = {claim.text: claim for claim in CLAIMS}
SE, SIZE = "SE-ResNet-50 > ResNet-50", "SE-ResNet-50 > ResNet-50 by 28.4 points"


@pytest.fixture(scope="module")
def study(se_gains):
    return recorded_plans(se_gains)


def made_up(name, **values):
    shared = {"is_own": True, "unit": "points", "folds": "5 of 5 folds"}
    return Verdict(OF[f"{name} on Animals-10"], **{**shared, "outcome": "better", **values})


DECIDED = {
    "value": 1.234,
    "reported": 28.42,
    "left": 14.0,
    "errors": 0.25,
    "interval": (0.126, 2.342),
    "corrected": (-0.001, 2.469),
    "noise": (0.1, 2.3),
    "alone": (30, 20),
    "p_adjusted": 0.0312,
    "residual": Residual(0.654, 32),
    "wins": 0.8765,
}


def test_a_row_holds_every_number_of_a_verdict():
    row = verdicts.row(made_up(SE, outcome="better, on these images", **DECIDED, constant=True))
    assert tuple(row) == verdicts.VERDICT_COLUMNS
    assert row == {
        "claim": "SE-ResNet-50 > ResNet-50 on Animals-10",
        "family": "primary",
        "task": "animals10",
        "unit": "points",
        "reported": 28.42,
        "reported_in_points": None,
        "paper_points": 1.51,
        "paper_source": "SE paper, table 2",
        "difference": 1.23,
        "interval": "simultaneous 95%",
        "low": 0.13,
        "high": 2.34,
        "corrected_low": 0.0,
        "corrected_high": 2.47,
        "drawn_again": "images",
        "image_noise_low": 0.1,
        "image_noise_high": 2.3,
        "residual": 0.65,
        "degrees_of_freedom": 32,
        "p_adjusted": 0.0312,
        "p_better": 0.876,
        "better_alone_right": 30,
        "worse_alone_right": 20,
        "error_reduction": 0.25,
        "reported_error_reduction": None,
        "outcome": "better, on these images (constant: no verdict on attention)",
        "folds": "5 of 5 folds",
    }
    assert str(row["corrected_low"]) == "0.0"  # and not -0.0


def test_a_size_stands_in_log_odds_with_its_errors_and_what_cannot_occur():
    size = made_up(SIZE, **{**DECIDED, "unit": "log-odds", "value": 0.3456, "reported": 1.5687})
    row = verdicts.row(size)
    assert (row["unit"], row["difference"], row["reported"]) == ("log-odds", 0.346, 1.569)
    assert row["reported_in_points"] == "cannot occur here"
    assert row["reported_error_reduction"] == round(1 - (1 - 0.8730) / (1 - 0.5888), 3)
    [line] = verdicts.table_of([size]).to_dict("records")
    assert line["Ours"] == "+0.35 log-odds, 25% fewer errors"
    reported = "+1.57 log-odds, 69% fewer errors, +28.4 points cannot occur here"
    assert line["Reported"] == reported
    roomy = verdicts.row(made_up(SIZE, **{**DECIDED, "left": 30.0}))
    assert roomy["reported_in_points"] == "+28.42"


def test_beside_other_images_nothing_that_others_found_is_shown():
    other = made_up(SE, **{**DECIDED, "is_own": False})
    row = verdicts.row(other)
    assert row["reported"] is row["paper_points"] is row["paper_source"] is None
    assert not {"Reported", "On ImageNet"} & set(verdicts.table_of([other]))
    assert "write-up" not in verdicts.sentence(other)
    assert "ImageNet" not in verdicts.sentence(other)


def test_a_published_gain_never_stands_without_its_source():
    known, unknown = made_up(SE, **DECIDED), made_up("GE-ResNet-50 > ResNet-50", **DECIDED)
    table = verdicts.table_of([known, unknown])
    assert table["On ImageNet"].tolist() == ["+1.51 (SE paper, table 2)", "–"]
    on_imagenet = "; on ImageNet it is +1.51 points (SE paper, table 2)."
    assert verdicts.sentence(known).endswith(on_imagenet)
    assert "ImageNet" not in verdicts.sentence(unknown)


def test_each_family_has_an_interval_that_says_what_it_is():
    primary = made_up(SE, **DECIDED)
    secondary = made_up("SRM-ResNet-50 > SE-ResNet-50", **{**DECIDED, "reported": 0.06})
    table = verdicts.table_of([primary, secondary])
    assert table["Simultaneous 95%"].tolist() == ["[+0.13, +2.34]", "–"]
    assert table["95%, not adjusted"].tolist() == ["–", "[+0.13, +2.34]"]
    assert "simultaneous 95% interval [+0.13, +2.34]" in verdicts.sentence(primary)
    assert "unadjusted 95% interval [+0.13, +2.34]" in verdicts.sentence(secondary)
    assert "a new run wins with a probability of 0.88" in verdicts.sentence(primary)
    assert "image noise alone" in verdicts.sentence(primary)
    drawn = verdicts.sentence(made_up(SE, **DECIDED, draws_seeds=True))
    assert "images and seeds drawn again" in drawn and "alone" not in drawn


def test_no_chance_is_rounded_to_none_or_to_certainty():
    """One that cannot be computed is a dash, and a small p keeps its digits in the file."""
    shares = [0.0049, 0.005, 0.9949, 0.995, math.nan, None]
    made = [made_up(SE, **{**DECIDED, "wins": share}) for share in shares]
    shown = verdicts.table_of(made)["P(A > B)"].tolist()
    assert shown == ["< 0.01", "0.01", "0.99", "> 0.99", "–", "–"]
    assert "a new run wins" not in verdicts.sentence(made[-1])
    assert verdicts.row(made_up(SE, **{**DECIDED, "p_adjusted": 1.23456e-7}))["p_adjusted"] == (
        1.23e-7
    )


def test_a_page_shows_the_claims_on_its_networks_with_what_they_are_about(study):
    page = study["02_ge"]
    found = [verdict.claim.text for verdict in verdicts.verdicts(page)]
    assert found == [
        "GE-ResNet-50 > ResNet-50 on Animals-10",
        "GE-ResNet-50 > ResNet-50 by 27.3 points on Animals-10",
    ]
    text = verdicts.verdict_text(page).data
    assert "* **GE-ResNet-50 > ResNet-50 on Animals-10: within 1.5 points.** Ours: " in text
    assert "about these images, under this recipe, trained again with new seeds" in text
    assert page.provenance not in text  # which the page says once
    # Its two networks are judged as on the page of all.
    overview = {v.claim: v for v in verdicts.verdicts(study[OVERVIEW])}
    assert all(overview[v.claim] == v for v in verdicts.verdicts(page))
    deviation = verdicts.verdicts(page)[0].residual.deviation
    residual = f"* Residual on Animals-10: {deviation:.2f} points, with 32 degrees of freedom."
    assert text.count(residual) == 1 and "log-odds, with 32 degrees of freedom" in text
    unsupported = verdicts.unsupported(study[OVERVIEW]).data
    assert "* **SE-ResNet-50 > ResNet-50 by 28.4 points on Animals-10**: smaller" in unsupported
    assert "* **SE-ResNet-50 > ResNet-50 on Animals-10**" not in unsupported


def test_better_by_a_block_that_does_the_same_to_all_images_confirms_nothing(study, monkeypatch):
    constant = made_up(SE, **DECIDED, constant=True)
    better = made_up("GE-ResNet-50 > ResNet-50", **DECIDED)
    monkeypatch.setattr(verdicts, "verdicts", lambda plan: [constant, better])
    [line, *_] = verdicts.unsupported(study[OVERVIEW]).data.splitlines()
    assert line.startswith("* **SE-ResNet-50 > ResNet-50 on Animals-10**: better (constant: no ver")
    assert "GE" not in verdicts.unsupported(study[OVERVIEW]).data


def test_the_file_of_verdicts_has_every_claim_once_and_is_the_same_again(study, tmp_path):
    folder = tmp_path
    write_summary(folder, list(study.values()))
    first = (folder / "verdicts.csv").read_bytes()
    with (folder / "verdicts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["claim"] for row in rows] == [claim.text for claim in CLAIMS]
    outcomes = {row["claim"]: row["outcome"] for row in rows}
    assert outcomes["SE-ResNet-50 > ResNet-50 on Animals-10"] == "better"
    assert outcomes["GE-ResNet-50 > ResNet-50 on Animals-10"] == "within 1.5 points"
    write_summary(folder, [study[OVERVIEW]])
    assert (folder / "verdicts.csv").read_bytes() == first


def test_all_of_the_study_is_behind_a_page_with_an_outcome(study):
    names = {run.folder.name for run in verdicts.runs_behind(study["02_ge"])}
    assert names == {path.name for path in (study[OVERVIEW].results_dir / "runs").iterdir()}


def test_the_plain_networks_other_lengths_are_behind_a_page(tmp_path, study_run):
    """``findings.cost_finding`` reads what the time buys from them, and from no other arm."""
    folder = tmp_path / "study"
    for entry in (RESNET, GE):
        study_run(folder, "animals10", entry, 0, 0.8)
    before = {run.folder.name for run in verdicts.runs_behind(recorded_plans(folder)["02_ge"])}
    for comparison in (HALF_THE_EPOCHS, TWICE_THE_EPOCHS, WIDER):
        plain, block, _ = comparison.entries
        for seed in (0, 9):  # the other is not the study's
            study_run(folder, "animals10", plain, seed, 0.7)
        study_run(folder, "animals10", block, 0, 0.7)
    found = [run.experiment for run in verdicts.runs_behind(recorded_plans(folder)["02_ge"])]
    more = [experiment for experiment in found if experiment.name not in before]
    assert {(e.model, e.seed, e.recipe.epochs) for e in more} == {
        (RESNET.model, 0, 15),
        (RESNET.model, 0, 60),
    }
    assert len(found) == len(before) + 2


def test_a_small_run_shows_differences_and_no_outcome(data_dir, tmp_path, write_run):
    page = plan("03_srm", "smoke", data_dir=data_dir, results_dir=tmp_path)
    for experiment in page.experiments:
        write_run(tmp_path / "smoke" / "runs" / experiment.name, experiment)
    found = verdicts.verdicts(page)
    assert {v.outcome for v in found} == {"not tested"} and {v.folds for v in found} == {
        "1 of 1 seed"
    }
    table = verdicts.verdict_table(page)
    assert list(table) == ["Outcome", "Ours", "Runs", "Family"]
    assert table["Ours"].iloc[0] == "+0.00 points"
    text = verdicts.verdict_text(page).data
    assert "SRM-ResNet-50 > SE-ResNet-50 on Animals-10: not tested." in text
    assert "with new seeds" not in text and "write-up" not in text
    assert "no outcomes here" in verdicts.unsupported(page).data
    assert {run.folder.name for run in verdicts.runs_behind(page)} == {
        experiment.name for experiment in page.experiments
    }


def test_without_runs_nothing_is_measured(data_dir, tmp_path):
    page = plan("04_sge", "smoke", data_dir=data_dir, results_dir=tmp_path)
    assert {v.value for v in verdicts.verdicts(page)} == {None}
    assert "No run of ours speaks to it." in verdicts.verdict_text(page).data
    assert verdicts.verdict_table(page)["Runs"].tolist() == ["0 of 1 seed"] * 2
