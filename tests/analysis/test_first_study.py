"""What was wrong with the first study: by hand, against SciPy and Paddle, and on its records."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import paddle
import pytest
from scipy import stats

from attn_blocks import create_model
from attn_blocks.errors import SettingError
from attn_book.analysis import first_study, statistics
from attn_book.records import first_study as records
from attn_book.records.published import PUBLISHED
from attn_book.study.claims import CLAIMS, SIZE
from attn_book.study.experiment import Recipe
from attn_book.study.pages import NINE

FOLDER = PUBLISHED / records.FOLDER / records.RUNS
# What the book printed after the first study; all other signs were undecided.
PRINTED = {
    "SENet as intended > SENet as published on CIFAR-10": "supported",
    "SRM-ResNet-50 > ResNet-50 on Animals-10": "supported",
    "SRM-ResNet-50 > SE-ResNet-50 on Animals-10": "supported",
    "SGE-ResNet-50 > ResNet-50 on Animals-10": "supported",
    "BAT-ResNet-50 > GC-ResNet-50 on Animals-10": "contradicted",
    "BAT-ResNet-50 > NL-ResNet-50 on Animals-10": "contradicted",
}
# Three networks with three seeds. Means of networks 11, 13, 12, of seeds 11, 11, 14, of all 12;
# what is left of network and seed has squares of 4 on 4 degrees (see test_statistics).
VALUES = {
    "A": {0: 10.0, 1: 10.0, 2: 13.0},
    "B": {0: 12.0, 1: 13.0, 2: 14.0},
    "C": {0: 11.0, 1: 10.0, 2: 15.0},
}


@pytest.fixture(scope="module")
def networks():
    return first_study.by_network(records.runs(FOLDER.parent))


@pytest.fixture(scope="module")
def values(networks):
    return {task: first_study.accuracies(of_task) for task, of_task in networks.items()}


def raw(pattern):
    """Folder name -> accuracy in points, from the files themselves."""
    paths = sorted(FOLDER.glob(f"{pattern}/metrics.json"))
    return {p.parent.name: 100 * json.loads(p.read_text())["final_val_acc"] for p in paths}


def test_every_run_has_its_place(networks, values):
    assert {task: len(of_task) for task, of_task in networks.items()} == {
        "animals10": 9,
        "caltech16": 4,
        "cifar10": 3,
    }
    assert {tuple(of) for table in values.values() for of in table.values()} == {(0, 1, 2)}
    assert sum(len(runs) for of in networks.values() for runs in of.values()) == len(raw("*")) == 48
    found = [*values["animals10"]["GE-ResNet-50"].values()]
    assert found == list(raw("animals10-ge_resnet50-*").values())


# Gains under decay -------------------------------------------------------------------------------


def test_decay_alone_is_what_paddles_optimizer_does():
    settings = {"width": 1, "stem": "small", "image_size": 8, "augmentation": "rotate"}
    recipe = Recipe(
        **settings,
        epochs=4,
        batch_size=1,
        learning_rate=0.5,
        schedule="one_cycle",
        weight_decay=0.05,
    )
    gain = paddle.create_parameter(
        [1], "float32", default_initializer=paddle.nn.initializer.Constant(1.0)
    )
    optimizer = paddle.optimizer.Momentum(
        recipe.learning_rate, recipe.momentum, [gain], weight_decay=recipe.weight_decay
    )
    theirs = [1.0]
    for epoch in range(recipe.epochs):
        for step in range(5):
            optimizer.set_lr(recipe.rate(epoch, step, 5))
            (0.0 * gain).sum().backward()
            optimizer.step()
            optimizer.clear_grad()
        theirs.append(float(gain))
    assert theirs[-1] < 0.7
    assert first_study.decay_alone(recipe, 5) == pytest.approx(theirs, rel=1e-5)
    with pytest.raises(SettingError, match="set nesterov=False"):
        first_study.decay_alone(replace(recipe, nesterov=True), 5)


def test_a_gain_without_gradient_ends_at_a_third(networks):
    for runs in networks["animals10"].values():
        for run in runs:
            recipe, steps = first_study.recipe_of(run), first_study.steps_of(run)
            assert (recipe.learning_rate, recipe.weight_decay, recipe.epochs) == (0.1, 5e-4, 30)
            # The rate that the history has for an epoch is that of its last step.
            for row in run.history:
                epoch = int(row["epoch"]) - 1
                assert recipe.rate(epoch, steps - 1, steps) == pytest.approx(row["lr"], abs=1e-12)
    assert steps == 9013 // 64
    # A linear rise and a cosine have a mean of half their top: 4,200 steps at 0.05, ten times
    # because of the momentum of 0.9, times 5e-4: 1.05.
    assert first_study.decay_limit(recipe, steps) == pytest.approx(math.exp(-1.05), abs=1e-4)
    course = first_study.decay_alone(recipe, steps)
    assert (len(course), course[0]) == (31, 1.0)
    assert course[-1] == pytest.approx(0.349, abs=1e-3)
    milder = first_study.decay_alone(replace(recipe, weight_decay=1e-4), steps)
    assert milder[-1] == pytest.approx(math.exp(-0.21), abs=1e-3)
    without = first_study.decay_alone(replace(recipe, momentum=0.0), steps)
    by_hand = math.prod(
        1 - 5e-4 * recipe.rate(e, s, steps) for e in range(30) for s in range(steps)
    )
    assert without[-1] == pytest.approx(by_hand)


# The verdicts, as they were given ----------------------------------------------------------------


def test_the_verdicts_are_those_that_were_printed(values):
    signs = first_study.old_verdicts(values)
    assert len(signs) == 18
    decided = {v.claim.text: v.word for v in signs if v.word != first_study.UNDECIDED}
    assert decided == PRINTED
    found = first_study.old_verdicts(values, SIZE)
    assert {v.claim.better: v.word for v in found} == dict.fromkeys(
        (f"{block}-ResNet-50" for block in ("SE", "GE", "SRM", "SGE")), "contradicted"
    )


def test_matches_are_the_paired_t_intervals_of_every_order(values):
    pair = "SRM-ResNet-50", "ResNet-50"
    ours, theirs = (
        np.array(list(raw(f"animals10-{n}-s*").values())) for n in ("srm_resnet50", "resnet50")
    )
    orders = [list(order) for order in permutations(range(3))]
    for found, order in zip(first_study.matches(values["animals10"], *pair), orders, strict=True):
        paired = stats.ttest_rel(ours, theirs[order])
        low, high = paired.confidence_interval(0.95)
        assert first_study.interval(found) == pytest.approx((low, high))
        assert statistics.student_p(found.t(), 2) == pytest.approx(paired.pvalue)


def test_in_how_many_matches_a_verdict_stands(values):
    stands = {v.claim.text: v.stands for v in first_study.old_verdicts(values)}
    assert {claim: stands[claim] for claim in PRINTED} == {
        "SENet as intended > SENet as published on CIFAR-10": 2,
        "SRM-ResNet-50 > ResNet-50 on Animals-10": 2,
        "SRM-ResNet-50 > SE-ResNet-50 on Animals-10": 3,
        "SGE-ResNet-50 > ResNet-50 on Animals-10": 2,
        "BAT-ResNet-50 > GC-ResNet-50 on Animals-10": 4,
        "BAT-ResNet-50 > NL-ResNet-50 on Animals-10": 6,
    }
    assert stands["BAT-ResNet-50 > ResNet-50 on Animals-10"] == 2


def test_the_old_rule_by_hand():
    sign, size = (
        next(
            c for c in CLAIMS if (c.better, c.worse, c.kind) == ("SE-ResNet-50", "ResNet-50", kind)
        )
        for kind in ("better", SIZE)
    )

    def words(*differences):
        table = {"A": dict(enumerate(differences)), "B": dict.fromkeys(range(3), 0.0)}
        found = statistics.difference(table, "A", "B")
        return first_study.old_word(sign, found), first_study.old_word(size, found)

    assert words(1.0, 1.1, 0.9) == ("supported", "contradicted")
    assert words(-1.0, -1.1, -0.9) == ("contradicted", "contradicted")
    assert words(1.0, -1.0, 0.5) == ("undecided", "contradicted")
    assert words(28.0, 28.5, 29.0) == ("supported", "supported")  # 28.4 is reported
    assert words(-20.0, 20.0, 60.0) == ("undecided", "undecided")


def test_without_an_error_a_size_is_contradicted_only_where_the_baseline_leaves_too_little(values):
    sizes = [verdict.claim for verdict in first_study.old_verdicts(values, SIZE)]
    animals = values["animals10"]
    assert first_study.room(animals) == pytest.approx(
        100 - np.mean([*raw("animals10-resnet50-*").values()])
    )
    assert f"{first_study.room(animals):.1f}" == "13.9"
    assert {first_study.without_errors(animals, claim) for claim in sizes} == {"contradicted"}
    weak = {**animals, "ResNet-50": {0: 71.0, 1: 72.0, 2: 73.0}}
    found = {claim.better: first_study.without_errors(weak, claim) for claim in sizes}
    assert found["SE-ResNet-50"] == "supported"  # 28 points with 25.5 to 30.5
    assert found["SGE-ResNet-50"] == "contradicted"  # 21.7 are reported


# What the same runs say together -----------------------------------------------------------------


def test_the_seeds_effect_by_hand():
    found = first_study.seed_effect(VALUES)  # 3 (1 + 1 + 4) / 2 over 4 / 4
    assert (found.f, found.freedom) == (pytest.approx(9.0), (2, 4))
    assert found.p == pytest.approx((1 + 9 * 2 / 4) ** -2)  # F with 2 and 4 degrees
    for gap in ({"A": VALUES["A"]}, {**VALUES, "D": {0: 1.0, 1: 2.0}}):
        with pytest.raises(SettingError, match="with the same seeds"):
            first_study.seed_effect(gap)


def test_the_seed_explains_nothing(values):
    found = first_study.seed_effect(values["animals10"])
    assert (f"{found.f:.2f}", found.freedom, f"{found.p:.2f}") == ("0.27", (2, 16), "0.77")
    # Against least squares with and without the seed.
    table = np.array([[*of.values()] for of in values["animals10"].values()])
    rows = [
        [*(i == n for n in range(9)), *(j == s for s in (0, 1))] for i in range(9) for j in range(3)
    ]
    matrix = np.array(rows, float)
    left = [np.linalg.lstsq(m, table.ravel(), rcond=None)[1][0] for m in (matrix, matrix[:, :9])]
    assert found.f == pytest.approx((left[1] - left[0]) / 2 / (left[0] / 16))


def test_no_sign_survives_holm_and_dunnett_finds_two(values):
    p = [verdict.p for verdict in first_study.old_verdicts(values)]
    assert (sum(one < 0.05 for one in p), min(statistics.holm(p)) > 0.05) == (6, True)
    animals = values["animals10"]
    for spread, expected in (
        (
            statistics.residual(animals),
            {"SRM": "+1.99 [0.36, 3.63]", "BAT": "-2.59 [-4.22, -0.95]"},
        ),
        (
            first_study.within_networks(animals),
            {"SRM": "+1.99 [0.45, 3.54]", "BAT": "-2.59 [-4.13, -1.04]"},
        ),
    ):
        found = first_study.simultaneous(animals, spread)
        off = {
            title.removesuffix("-ResNet-50"): f"{found[title].value:+.2f} [{low:.2f}, {high:.2f}]"
            for title, (low, high) in first_study.dunnett(found).items()
            if low > 0 or high < 0
        }
        assert (len(found), off) == (8, expected)


def test_the_spread_within_networks_by_hand():
    assert first_study.within_networks(VALUES) == statistics.Residual(math.sqrt(22 / 6), 6)


# Training images, and starts ---------------------------------------------------------------------


def test_training_accuracy_is_that_of_the_last_epoch(networks):
    found = first_study.learned(networks["animals10"])["SRM-ResNet-50"]
    last = []
    for path in FOLDER.glob("animals10-srm_resnet50-*/history.csv"):
        with path.open(newline="") as stream:
            last.append([*csv.DictReader(stream)][-1])
    assert found.training == pytest.approx(100 * np.mean([float(row["train_acc"]) for row in last]))
    assert found.validation == pytest.approx(100 * np.mean([float(row["val_acc"]) for row in last]))
    assert found.gap == 1.2
    gaps = [one.gap for one in first_study.learned(networks["animals10"]).values()]
    assert (min(gaps), max(gaps)) == (-1.9, 1.2)
    assert math.copysign(1, first_study.Learned(86.91, 86.94).gap) == 1


def test_the_counted_starts_are_of_the_eight_blocks():
    assert [*first_study.EQUAL_STARTS] == [entry.title for entry in NINE.entries[1:]]
    plain = create_model("resnet50", width=1 / 16)
    convolutions = [one for one in plain.sublayers() if isinstance(one, paddle.nn.Conv2D)]
    assert len(convolutions) == first_study.CONVOLUTIONS
    assert Counter(first_study.EQUAL_STARTS.values()) == {1: 2, 18: 3, 53: 3}
