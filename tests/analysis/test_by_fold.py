"""The main comparison fold by fold: what hangs on one fold, and on one network."""

import pytest

from attn_blocks.files import write_json
from attn_book.analysis import by_fold
from attn_book.analysis.evidence import of_folder
from attn_book.study.pages import GE, NINE, RESNET, SE

PLAIN = (0.80, 0.81, 0.82, 0.83, 0.84)


@pytest.fixture
def folder(tmp_path, study_run):
    """Nine networks on five folds: SE gains 1 point, on fold 4 alone 6; GE has one good fold."""
    gains = {SE.title: (1, 1, 1, 1, 6), GE.title: (-1, -1, -1, -1, 5)}
    for entry in NINE.entries:
        for fold, (plain, gain) in enumerate(
            zip(PLAIN, gains.get(entry.title, [0] * 5), strict=True)
        ):
            study_run(tmp_path / "study", "animals10", entry, fold, plain + gain / 100, 1000)
    return tmp_path / "study"


def test_a_mean_is_taken_again_without_each_fold(folder):
    found = by_fold.gains(of_folder(folder, NINE))
    assert len(found) == 8
    se, ge = found[SE.title], found[GE.title]
    assert se.mean == pytest.approx(2)
    assert [se.without[fold] for fold in range(5)] == pytest.approx([2.25] * 4 + [1])
    assert [se.shifts[fold] for fold in (0, 4)] == pytest.approx([0.25, 1])
    assert not se.turns
    # (-1 * 4 + 5) / 5 is above 0, and without the good fold it is below.
    assert (ge.mean, ge.without[4]) == pytest.approx((0.2, -1)) and ge.turns


def test_each_network_has_its_share_of_the_residual(folder):
    found = by_fold.shares(of_folder(folder, NINE))
    assert sum(found.values()) == pytest.approx(1) and len(found) == 9
    # By hand: gains less their means are SE -1, -1, -1, -1, 4 and GE -1.2 four times and 4.8. Over
    # the networks they sum to -2.2 and 8.8, a ninth of which each fold's mean has.
    se, ge, plain = (
        4 * (low + 2.2 / 9) ** 2 + (high - 8.8 / 9) ** 2
        for low, high in ((-1, 4), (-1.2, 4.8), (0, 0))
    )
    total = se + ge + 7 * plain
    assert found[GE.title] == pytest.approx(ge / total)
    assert found[SE.title] == pytest.approx(se / total)
    assert found[RESNET.title] == pytest.approx(plain / total)


def test_words_name_what_hangs_on_one_fold(folder):
    text = by_fold.in_words(of_folder(folder, NINE))
    assert "moves by at most 1.20 points (GE, without fold 4)." in text
    assert "Without one of the folds another sign: GE." in text
    assert "GE-ResNet-50 has 48% of its sum of squares, the most of the 9, where equal" in text


def test_rows_are_held_against_the_plain_network(folder):
    table = by_fold.table(of_folder(folder, NINE))
    assert list(table) == [*(f"Fold {fold}" for fold in range(5)), "Mean", "Runs"]
    assert len(table) == 9 + 8
    se = [*table.index].index(SE.title)
    assert table.index[se + 1] == "points above ResNet-50"
    assert table.iloc[se + 1, [0, 4, 5]].tolist() == ["+1.00", "+6.00", "+2.00"]


def test_nothing_is_said_before_the_last_run_has_ended(folder):
    [last] = (folder / "runs").glob("animals10-bat_resnet50-f4-*/metrics.json")
    last.unlink()
    assert by_fold.in_words(of_folder(folder, NINE)) == ""
    write_json(last, {"status": "failed", "reason": "the loss is not finite", "epoch": 2})
    assert "moves by at most" in by_fold.in_words(of_folder(folder, NINE))
