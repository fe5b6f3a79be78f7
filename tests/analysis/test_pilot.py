"""The pilot's rule on made-up trials, and on the published ones."""

import pytest

from attn_book.analysis import pilot
from attn_book.analysis.pilot import Trial
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import finished_runs
from attn_book.study.design import PILOT
from attn_book.study.recipes import PROFILES

FIRST, SECOND = pilot.PILOT_SEEDS


def trial(epochs, first, second=None, rate=0.1, crop=0.35):
    validation = {FIRST: first} if second is None else {FIRST: first, SECOND: second}
    return Trial(rate, crop, epochs, validation, dict.fromkeys(validation, 0.9))


def test_the_best_of_equally_long_ones():
    found = [trial(20, 0.80, 0.82, rate=0.05), trial(20, 0.83, 0.83), trial(20, 0.82, 0.82)]
    assert pilot.chosen(found) is found[1]


@pytest.mark.parametrize(("longer", "taken"), [(0.8369, 20), (0.8371, 30)])
def test_a_shorter_one_within_the_tolerance(longer, taken):
    """0.69 points more do not pay for ten epochs, 0.71 do."""
    found = [trial(20, 0.82, 0.84), trial(30, longer, longer)]
    assert pilot.chosen(found).epochs == taken


def test_one_seed_chooses_nothing():
    found = [trial(20, 0.80, 0.80), trial(20, 0.99, rate=0.2)]
    assert pilot.chosen(found) is found[0]
    assert pilot.table(found).loc["0.2", f"Seed {SECOND}"] == "–"


def test_without_a_whole_trial_none_is_chosen():
    assert pilot.chosen([trial(20, 0.80), trial(45, 0.90, 0.90)]) is None


def test_a_longer_trial_decides_nothing():
    found = [trial(30, 0.84, 0.84), trial(45, 0.90, 0.90)]
    assert pilot.chosen(found) is found[0]


def test_the_study_trains_what_its_pilot_chose():
    found = pilot.trials(finished_runs(PUBLISHED / "study").values())
    complete = {(t.learning_rate, t.smallest_crop, t.epochs) for t in found if t.complete}
    recipes = [entry.changes["study"] for entry in PILOT[0].entries]
    assert {tuple(r.values()) for r in recipes if r["epochs"] <= pilot.MOST_EPOCHS} <= complete
    best, recipe = pilot.chosen(found), PROFILES["study"].recipes["animals10"]
    decided = recipe.learning_rate, recipe.smallest_crop, recipe.epochs
    assert decided == (best.learning_rate, best.smallest_crop, best.epochs)
    assert list(pilot.table(found)["Mean"])[found.index(best)] == f"{100 * best.mean:.1f}%"
