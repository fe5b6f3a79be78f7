"""Controls, budgets and width: means and differences by fold, held against the right network."""

import pytest

from attn_blocks.files import write_json
from attn_book import language
from attn_book.analysis import beside
from attn_book.analysis.judgement import OUTCOMES
from attn_book.study import design
from attn_book.study.pages import RESNET, SRM


@pytest.fixture
def add(tmp_path, study_run):
    """A function that writes runs of a network: one for each accuracy, from seed 0."""

    def write(entry, *shares):
        return [
            study_run(tmp_path / "study", "animals10", entry, seed, share)
            for seed, share in enumerate(shares)
        ]

    return write


def rows(folder, part):
    found = beside.evidence(folder / "study", part)
    assert beside.is_trained(found, part)
    table = beside.table(found)
    return list(table), [" | ".join(row) for row in table.reset_index().to_numpy()]


def test_a_budget_is_held_against_the_plain_network_of_its_length(add, tmp_path):
    plain, se, _ = design.HALF_THE_EPOCHS.entries
    add(plain, 0.70, 0.75, 0.80)
    add(se, 0.72, 0.76)
    add(RESNET, 0.1, 0.1, 0.1)  # of the full length
    columns, found = rows(tmp_path, "half_the_epochs")
    assert columns == ["Fold 0", "Fold 1", "Fold 2", "Mean", "Runs"]
    assert found == [
        "ResNet-50, 15 epochs | 0.7000 | 0.7500 | 0.8000 | 0.7500 | 3 of 3 folds",
        "SE-ResNet-50, 15 epochs | 0.7200 | 0.7600 | – | 0.7400 | 2 of 3 folds",
        "points above ResNet-50, 15 epochs | +2.00 | +1.00 | – | +1.50 | 2 of 3 folds",
        "SRM-ResNet-50, 15 epochs | – | – | – | – | 0 of 3 folds",
        "points above ResNet-50, 15 epochs | – | – | – | – | 0 of 3 folds",
    ]


def test_what_a_block_adds_is_told_for_every_length(add, tmp_path):
    folder = tmp_path / "study"
    assert beside.by_length(folder) == ""
    for comparison in (design.HALF_THE_EPOCHS, design.TWICE_THE_EPOCHS):
        plain, _, srm = comparison.entries
        add(plain, 0.70, 0.75, 0.80)
        add(srm, 0.74, 0.77)
    assert beside.by_length(folder) == (
        "Points above ResNet-50, trained as long and on the same folds: "
        "SRM +3.00 after 15 and +3.00 after 60 epochs (folds 0, 1)."
    )
    add(RESNET, 0.80, 0.80, 0.80)
    add(SRM, 0.81)
    text = beside.by_length(folder)
    assert text.endswith("SRM +4.00 after 15, +1.00 after 30 and +4.00 after 60 epochs (fold 0).")


def test_a_control_is_held_against_the_network_of_the_nine_that_it_changes(add, tmp_path):
    add(RESNET, 0.80, 0.80, 0.80, 0.1, 0.1)  # controls have folds 0 to 2
    add(SRM, 0.85)
    add(design.HALVED, 0.78, 0.79, 0.80)
    *_, diverged = add(design.SRM_DECAYED, 0.80, 0.80)
    write_json(diverged.folder / "metrics.json", {"status": "failed", "reason": "x", "epoch": 2})
    _, found = rows(tmp_path, "controls")
    assert found == [
        "ResNet-50 | 0.8000 | 0.8000 | 0.8000 | 0.8000 | 3 of 3 folds",
        "ResNet-50, branches x 0.5 | 0.7800 | 0.7900 | 0.8000 | 0.7900 | 3 of 3 folds",
        "points above ResNet-50 | -2.00 | -1.00 | +0.00 | -1.00 | 3 of 3 folds",
        "SRM-ResNet-50 | 0.8500 | – | – | 0.8500 | 1 of 3 folds",
        "SRM-ResNet-50, gains decayed | 0.8000 | – | – | 0.8000 | 1 of 3 folds, 1 run diverged",
        "points above SRM-ResNet-50 | -5.00 | – | – | -5.00 | 1 of 3 folds, 1 run diverged",
    ]
    assert not any(word in f"{found}" for word in OUTCOMES)


def test_width_has_one_fold_and_a_plain_network_of_its_width(add, tmp_path):
    for entry, share in zip(design.WIDER.entries, (0.80, 0.82, 0.79), strict=True):
        add(entry, share)
    columns, found = rows(tmp_path, "wider")
    assert columns == ["Fold 0", "Mean", "Runs"]
    assert found == [
        "ResNet-50, half width | 0.8000 | 0.8000 | 1 of 1 fold",
        "SE-ResNet-50, half width | 0.8200 | 0.8200 | 1 of 1 fold",
        "points above ResNet-50, half width | +2.00 | +2.00 | 1 of 1 fold",
        "SRM-ResNet-50, half width | 0.7900 | 0.7900 | 1 of 1 fold",
        "points above ResNet-50, half width | -1.00 | -1.00 | 1 of 1 fold",
    ]


def test_the_nine_alone_are_no_control(add, tmp_path):
    add(RESNET, 0.8)
    for part in beside.PARTS:
        assert not beside.is_trained(beside.evidence(tmp_path / "study", part), part)


def test_every_run_of_the_study_is_shown_by_a_page_or_as_a_part():
    elsewhere = {"pilot", "nine", "caltech16", "cifar10", "unequal", "rescued"}
    assert {name for name, _ in design.ORDER} <= elsewhere | set(beside.PARTS)


def test_titles_say_how_a_network_is_trained_and_can_be_translated(monkeypatch):
    said = {"half width": "半宽", ", {phrase}": "，{phrase}"}
    monkeypatch.setattr(language, "catalogue", lambda chosen: said)
    title = design.WIDER.entries[1].title
    assert title == beside.in_words(title) == "SE-ResNet-50, half width"
    with language.speaking(language.CHINESE):
        assert beside.in_words(title) == "SE-ResNet-50，半宽"
    for comparison in (design.HALF_THE_EPOCHS, design.TWICE_THE_EPOCHS):
        for entry in comparison.entries:
            assert entry.title.endswith(f", {entry.changes['study']['epochs']} epochs")
