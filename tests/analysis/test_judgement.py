"""From a whole study on record to the outcome of each claim."""

import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from attn_blocks.errors import CheckpointError
from attn_blocks.files import read_json, write_json
from attn_book.analysis import evidence as evidence_module
from attn_book.analysis import statistics, verdicts
from attn_book.analysis.evidence import on_record
from attn_book.analysis.judgement import (
    judge,
    judge_one_more,
    primary_outcome,
    secondary_outcome,
)
from attn_book.records.logits import read_logits, save_logits
from attn_book.records.recorded import recorded_plans
from attn_book.study.claims import BETTER, CLAIMS, PRIMARY, SECONDARY, SIZE
from attn_book.study.pages import OVERVIEW, RESNET, SE
from attn_book.study.recipes import PROFILES


@pytest.mark.parametrize(
    ("interval", "inner", "outcome"),
    [
        ((0.1, 2.0), (0.2, 1.9), "better"),
        ((-2.0, -0.1), (-1.9, -0.2), "worse"),
        ((0.1, 1.4), (0.2, 1.3), "better by under 1.5 points"),
        ((-1.4, -0.1), (-1.3, -0.2), "worse by under 1.5 points"),
        ((0.1, 1.5), (0.2, 1.4), "better"),  # the margin itself is not under it
        ((-0.9, 1.6), (-0.8, 1.4), "within 1.5 points"),  # the 90% interval decides
        ((-0.9, 1.7), (-0.8, 1.5), "open"),
        ((-1.7, 0.2), (-1.6, 0.1), "open"),
        ((0.0, 2.0), (0.1, 1.9), "open"),  # 0 is not above 0
        ((math.nan, math.nan), (math.nan, math.nan), "open"),
    ],
)
def test_the_words_of_the_primary_family(interval, inner, outcome):
    assert primary_outcome(interval, inner) == outcome


@pytest.mark.parametrize(
    ("kind", "above", "p", "outcome"),
    [
        (BETTER, True, 0.04, "better"),
        (BETTER, False, 0.04, "worse"),
        (BETTER, True, 0.06, "open"),
        (SIZE, True, 0.04, "larger than reported"),
        (SIZE, False, 0.04, "smaller than reported"),
        (SIZE, False, 0.06, "open"),
        (BETTER, True, math.nan, "open"),
    ],
)
def test_the_words_of_the_secondary_family(kind, above, p, outcome):
    assert secondary_outcome(kind, above, p) == outcome


# A whole study: with 200 images a run, accuracies are in steps of half a point. -----------------

GAINS = {  # of the networks over ResNet-50, in points, whatever the fold
    "SE-ResNet-50": 4.0,
    "GE-ResNet-50": 1.0,
    "SRM-ResNet-50": 0.0,
    "SGE-ResNet-50": -4.0,
    "SA-ResNet-50": 2.0,
}
WOBBLE = np.array([[1, -1, 0, 1, -1], [0, 1, -1, -1, 1], [-1, 0, 1, 0, 0]]) / 200


def accuracy(task, title, seed):
    """A network's own level, a fold's own, and up to half a point beside them."""
    level = {"animals10": 0.80, "caltech16": 0.70, "cifar10": 0.60}[task]
    return level + GAINS.get(title, 0) / 100 + 0.02 * seed + WOBBLE[len(title) % 3][seed]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, study_of):
    folder = tmp_path_factory.mktemp("whole") / "study"
    study_of(folder, accuracy)
    return folder


@pytest.fixture
def study(whole, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(whole, tmp_path / "study")


def judged(folder):
    plan = recorded_plans(folder)[OVERVIEW]
    return {verdict.claim.text: verdict for verdict in judge(on_record(plan), True)}


def table(task, titles):
    """Accuracies in points, as they are on record."""
    return {
        title: {seed: round(accuracy(task, title, seed) * 200) / 2 for seed in range(5)}
        for title in titles
    }


NINE = [
    "ResNet-50",
    *(f"{b}-ResNet-50" for b in ("SE", "GE", "SRM", "SGE", "SA", "NL", "GC", "BAT")),
]


def test_the_primary_family_is_judged_by_simultaneous_intervals(whole):
    found = judged(whole)
    values = table("animals10", NINE)
    residual = statistics.residual(values)
    assert residual.freedom == 32
    critical = statistics.dunnett_critical(8, 32)
    for block in NINE[1:]:
        verdict = found[f"{block} > ResNet-50 on Animals-10"]
        expected = statistics.difference(values, block, "ResNet-50")
        assert verdict.value == pytest.approx(expected.value)
        assert verdict.interval == pytest.approx(expected.interval(critical))
        assert verdict.corrected == pytest.approx(expected.interval(critical, statistics.SHARED))
        assert verdict.p_adjusted == pytest.approx(statistics.dunnett_p(expected.t(), 8, 32))
        assert verdict.wins == pytest.approx(expected.win_probability)
        assert verdict.folds == "5 of 5 folds" and verdict.unit == "points"
    words = {b: found[f"{b} > ResNet-50 on Animals-10"].outcome for b in (*GAINS, "BAT-ResNet-50")}
    assert words == {
        "SE-ResNet-50": "better",
        "GE-ResNet-50": "better, on these images",
        "SRM-ResNet-50": "within 1.5 points",
        "SGE-ResNet-50": "worse",
        "SA-ResNet-50": "better",
        "BAT-ResNet-50": "within 1.5 points",
    }
    ge = found["GE-ResNet-50 > ResNet-50 on Animals-10"]
    assert ge.corrected[0] < 0 < ge.interval[0] < 1.5 < ge.interval[1]


@pytest.mark.parametrize(
    ("half", "outcome"), [(0.4, "better by under 1.5 points"), (0.7, "better, on these images")]
)
def test_an_outcome_is_limited_where_its_word_does_not_hold_and_not_what_is_added(
    whole, half, outcome
):
    """GE gains 1 point: (0.6, 1.4) and half as wide again (0.4, 1.6); (0.3, 1.7), (-0.05, 2.05)."""
    evidence = on_record(recorded_plans(whole)[OVERVIEW])["animals10"]
    claim = next(c for c in CLAIMS if (c.family, c.better) == (PRIMARY, "GE-ResNet-50"))
    deviation = half / statistics.dunnett_critical(9, 32) / math.sqrt(2 / 5)
    found = judge_one_more(claim, evidence, statistics.Residual(deviation, 32), True)
    assert found.interval == pytest.approx((1 - half, 1 + half))
    assert found.corrected == pytest.approx((1 - 1.5 * half, 1 + 1.5 * half))
    assert found.outcome == outcome


def test_the_secondary_family_is_adjusted_by_holm_over_all_tasks(whole):
    found = judged(whole)
    family = [c for c in CLAIMS if c.family == SECONDARY and c.kind in (BETTER, SIZE)]
    assert len(family) == 15
    alone = []
    for claim in family:
        runs = 3 if claim.task == "cifar10" else 5
        titles = {t for c in CLAIMS if c.task == claim.task for t in (c.better, c.worse) if t}
        values = {
            t: {s: v for s, v in row.items() if s < runs}
            for t, row in table(claim.task, titles).items()
        }
        if "VGG-19" in values:
            values["VGG-19"] = {seed: values["VGG-19"][seed] for seed in range(3)}
        expected = 0.0
        if claim.kind == SIZE:
            values = {t: {s: log_odds(v) for s, v in row.items()} for t, row in values.items()}
            expected = log_odds(100 * claim.accuracies[0]) - log_odds(100 * claim.accuracies[1])
        one = statistics.difference(values, claim.better, claim.worse)
        freedom = {"animals10": 32, "caltech16": 12, "cifar10": 4}[claim.task]
        assert one.residual.freedom == freedom
        alone.append(statistics.student_p(one.t(expected), freedom))
        verdict = found[claim.text]
        critical = statistics.student_critical(freedom)
        assert verdict.interval == pytest.approx(one.interval(critical))
        if claim.task == "cifar10":
            assert verdict.corrected is None and verdict.folds == "3 of 3 seeds"
        else:
            assert verdict.corrected == pytest.approx(one.interval(critical, statistics.SHARED))
    adjusted = [found[claim.text].p_adjusted for claim in family]
    assert adjusted == pytest.approx(statistics.holm(alone))
    assert found["SRM-ResNet-50 > SE-ResNet-50 on Animals-10"].outcome == "worse"
    assert found["SE-ResNet-50 > GE-ResNet-50 on Animals-10"].outcome == "better"
    assert found["SA-Residual-Inception > VGG-19 on Caltech-16"].folds == "3 of 3 folds"


def log_odds(points):
    return math.log(points / (100 - points))


def test_a_size_is_judged_in_log_odds_and_cannot_occur_in_points(whole):
    verdict = judged(whole)["SE-ResNet-50 > ResNet-50 by 28.4 points on Animals-10"]
    assert verdict.unit == "log-odds" and verdict.outcome == "smaller than reported"
    assert verdict.reported == pytest.approx(log_odds(87.30) - log_odds(58.88))
    values = table("animals10", NINE)
    gains = [
        log_odds(values["SE-ResNet-50"][s]) - log_odds(values["ResNet-50"][s]) for s in range(5)
    ]
    assert verdict.value == pytest.approx(np.mean(gains))
    mean = np.mean(list(values["ResNet-50"].values()))
    assert verdict.left == pytest.approx(100 - mean) and verdict.left < 28.4
    assert verdict.in_points == "cannot occur here"
    se = np.mean(list(values["SE-ResNet-50"].values()))
    assert verdict.errors == pytest.approx(1 - (100 - se) / (100 - mean))


def test_an_accuracy_to_reach_is_not_tested_by_the_study(whole):
    verdict = judged(whole)["SENet as published reaches 87% on CIFAR-10"]
    assert (verdict.outcome, verdict.unit, verdict.is_decided) == ("not tested", "%", False)
    assert verdict.value == pytest.approx(
        100 * np.mean([accuracy("cifar10", "SENet as published", s) for s in range(3)])
    )


# While it is under way ---------------------------------------------------------------------------


def remove(folder, model, fold):
    [path] = (folder / "runs").glob(f"*-{model}-f{fold}-*")
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def test_there_is_no_outcome_until_a_family_is_complete(study):
    remove(study, "bat_resnet50", 4)
    found = judged(study)
    for claim in CLAIMS:
        verdict = found[claim.text]
        assert not verdict.is_decided and verdict.interval is verdict.p_adjusted is None
        assert verdict.value is not None
    assert found["BAT-ResNet-50 > ResNet-50 on Animals-10"].outcome == "4 of 5 folds"
    assert found["SE-ResNet-50 > ResNet-50 on Animals-10"].outcome == "5 of 5 folds"


def test_the_primary_family_does_not_wait_for_the_other_tasks(study):
    remove(study, "vgg19", 2)
    found = judged(study)
    decided = {text for text, verdict in found.items() if verdict.is_decided}
    assert decided == {c.text for c in CLAIMS if c.family == PRIMARY}
    assert found["SA-Residual-Inception > VGG-19 on Caltech-16"].outcome == "2 of 3 folds"


def test_a_diverged_run_has_ended_and_is_reported_but_one_without_memory_has_not(study):
    [path] = (study / "runs").glob("animals10-bat_resnet50-f4-*")
    failed = {"status": "failed", "reason": "the loss is not finite", "epoch": 3, "step": 7}
    write_json(path / "metrics.json", failed)
    verdict = judged(study)["BAT-ResNet-50 > ResNet-50 on Animals-10"]
    assert verdict.folds == "4 of 5 folds, 1 run diverged"
    values = table("animals10", NINE)
    del values["BAT-ResNet-50"][4]
    expected = statistics.difference(values, "BAT-ResNet-50", "ResNet-50")
    assert expected.residual.freedom == 28  # of the other eight
    critical = statistics.dunnett_critical(8, 28)
    assert verdict.interval == pytest.approx(expected.interval(critical))
    write_json(path / "metrics.json", {"status": "failed", "reason": "out of memory"})
    assert not judged(study)["BAT-ResNet-50 > ResNet-50 on Animals-10"].is_decided


def test_a_block_that_does_the_same_to_all_images_gets_no_verdict_on_attention(study):
    paths = sorted((study / "runs").glob("animals10-srm_resnet50-*/metrics.json"))
    for path, changed in zip(paths, (0.0, 0.004, 0.001, 0.002, 0.003), strict=True):
        frozen = {"accuracy": 0.8, "changed": changed}
        write_json(path, {**read_json(path), "frozen": frozen})
    found = judged(study)
    constant = "constant: no verdict on attention"
    assert (
        found["SRM-ResNet-50 > ResNet-50 on Animals-10"].in_full
        == f"within 1.5 points ({constant})"
    )
    assert found["SRM-ResNet-50 > SE-ResNet-50 on Animals-10"].in_full == f"worse ({constant})"
    assert found["SE-ResNet-50 > ResNet-50 on Animals-10"].in_full == "better"
    one = read_json(paths[0])
    for changed, is_constant in ((0.014, True), (0.016, False)):  # 0.0048 and 0.0052 on average
        write_json(paths[0], {**one, "frozen": {"accuracy": 0.8, "changed": changed}})
        found = judged(study)["SRM-ResNet-50 > ResNet-50 on Animals-10"]
        assert found.constant == is_constant


# Images ------------------------------------------------------------------------------------------


def test_image_noise_by_hand(whole):
    """The variance of a difference of shares, within fold and class."""
    plan = recorded_plans(whole)[OVERVIEW]
    evidence = on_record(plan)["animals10"]
    variance, counts = 0.0, np.zeros(2, int)
    for fold in range(5):
        right = {t: evidence.right(t, fold)[0] for t in (SE.title, RESNET.title)}
        labels = evidence.right(SE.title, fold)[1]
        gain = right[SE.title].astype(int) - right[RESNET.title]
        of_classes = [gain[labels == label].var() * (labels == label).sum() for label in (0, 1)]
        variance += sum(of_classes) / 200**2 / 25
        counts += (gain == 1).sum(), (gain == -1).sum()
    verdict = judged(whole)["SE-ResNet-50 > ResNet-50 on Animals-10"]
    low, high = verdict.noise
    assert high - low == pytest.approx(2 * 1.96 * 100 * math.sqrt(variance), rel=0.05)
    assert (low + high) / 2 == pytest.approx(verdict.value, abs=0.1)
    assert verdict.alone == tuple(counts)


def test_seeds_are_drawn_too_where_all_have_the_same_images(study):
    """SENet differs by seed here far more than by image."""
    for seed in range(3):
        [path] = (study / "runs").glob(f"cifar10-senet_cifar-squeeze_avg-f0-s{seed}-*")
        labels = read_logits(path / "logits.safetensors")[1]
        predicted = np.where(np.arange(200) % 10 < (2, 5, 8)[seed], labels, 1 - labels)
        save_logits(path / "logits.safetensors", np.eye(2)[predicted], labels)
    evidence = on_record(recorded_plans(study)[OVERVIEW])["cifar10"]
    drawn = evidence.drawn("SENet as intended", "SENet as published")[..., 0].mean(axis=1)
    by_seed = np.std([0.2, 0.5, 0.8]) / math.sqrt(3)
    by_image = math.sqrt(0.2 * 0.8 / 200 / 3)
    assert drawn.std() == pytest.approx(math.hypot(by_seed, by_image), rel=0.1)


def test_logits_of_other_images_are_refused(study):
    [path] = (study / "runs").glob("animals10-se_resnet50-f1-*")
    logits, labels = read_logits(path / "logits.safetensors")
    save_logits(path / "logits.safetensors", logits, labels[::-1])
    with pytest.raises(CheckpointError, match="f1-s1-.* is not about the images of the other runs"):
        judged(study)


# Which runs count --------------------------------------------------------------------------------


def test_runs_of_other_seeds_folds_recipes_or_images_do_not_count(
    study, study_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(evidence_module, "PUBLISHED", tmp_path / "nothing")
    before = judged(study)
    halved = replace(PROFILES["study"].recipes["animals10"], epochs=15)
    for seed, changes in (
        (5, {}),  # a seed that is not the study's
        (1, {"fold": 0}),  # its own seed on another fold
        (1, {"recipe": halved}),
    ):
        run = study_run(study, "animals10", RESNET, seed, 0.5, **changes)
        assert run.status == "finished"
    assert judged(study) == before
    study_run(study, "animals10", RESNET, 0, 0.5, fingerprint="e" * 64)
    page = SimpleNamespace(
        profile="study",
        results_dir=study,
        comparisons=[planned_on("animals10", "f" * 64), planned_on("cifar10", "f" * 64)],
    )
    assert {v.claim.text: v for v in judge(on_record(page), True)} == before


def planned_on(task, fingerprint):
    """As much of a planned comparison as tells which images are meant."""
    return SimpleNamespace(task=task, images=SimpleNamespace(fingerprint=fingerprint))


def test_a_page_judges_by_published_runs_too_but_not_by_outdated_ones(study, tmp_path, monkeypatch):
    expected = judged(study)
    monkeypatch.setattr(evidence_module, "PUBLISHED", tmp_path)
    here = tmp_path / "results" / "study"
    [own] = (study / "runs").glob("animals10-ge_resnet50-f2-*")
    shutil.copytree(own, here / "runs" / own.name)
    page = SimpleNamespace(
        profile="study", results_dir=here, comparisons=[planned_on("animals10", "f" * 64)]
    )
    assert {v.claim.text: v for v in judge(on_record(page), True)} == expected
    # What was trained here stands in place of what is published.
    record = on_record(page)["animals10"].runs["GE-ResNet-50"][2]
    assert record.folder.is_relative_to(here)
    [old] = (study / "runs").glob("animals10-bat_resnet50-f0-*/experiment.json")
    semantics = read_json(old)["semantics"]
    write_json(old, {**read_json(old), "semantics": {**semantics, "block/bat": 0}})
    found = {v.claim.text: v for v in judge(on_record(page), True)}
    assert found["BAT-ResNet-50 > ResNet-50 on Animals-10"].outcome == "4 of 5 folds"


def test_nothing_takes_the_place_of_a_published_run_that_diverged(study, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence_module, "PUBLISHED", tmp_path)
    here = tmp_path / "results" / "study"
    [own] = (study / "runs").glob("animals10-ge_resnet50-f2-*")
    shutil.copytree(own, here / "runs" / own.name)
    failed = {"status": "failed", "reason": "the loss is not finite", "epoch": 2, "step": 3}
    write_json(own / "metrics.json", failed)
    page = SimpleNamespace(
        profile="study", results_dir=here, comparisons=[planned_on("animals10", "f" * 64)]
    )
    found = on_record(page)["animals10"]
    assert 2 not in found.runs["GE-ResNet-50"]
    assert found.diverged["GE-ResNet-50"] == {2: "the loss is not finite"}


def test_a_plan_on_record_has_the_numbers_of_the_first_fold(study):
    """As one that is trained has: a page says of its images what the plan says."""
    for path in (study / "runs").glob("animals10-*/experiment.json"):
        record = read_json(path)
        data = record["data"] | {"label": f"fold {record['fold']}"}
        write_json(path, {**record, "data": data})
    assert recorded_plans(study)[OVERVIEW].comparison("animals10").images.label == "fold 0"


def test_a_page_stands_on_the_families_that_it_decides_and_on_no_others(study):
    plan = recorded_plans(study)[OVERVIEW]
    page = plan.alone("animals10")
    tasks = {run.experiment.dataset for run in verdicts.runs_behind(page)}
    assert tasks == {"animals10", "caltech16", "cifar10"}  # of the secondary family
    for path in (study / "runs").glob("cifar10-*"):
        shutil.rmtree(path)
    page = recorded_plans(study)[OVERVIEW].alone("animals10")
    assert {run.experiment.dataset for run in verdicts.runs_behind(page)} == {"animals10"}


def test_what_is_not_the_study_has_no_outcome(whole):
    plan = recorded_plans(whole)[OVERVIEW]
    for verdict in judge(on_record(plan), False):
        assert verdict.outcome == "not tested" and verdict.interval is None
