"""Intervals and tests: by hand, against published tables, by simulation, on the first study."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from attn_blocks.errors import SettingError
from attn_book.analysis import statistics
from attn_book.analysis.statistics import SHARED, Difference, Residual
from attn_book.records.first_study import FOLDER, RUNS
from attn_book.records.published import PUBLISHED

# Three networks on three folds. Means 11, 13, 12 and 11, 11, 14; of all 12. What is left:
# A 10 10 13 -> 0 0 0; B 12 13 14 -> 0 1 -1; C 11 10 15 -> 0 -1 1; squares 4 on 4 degrees.
VALUES = {
    "A": {0: 10.0, 1: 10.0, 2: 13.0},
    "B": {0: 12.0, 1: 13.0, 2: 14.0},
    "C": {0: 11.0, 1: 10.0, 2: 15.0},
}
# Of |t| at 5%, for 1 to 9 comparisons with one network: Dunnett (1964), Biometrics 20, Table II.
DUNNETT_1964 = {
    5: "2.57 3.03 3.29 3.48 3.62 3.73 3.82 3.90 3.97",
    10: "2.23 2.57 2.76 2.89 2.99 3.07 3.14 3.19 3.24",
    16: "2.12 2.42 2.59 2.71 2.80 2.87 2.92 2.97 3.02",
    18: "2.10 2.40 2.56 2.68 2.76 2.83 2.89 2.94 2.98",
    20: "2.09 2.38 2.54 2.65 2.73 2.80 2.86 2.90 2.95",
    30: "2.04 2.32 2.47 2.58 2.66 2.72 2.77 2.82 2.86",
    120: "1.98 2.24 2.38 2.47 2.55 2.60 2.65 2.69 2.73",
}


def test_the_residual_by_hand():
    assert statistics.residual(VALUES) == Residual(1.0, 4)
    shifted = {name: {f: v + 7 * f for f, v in row.items()} for name, row in VALUES.items()}
    assert statistics.residual(shifted).deviation == pytest.approx(1.0)  # folds do not count


def test_a_network_with_fewer_folds_is_compared_on_those_it_has_and_adds_nothing_to_the_residual():
    values = {**VALUES, "D": {0: 20.0, 2: 20.0}}
    found = statistics.difference(values, "D", "A")
    assert found == Difference((20 - 10 + 20 - 13) / 2, 2, Residual(1.0, 4))
    assert found.error() == pytest.approx(math.sqrt(2 / 2))
    assert found.error(SHARED) == pytest.approx(math.sqrt(2 * (1 / 2 + 1 / 4)))
    assert statistics.difference(values, "A", "E") is None
    assert statistics.difference({"A": {0: 1.0}, "B": {1: 1.0}}, "A", "B") is None


def test_without_two_whole_networks_there_is_no_interval():
    found = statistics.difference({"A": {0: 2.0}, "B": {0: 1.0}}, "A", "B")
    assert (found.value, found.folds, found.residual.freedom) == (1.0, 1, 0)
    critical = statistics.dunnett_critical(1, 0), statistics.student_critical(0)
    p = statistics.dunnett_p(1.0, 1, 0), statistics.student_p(1.0, 0)
    numbers = [*critical, *p, *found.interval(2.0), found.t(), found.win_probability]
    assert all(math.isnan(number) for number in numbers)


def test_one_comparison_by_hand():
    found = statistics.difference(VALUES, "B", "A")  # 2 with error sqrt(2/3) and 4 degrees
    critical = statistics.student_critical(found.residual.freedom)
    assert critical == pytest.approx(2.776445, abs=1e-6)
    assert found.interval(critical) == pytest.approx((2 - 2.26696, 2 + 2.26696), abs=1e-5)
    assert found.t() == pytest.approx(2 / math.sqrt(2 / 3))
    assert found.t(2.0) == 0
    # Student's distribution with 4 degrees: P(|T| < t) = t (t^2 + 6) / (t^2 + 4)^1.5; here t^2 = 6.
    assert statistics.student_p(found.t(), 4) == pytest.approx(1 - 6**0.5 * 12 / 10**1.5, abs=1e-9)
    # Phi(2 / sqrt(2)) = 0.92135
    assert found.win_probability == pytest.approx(0.92135, abs=1e-5)


@pytest.mark.parametrize("freedom", DUNNETT_1964)
def test_critical_values_are_those_of_the_published_table(freedom):
    ours = [f"{statistics.dunnett_critical(k, freedom):.2f}" for k in range(1, 10)]
    assert ours == DUNNETT_1964[freedom].split()


@pytest.mark.parametrize(("comparisons", "freedom"), [(2, 5), (3, 12), (8, 32)])
def test_adjusted_p_is_the_multivariate_t(comparisons, freedom):
    correlation = np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons)
    law = stats.multivariate_t(shape=correlation, df=freedom, seed=0)
    for t in (0.5, 1.5, 2.8, 4.0):
        bound = np.full(comparisons, t)
        inside = law.cdf(bound, lower_limit=-bound, maxpts=100_000 * comparisons)
        ours = statistics.dunnett_p(-t, comparisons, freedom)
        assert ours == pytest.approx(1 - inside, abs=1e-4)


def test_one_comparison_is_students_and_many_lie_below_bonferroni():
    assert statistics.dunnett_p(2.1, 1, 7) == pytest.approx(statistics.student_p(2.1, 7), abs=1e-9)
    for level in (0.9, 0.95):
        found = [statistics.dunnett_critical(8, freedom, level) for freedom in (1, 4, 32, 320)]
        alone = [statistics.student_critical(f, 1 - (1 - level) / 8) for f in (1, 4, 32, 320)]
        assert all(ours < bonferroni for ours, bonferroni in zip(found, alone, strict=True))
        for freedom, critical in zip((1, 4, 32, 320), found, strict=True):
            assert statistics.dunnett_p(critical, 8, freedom) == pytest.approx(1 - level, abs=1e-8)
    with pytest.raises(SettingError, match="comparisons must be a number from 1"):
        statistics.dunnett_p(1.0, 0, 4)


def test_the_protocols_power():
    found = Difference(0.0, 5, Residual(0.65, 32))
    critical = statistics.dunnett_critical(8, 32)
    assert f"{found.interval(critical)[1]:.2f}" == "1.15"
    assert f"{found.interval(critical, SHARED)[1]:.2f}" == "1.73"


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.6]) == [1.0, 1.0]
    assert statistics.holm([0.01, math.nan])[0] == 0.02  # what has no p is a test all the same
    assert statistics.holm([]) == []


def test_sizes_by_hand():
    assert statistics.log_odds(0.8) == pytest.approx(math.log(4))
    assert statistics.log_odds(0.5) == 0
    assert (statistics.log_odds(0.0), statistics.log_odds(1.0)) == (-math.inf, math.inf)
    assert statistics.error_reduction(0.9, 0.8) == pytest.approx(0.5)
    assert math.isnan(statistics.error_reduction(1.0, 1.0))


# By simulation -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studies():
    """4,000 studies of nine networks without any difference, on five folds that differ much."""
    random = np.random.default_rng(0)
    tables = random.normal(size=(4000, 9, 5)) + 5 * random.normal(size=(4000, 1, 5))
    return [{str(n): dict(enumerate(row)) for n, row in enumerate(table)} for table in tables]


def share_is(share, expected, count):
    """Within three standard errors of a simulated share."""
    assert abs(share - expected) < 3 * math.sqrt(expected * (1 - expected) / count)


def test_simultaneous_intervals_cover_as_often_as_they_say(studies):
    critical = statistics.dunnett_critical(8, 32)
    hold = p_above = 0
    for values in studies:
        found = [statistics.difference(values, str(n), "0") for n in range(1, 9)]
        intervals = [one.interval(critical) for one in found]
        hold += all(low <= 0 <= high for low, high in intervals)
        largest = max(abs(one.t()) for one in found)
        p_above += statistics.dunnett_p(largest, 8, 32) > 0.05
    share_is(hold / len(studies), 0.95, len(studies))
    assert p_above == hold  # the adjusted p and the intervals are one test


def test_holms_family_errs_at_most_as_often_as_it_says(studies):
    errors = 0
    for values in studies:
        found = [statistics.difference(values, str(a), str(b)) for a, b in pairwise(range(9))]
        p_values = [statistics.student_p(one.t(), one.residual.freedom) for one in found]
        errors += min(statistics.holm(p_values)) < 0.05
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(studies))
    assert 0.02 < errors / len(studies) < limit


def test_the_chance_of_winning_is_how_often_a_run_wins():
    random = np.random.default_rng(1)
    first, second = random.normal(0.7, 1, 40_000), random.normal(0.0, 1, 40_000)
    expected = Difference(0.7, 5, Residual(1.0, 32)).win_probability
    share_is((first > second).mean(), expected, 40_000)


# Images ------------------------------------------------------------------------------------------


def test_drawn_images_spread_as_the_binomial_within_each_class():
    labels = np.repeat([0, 1], [60, 40])
    correct = np.zeros((3, 100), bool)
    correct[0, :45] = correct[0, 60:70] = True  # 45 of 60 and 10 of 40
    correct[1] = correct[0]
    correct[2] = labels == 0  # of no class in doubt
    drawn = statistics.draw_images(correct, labels, np.random.PCG64(0), 20_000)
    assert drawn.shape == (20_000, 3)
    expected = math.sqrt(60 * 0.75 * 0.25 + 40 * 0.25 * 0.75) / 100
    assert drawn[:, 0].std() == pytest.approx(expected, rel=0.02)
    assert drawn[:, 0].mean() == pytest.approx(0.55, abs=0.001)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # the same images for both
    assert (drawn[:, 2] == 0.6).all()  # as many of each class as there are


def test_what_is_drawn_is_the_same_everywhere():
    labels = np.repeat([0, 1, 2], 5)
    correct = np.arange(30).reshape(2, 15) % 4 == 0
    drawn = statistics.draw_images(correct, labels, np.random.PCG64(0), 4)
    np.testing.assert_array_equal(np.rint(15 * drawn), DRAWN)


DRAWN = [[8, 3], [4, 3], [6, 2], [3, 4]]


def test_drawn_seeds_are_the_same_for_all_networks():
    accuracies = np.broadcast_to(np.array([[0.1, 1.1], [0.2, 1.2], [0.3, 1.3]]), (5000, 3, 2))
    drawn = statistics.draw_seeds(accuracies, np.random.PCG64(0))
    np.testing.assert_allclose(drawn[..., 1] - drawn[..., 0], 1.0)
    assert set(np.unique(drawn[..., 0])) == {0.1, 0.2, 0.3}
    spread = drawn[..., 0].mean(axis=1).std()
    assert spread == pytest.approx(np.std([0.1, 0.2, 0.3]) / 3**0.5, rel=0.05)


def test_the_middle_of_what_was_drawn():
    low, high = statistics.middle(np.arange(1001.0))
    assert (low, high) == pytest.approx((25.0, 975.0))


def test_mcnemars_counts():
    first, second = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert statistics.mcnemar(first, second) == (2, 1)


# The first study ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_study():
    """Accuracies in points of its nine networks on Animals-10, by seed, as plain records."""
    values = {}
    for folder in sorted((PUBLISHED / FOLDER / RUNS).glob("animals10-*")):
        record, metrics = (
            json.loads((folder / name).read_text()) for name in ("experiment.json", "metrics.json")
        )
        runs = values.setdefault(record["model"].removesuffix("_resnet50"), {})
        runs[record["seed"]] = 100 * metrics["final_val_acc"]
    assert [sorted(runs) for runs in values.values()] == [[0, 1, 2]] * 9
    return values


def printed(found, critical):
    low, high = found.interval(critical)
    return f"{found.value:+.2f} [{low:.2f}, {high:.2f}]"


def test_the_first_study_in_one_way_as_scipy_has_it(first_study):
    """Without seeds: the variance within networks, pooled."""
    of = {name: np.array([runs[seed] for seed in (0, 1, 2)]) for name, runs in first_study.items()}
    within = Residual(math.sqrt(np.mean([runs.var(ddof=1) for runs in of.values()])), 18)
    found = {}
    for block in ("srm", "bat"):
        mean = statistics.difference(first_study, block, "resnet50").value
        one = Difference(mean, 3, within)
        found[block] = printed(one, statistics.dunnett_critical(8, 18))
    assert found == {"srm": "+1.99 [0.45, 3.54]", "bat": "-2.59 [-4.13, -1.04]"}
    control, blocks = of.pop("resnet50"), list(of)
    theirs = stats.dunnett(*of.values(), control=control, rng=np.random.default_rng(0))
    interval = theirs.confidence_interval(0.95)
    for block, ours in found.items():
        low, high = (bound[blocks.index(block)] for bound in (interval.low, interval.high))
        assert ours.endswith(f"[{low:.2f}, {high:.2f}]")


def test_the_first_study_additive_in_network_and_seed(first_study):
    found = {b: statistics.difference(first_study, b, "resnet50") for b in ("srm", "bat")}
    assert found["srm"].residual.freedom == 16
    critical = statistics.dunnett_critical(8, 16)
    assert {block: printed(one, critical) for block, one in found.items()} == {
        "srm": "+1.99 [0.36, 3.63]",
        "bat": "-2.59 [-4.22, -0.95]",
    }


def test_the_residual_is_that_of_least_squares(first_study):
    """Against a solver that knows nothing of complete tables."""
    folds, rows, accuracies = (0, 1, 2), [], []
    for number, runs in enumerate(first_study.values()):
        for fold in folds:
            rows.append([*(number == i for i in range(9)), *(fold == i for i in folds)])
            accuracies.append(runs[fold])
    matrix, accuracies = np.array(rows, float), np.array(accuracies)
    solution = np.linalg.lstsq(matrix, accuracies, rcond=None)[0]
    left = accuracies - matrix @ solution
    found = statistics.residual(first_study)
    assert found.deviation == pytest.approx(math.sqrt(left @ left / found.freedom))
