"""The tables of the pages."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from attn_blocks.files import write_json
from attn_book.analysis import tables
from attn_book.records import planned
from attn_book.records import run as records_run
from attn_book.records.recorded import recorded_plans
from attn_book.study.design import CONTROLS
from attn_book.study.pages import OVERVIEW, RESNET, SENET_PUBLISHED, VGG
from attn_book.study.plan import plan


def test_recipe_table_has_a_column_for_each_task(data_dir, tmp_path):
    page = plan("01_se", "smoke", data_dir=data_dir, results_dir=tmp_path)
    table = tables.recipe_table(page)
    assert list(table.columns) == ["CIFAR-10", "Animals-10"]
    assert table.loc["stem"].tolist() == ["cifar", "small"]


def test_recipe_table_shows_what_one_network_of_a_comparison_has_for_itself(tmp_path):
    def recorded(task, data, recipe, folder):
        return SimpleNamespace(
            name=task, title=task, classes=("a",), class_total=1, train=(), val=(), fingerprint="f"
        )

    page = plan("05_sa", "paper", data_dir=tmp_path, load=recorded)
    table = tables.recipe_table(page)
    assert table.loc["weight decay"].tolist() == ["0.0002 / 0.0001", "0.0001"]
    assert table.loc["epochs"].tolist() == ["100", "60"]


def test_a_model_without_results_says_why(data_dir, tmp_path, write_run):
    page = plan("03_srm", "smoke", seeds=0, data_dir=data_dir, results_dir=tmp_path)
    experiments = {
        e.title: experiment for e, experiment in page.comparison("animals10").experiments
    }
    folders = {
        title: planned.run_of(page, experiment).folder for title, experiment in experiments.items()
    }
    for title in ("ResNet-50", "SRM-ResNet-50"):
        write_run(folders[title], experiments[title])
    write_json(folders["SRM-ResNet-50"] / "metrics.json", {"status": "failed", "reason": "nan"})
    found = tables.accuracy_table(page, "animals10")["Final accuracy"]
    assert (
        found["ResNet-50"]
        == f"{records_run.Run(folders['ResNet-50']).metrics['final_val_acc']:.4f}"
    )
    assert found["SRM-ResNet-50"] == "failed"
    assert found["SE-ResNet-50"] == found["GE-ResNet-50"] == "not trained"
    table = tables.accuracy_table(page, "animals10")
    assert table["Runs"].tolist() == ["1 of 1 seed", *["0 of 1 seed"] * 3]
    assert set(table["Standard deviation"]) == {"–"}  # one run has none
    assert set(table["Reported"]) == {"–"}  # which is not about drawn shapes


def test_accuracies_of_the_study_have_their_spread_and_the_number_of_folds(tmp_path, study_run):
    for seed, share in enumerate((0.80, 0.82, 0.84)):
        study_run(tmp_path / "study", "animals10", RESNET, seed, share)
        study_run(tmp_path / "study", "cifar10", SENET_PUBLISHED, seed, share)
    study_run(tmp_path / "study", "caltech16", VGG, 0, 0.7)
    page = recorded_plans(tmp_path / "study")[OVERVIEW]
    row = tables.accuracy_table(page, "animals10").loc["ResNet-50"]
    assert (row["Final accuracy"], row["Standard deviation"]) == ("0.8200", "0.0200")
    assert (row["Runs"], row["Reported"]) == ("3 of 5 folds", "0.5888")
    runs = tables.accuracy_table(page, "cifar10")["Runs"]
    assert runs["SENet as published"] == "3 of 3 seeds"
    assert runs["SENet without SE"] == "0 of 3 seeds"
    assert tables.accuracy_table(page, "caltech16").loc["VGG-19", "Runs"] == "1 of 3 folds"
    diverged = study_run(tmp_path / "study", "animals10", RESNET, 3, 0.1).folder
    write_json(diverged / "metrics.json", {"status": "failed", "reason": "nan", "epoch": 2})
    page = recorded_plans(tmp_path / "study")[OVERVIEW]
    row = tables.accuracy_table(page, "animals10").loc["ResNet-50"]
    assert (row["Final accuracy"], row["Runs"]) == ("0.8200", "3 of 5 folds, 1 run diverged")
    recipes = tables.recipe_table(page)
    assert recipes.loc["seeds"].tolist() == ["0 1 2", "0 1 2", "0"]
    assert recipes.loc["validated on"].tolist()[:2] == [
        "the fold of the seed's number",
        "one split",
    ]


def test_networks_that_no_page_has_have_a_table_too(tmp_path, study_run):
    study_run(tmp_path / "study", "animals10", RESNET, 0, 0.8)
    page = recorded_plans(tmp_path / "study")[OVERVIEW]
    controls = replace(page.comparison("animals10"), comparison=CONTROLS[0], experiments=())
    table = tables.accuracy_table(replace(page, comparisons=(controls,)), "animals10")
    assert table["Final accuracy"].tolist() == ["not trained"] * 2
    assert table["Runs"].tolist() == ["0 of 3 folds"] * 2


def test_class_report_by_hand():
    # Of 4 cats 3 are found, and nothing else is taken for one; both dogs are found, among 3 named.
    confusion = np.array([[3, 1], [0, 2]])
    runs = [SimpleNamespace(confusion=confusion, classes=["cat", "dog"])] * 2
    report = tables.class_report(runs)
    assert report.loc["cat"].tolist() == [1.0, 0.75, 0.857, 8]
    assert report.loc["dog"].tolist() == [0.667, 1.0, 0.8, 4]
    assert report.loc["macro avg"].tolist() == [0.833, 0.875, 0.829, 12]


def test_what_is_not_known_is_a_dash():
    assert (tables.signed(0.5), tables.signed(-1, ".1f"), tables.signed(None)) == (
        "+0.50",
        "-1.0",
        "–",
    )
    assert tables.interval((-0.5, 1), "+.1f") == "[-0.5, +1.0]"
    assert tables.interval(None) == tables.interval((float("nan"),) * 2) == "–"
