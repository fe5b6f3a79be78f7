"""Experiments, recipes, pages and plans."""

import json
import math
import os
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks import models
from attn_blocks.errors import DataError, SettingError
from attn_book.study import design, pages
from attn_book.study import plan as planning
from attn_book.study.claims import BETTER, CLAIMS, REPORTED, reported_history
from attn_book.study.experiment import Experiment, Recipe
from attn_book.study.pages import PAGES
from attn_book.study.plan import parse_seeds, plan
from attn_book.study.recipes import PROFILES

RECIPE = PROFILES["smoke"].recipes["animals10"]
WHAT = Experiment("shapes", "abc", "senet_cifar", RECIPE, 0, {"squeeze": "avg"})


def test_an_experiment_survives_json():
    again = Experiment.from_dict(json.loads(json.dumps(WHAT.to_dict())))
    assert again == WHAT
    assert again.hash == WHAT.hash


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar10"},
        {"fingerprint": "abd"},
        {"model": "resnet50"},
        {"seed": 1},
        {"options": {"squeeze": "none"}},
        {"recipe": replace(RECIPE, epochs=RECIPE.epochs + 1)},
        {"recipe": replace(RECIPE, weight_decay=1e-3)},
    ],
)
def test_whatever_changes_the_result_changes_the_identity(change):
    assert replace(WHAT, **change).hash != WHAT.hash


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists) | st.just(RECIPE.__dict__))
def test_foreign_settings_are_refused_with_a_message(value):
    for values in (value, {"recipe": value}, {**WHAT.to_dict(), "recipe": value}):
        if isinstance(value, dict) and values == {**WHAT.to_dict(), "recipe": value}:
            continue
        with pytest.raises(SettingError, match="experiment"):
            Experiment.from_dict(values)


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers() | st.floats() | st.text(max_size=3), max_size=2)
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([f.name for f in fields(Recipe)]), ANYTHING, min_size=1))
def test_any_recipe_is_refused_in_words_or_works(changes):
    try:
        recipe = Recipe(**{**asdict(RECIPE), **changes})
    except SettingError as error:
        assert any(name in str(error) for name in changes)
    else:
        assert recipe.rate(0, 0, 10) >= 0
        assert recipe.stored_side >= 1
        experiment = replace(WHAT, recipe=recipe)
        assert (
            Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))).name
            == experiment.name
        )


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["page", "profile", "seeds", "device", "epochs"]), ANYTHING))
def test_any_setting_is_refused_in_words_or_works(given_settings):
    images = type("Images", (), {"name": "shapes", "fingerprint": "f"})
    values = {"page": "04_sge", "profile": "smoke", "device": "cpu", **given_settings}
    try:
        page = plan(**values, load=lambda *_: images)
    except SettingError as error:
        assert str(error)
    else:
        assert all(experiment.name for experiment in page.experiments)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "linear"},
        {"epochs": 0},
        {"learning_rate": float("nan")},
        {"width": -1},
        {"batch_size": "32"},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change):
    name, value = next(iter(change.items()))
    with pytest.raises(SettingError, match=f"{name}.*{value}"):
        replace(RECIPE, **change)


@pytest.mark.parametrize("by_batch", [False, True])
def test_schedules_are_paddles_stepped_once_an_epoch_or_once_a_batch(by_batch):
    epochs, steps, suffix = 12, 5, "_by_batch" if by_batch else ""
    paddles = {
        "cosine": paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=epochs),
        "steps": paddle.optimizer.lr.StepDecay(0.1, step_size=epochs // 3, gamma=0.1),
    }
    for name, scheduler in paddles.items():
        recipe = replace(RECIPE, epochs=epochs, learning_rate=0.1, schedule=name + suffix)
        for epoch in range(epochs):
            for step in range(steps):
                assert recipe.rate(epoch, step, steps) == pytest.approx(scheduler(), abs=1e-9)
                if by_batch or step == steps - 1:
                    scheduler.step()


def test_the_paper_profile_follows_the_write_ups_code_on_caltech():
    recipe = PROFILES["paper"].recipes["caltech16"]
    rates = [recipe.rate(epoch, step, 45) for epoch in range(100) for step in range(45)]
    # Up and down about 22 times, 200 batches each.
    turns = sum(a < b > c for a, b, c in zip(rates, rates[1:], rates[2:], strict=False))
    assert turns == 22 and max(rates) == 0.01 and min(rates) < 1e-8
    assert not recipe.drop_last and recipe.reversed_statistics
    (annealed,) = design.EXTRA["annealed"]
    for entry in annealed.entries:
        variant = replace(recipe, **entry.changes["paper"])
        assert (variant.schedule, variant.augmentation) == ("cosine", "rotate")
        assert variant.weight_decay == (2e-4 if entry.model == "sa_inception" else 1e-4)


def test_the_paper_profile_keeps_the_last_batch_on_cifar_as_the_reported_accuracies_do():
    assert not PROFILES["paper"].recipes["cifar10"].drop_last
    printed = reported_history("senet_cifar10")["train_acc"]  # with five digits
    images, whole_batches = 50_000, 390 * 128
    could_be = [((printed * n).round() / n).round(5) == printed for n in (images, whole_batches)]
    assert could_be[0].all() and not could_be[1].all()


def test_schedules():
    recipe = replace(RECIPE, learning_rate=0.1, epochs=10)
    constant, cosine, one_cycle = (
        replace(recipe, schedule=name) for name in ("constant", "cosine", "one_cycle")
    )
    assert {constant.rate(epoch, 3, 7) for epoch in range(10)} == {0.1}
    # Annealed once an epoch, from the full rate: PyTorch's CosineAnnealingLR with T_max = epochs.
    assert cosine.rate(0, 0, 7) == cosine.rate(0, 6, 7) == 0.1
    assert cosine.rate(5, 0, 7) == pytest.approx(0.05)
    assert cosine.rate(9, 0, 7) == pytest.approx(0.05 * (1 + math.cos(0.9 * math.pi)))
    rates = [one_cycle.rate(epoch, step, 7) for epoch in range(10) for step in range(7)]
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 13  # a fifth of 70 steps
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert min(rates) >= 0


def test_every_page_names_models_and_claims_that_exist():
    entries = {
        (c.task, entry.title): entry for page in PAGES.values() for c in page for entry in c.entries
    }
    for entry in entries.values():
        assert entry.model in models.list_models()
    assert REPORTED.keys() <= entries.keys()
    for claim in CLAIMS:
        assert claim.page in PAGES
        assert (claim.task, claim.better) in entries
        titles = [entry.title for c in PAGES[claim.page] for entry in c.entries]
        assert {claim.better, claim.worse} - {None} <= set(titles), claim.text
    for profile in PROFILES.values():
        assert profile.recipes.keys() == {"animals10", "caltech16", "cifar10"}


def test_reported_gains_are_those_of_the_write_ups():
    gains = {(c.better, c.worse): c.reported for c in CLAIMS if c.kind == BETTER}
    assert gains["SGE-ResNet-50", "ResNet-50"] == pytest.approx(21.68)
    assert gains["SRM-ResNet-50", "ResNet-50"] == pytest.approx(28.48)
    assert gains["BAT-ResNet-50", "GC-ResNet-50"] == pytest.approx(1.19)
    assert gains["SA-Residual-Inception", "VGG-19"] is None
    assert len({c.text for c in CLAIMS}) == len(CLAIMS)


def test_all_models_of_a_comparison_train_alike():
    for page in PAGES.values():
        for comparison in page:
            for entry in comparison.entries:
                # The one exception is the write-up's own, and only the paper profile has it.
                own = {"paper": {"weight_decay": 2e-4}} if entry.model == "sa_inception" else {}
                assert entry.changes == own, entry.title


@pytest.mark.parametrize(
    ("given_seeds", "parsed"),
    [("0 1 2", (0, 1, 2)), ("0,1", (0, 1)), (3, (3,)), ([2, 2, 1], (2, 1)), ("7", (7,))],
)
def test_seeds(given_seeds, parsed):
    assert parse_seeds(given_seeds) == parsed


@pytest.mark.parametrize("bad", ["", "a", "-1", [None], [], 1.5])
def test_seeds_that_are_none(bad):
    with pytest.raises(SettingError, match="seeds must be"):
        parse_seeds(bad)


def test_wrong_names_list_the_right_ones(data_dir):
    with pytest.raises(SettingError, match="smoke, quick, study, paper"):
        plan("04_sge", "fast", data_dir=data_dir)
    with pytest.raises(SettingError, match="01_se, 02_ge"):
        plan("04", "smoke", data_dir=data_dir)
    with pytest.raises(SettingError, match="device"):
        plan("04_sge", "smoke", data_dir=data_dir, device="tpu")


@pytest.mark.parametrize("argument", ["data_dir", "results_dir"])
def test_wrong_folders(data_dir, tmp_path, argument):
    folders = {"data_dir": data_dir, "results_dir": tmp_path}
    with pytest.raises(SettingError, match="the path of the folder .* cannot be 5"):
        plan("04_sge", "smoke", **folders | {argument: 5})
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    with pytest.raises(SettingError, match=r"notebooks cannot be told of .*caf\\udce9.*rename it"):
        plan("04_sge", "smoke", **folders | {argument: odd})


def test_a_missing_data_folder_is_no_reason_to_take_drawings(tmp_path):
    with pytest.raises(DataError, match="nowhere is no folder"):
        plan("04_sge", "smoke", data_dir=tmp_path / "nowhere")


def test_a_profile_on_real_data_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="data prepare animals10"):
        plan("04_sge", "study", data_dir=tmp_path)


def test_the_embedded_images_stand_in_for_missing_ones(data_dir, tmp_path):
    page = plan("04_sge", "smoke", seeds="0 1", data_dir=data_dir, results_dir=tmp_path, epochs=3)
    assert [e.dataset for e in page.experiments] == ["shapes"] * 4
    assert {e.recipe.epochs for e in page.experiments} == {3}
    assert {e.seed for e in page.experiments} == {0, 1}
    assert page.results_dir == tmp_path / "smoke"
    images = "Shapes (10 classes; 40 / 20 images), 56 px, width 0.0625"
    assert page.provenance == f"profile smoke · {images} · seeds 0, 1 · cpu"
    assert "not** a reproduction" in page._repr_markdown_()


def test_only_the_paper_profile_follows_a_write_ups_own_settings():
    images = type("Images", (), {"name": "caltech16", "fingerprint": "f"})
    recipe = PROFILES["paper"].recipes["caltech16"]
    entry = pages.SA_INCEPTION
    decays = [
        planning._experiment(entry, images, recipe, 0, profile).recipe.weight_decay
        for profile in ("paper", "study")
    ]
    assert decays == [2e-4, 1e-4]


def test_each_seed_of_the_study_has_a_fold_of_its_own(data_dir, tmp_path):
    sizes = {"train": range(9), "val": range(2), "label": "x", "fingerprint": "f"}

    def recorded(task, data, recipe, folder):
        return SimpleNamespace(name=task, title=task, classes=("a", "b"), class_total=2, **sizes)

    page = plan("05_sa", "study", data_dir=data_dir, results_dir=tmp_path, load=recorded)
    classics, animals = page.comparisons
    for title, seeds in {"SA-Residual-Inception": range(5), "VGG-19": range(3)}.items():
        mine = [e for entry, e in classics.experiments if entry.title == title]
        assert [(e.seed, e.fold) for e in mine] == [(k, k) for k in seeds]
    assert len(animals.experiments) == 10
    assert "folds and seeds 0, 1, 2, 3, 4" in page.provenance
    # CIFAR-10 has a test set of its own.
    senets = plan("01_se", "study", data_dir=data_dir, load=recorded).comparison("cifar10")
    assert {(e.seed, e.fold) for _, e in senets.experiments} == {(0, 0), (1, 0), (2, 0)}
    # Whoever asks for seeds gets them all.
    asked = plan("01_se", "study", "0 1 2 3 7", data_dir, load=recorded)
    assert {e.seed for _, e in asked.comparison("cifar10").experiments} == {0, 1, 2, 3, 7}
    assert {(e.seed, e.fold) for _, e in asked.comparison("animals10").experiments} == {
        *((k, k) for k in range(4)),
        (7, 2),
    }


def test_the_pilot_has_seeds_that_nothing_else_has(data_dir):
    experiments = [
        Experiment("animals10", "f", entry.model, recipe, seed)
        for comparison in design.PILOT
        for entry in comparison.entries
        for seed in pages.seeds_of(comparison, entry, PROFILES["study"].seeds)
        for recipe in [replace(RECIPE, **entry.changes["study"])]
    ]
    assert {e.seed for e in experiments}.isdisjoint(PROFILES["study"].seeds)
    assert len({e.name for e in experiments}) == len(experiments) >= 6


def test_the_study_is_trained_in_the_protocols_order(data_dir):
    def recorded(task, data, recipe, folder):
        sizes = {"train": range(9), "val": range(2), "label": "x", "fingerprint": "f"}
        return SimpleNamespace(name=task, title=task, classes=("a", "b"), class_total=2, **sizes)

    parts = [(name, plan(name, "study", s, data_dir, load=recorded)) for name, s in design.ORDER]
    counts = [(name, len(part.experiments)) for name, part in parts if name != "pilot"]
    assert counts == [
        *[("nine", 9)] * 3,  # fold by fold
        ("unequal", 7),
        *[("rescued", 1)] * bool(design.RESCUED),
        ("caltech16", 23),
        ("controls", 6),
        *[("nine", 9)] * 2,
        ("cifar10", 9),
        ("half_the_epochs", 9),
        ("wider", 3),
        ("twice_the_epochs", 9),
    ]
    assert parts[0][0] == "pilot"
    names = [experiment.name for _, part in parts for experiment in part.experiments]
    assert len(names) == len(set(names))
    # The pages' comparisons are all among them.
    shown = [plan(page, "study", data_dir=data_dir, load=recorded) for page in PAGES]
    assert {e.name for page in shown for e in page.experiments} <= set(names)
    wider = dict(parts)["wider"].experiments
    assert {(e.recipe.width, e.fold) for e in wider} == {(0.5, 0)}


def test_a_run_is_named_by_its_fold_and_seed():
    experiment = Experiment("animals10", "f", "resnet50", RECIPE, 3, fold=2)
    assert experiment.name == f"animals10-resnet50-f2-s3-{experiment.hash}"
    assert Experiment.from_dict(experiment.to_dict()) == experiment
    assert replace(experiment, fold=1).hash != experiment.hash
    for fold in (-1, 5, 1.0, None):
        with pytest.raises(SettingError, match="fold is"):
            replace(experiment, fold=fold)


def test_a_setting_that_did_not_exist_renames_no_run():
    """What has its default is left out of the hash."""
    experiment = Experiment("animals10", "f", "resnet50", RECIPE, 0)
    values = experiment.to_dict()
    assert replace(experiment, recipe=replace(RECIPE, nesterov=True)).hash != experiment.hash
    for name in ("nesterov", "decay"):
        del values["recipe"][name]
    assert Experiment.from_dict(values).hash == experiment.hash


def test_stored_images_leave_room_for_the_crop():
    assert replace(RECIPE, augmentation="resized_crop", image_size=56).stored_side == 64
    assert replace(RECIPE, augmentation="resized_crop", image_size=224).stored_side == 256
    assert replace(RECIPE, augmentation="pad_crop", image_size=32).stored_side == 32
    assert replace(RECIPE, augmentation="rotate", image_size=64).stored_side == 64
