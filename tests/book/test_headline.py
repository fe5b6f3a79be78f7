"""The table of front page and READMEs, its columns in words, and what is said of other records."""

import re

import numpy as np
import pytest

from attn_blocks.files import write_json
from attn_book.analysis.pilot import Trial
from attn_book.records import near_copies
from attn_book.records.recorded import recorded_plans
from attn_book.study.design import PILOT_SEEDS


@pytest.fixture
def headline(book):
    return book("headline")


@pytest.fixture
def subject(book, tmp_path, study_of):
    """The front page's comparison in a made-up study where ResNet-50 is right on 80%."""

    def accuracy(task, title, seed):
        return 0.8 + 0.02 * (title == "SE-ResNet-50")

    study_of(tmp_path / "study", accuracy, tasks=["animals10"])
    return book("front").subject(recorded_plans(tmp_path / "study"))


def test_a_block_stands_beside_what_it_costs(headline, subject):
    rows = headline.headline(subject, {})
    measured = {
        line.split(",")[0]: float(line.split(",")[7])
        for line in headline.STEPS.read_text(encoding="utf-8").splitlines()
        if ",0.25,56,64," in line
    }
    assert len(measured) == 8
    for block, step in measured.items():
        assert rows.loc[block.upper(), "Training step"] == f"{step:+.0f}%"
    assert set(rows["Parameters"]) == {"+0.00%"}  # as the made-up records have it
    (origin,) = headline.steps_origin(rows)
    assert origin.startswith("training step: ") and "thread" in origin


def test_a_verdict_has_its_interval_in_the_cell_of_its_gain(headline, subject):
    rows = headline.headline(subject, {"SE-ResNet-50": 3.0})
    assert list(rows) == [
        "Points above ResNet-50 [simultaneous 95%]",
        "Outcome",
        "At full width",
        "Reported",
        "Parameters",
        "Training step",
    ]
    low, high = re.fullmatch(r"\+2\.00 \[(.+),\xa0(.+)\]", rows.iloc[0, 0]).groups()
    assert float(low) <= 2 <= float(high)


def test_reported_is_said_to_be_the_write_ups_and_what_cannot_occur_why(headline, subject):
    rows = headline.headline(subject, {})
    text = headline.columns_in_words(subject, rows, "[sources](here)")
    assert "write-ups on the web" in text and "([sources](here))" in text
    assert rows.loc["SE", "Reported"] == "+28.4 †"
    assert (
        "† cannot occur here: ResNet-50 is right on 80.0% of the images on average (5 runs)" in text
    )
    assert "no block can add more than 20.0 points to it" in text
    assert headline.columns_in_words(subject, rows.drop(columns="Reported"), "") == ""


def test_longer_trials_of_the_pilot_say_what_longer_training_brings(book):
    included = book("included")

    def trial(epochs, share):
        return Trial(0.1, 0.25, epochs, dict.fromkeys(PILOT_SEEDS, share), {})

    found = [trial(30, 0.84), trial(45, 0.865)]
    text = included.longer_trials(found, found[0])
    assert "with 15 more epochs the plain network ends +2.5 points higher" in text
    assert included.longer_trials(found[:1], found[0]) == ""


def test_near_copies_stand_with_where_they_are_from(book, tmp_path, study_of):
    included, folder = book("included"), tmp_path / "study"
    assert included.near_copies(folder) == "No near-copies were looked for here."
    study_of(folder, lambda task, title, seed: 0.8, tasks=["animals10"])
    found = {"animals10": ("f" * 64, [200] * 5, [np.array([1, 2])] * 5)}
    write_json(folder / near_copies.FILE, near_copies.record_of(found))
    text = included.near_copies(folder)
    assert "2, 2, 2, 2 and 2 have a near-copy" in text and "profile study · " in text
    assert "| SE-ResNet-50 |" in text
