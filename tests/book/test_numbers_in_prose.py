"""Numbers that are written by hand: each with its file, its sentence, and where it comes from.

What the built pages say of records is tested beside the code that makes it; here is the prose.
"""

import ast
import csv
import json
from functools import partial
from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

import attn_blocks as ab
from attn_blocks.files import PROJECT
from attn_book.analysis import pilot, statistics
from attn_book.analysis.first_study import decay_limit
from attn_book.analysis.words import block_of
from attn_book.driver import predict
from attn_book.records import first_study, full_size, near_copies, reproduction
from attn_book.records.published import PUBLISHED
from attn_book.records.recorded import finished_runs, runs_by_title
from attn_book.study.claims import REPORTED, reported_history
from attn_book.study.experiment import Recipe
from attn_book.study.pages import NINE, OVERVIEW, PAGES, RESNET, SENET_PUBLISHED
from attn_book.study.write_ups import WRITE_UPS


def turned_on_caltech():
    """Final accuracies of the trials that turn images: the best at rates to 0.02, and at 0.05."""
    trials = first_study.runs(PUBLISHED / first_study.FOLDER, first_study.TRIALS)
    kind = {"dataset": "caltech16", "model": "resnet50"}
    found = [run for run in trials if all(getattr(run, key) == kind[key] for key in kind)]
    turned = [run for run in found if run.recipe["augmentation"] == "rotate"]
    low = [run.accuracy for run in turned if run.recipe["learning_rate"] <= 0.02]
    (high,) = (run.accuracy for run in turned if run.recipe["learning_rate"] == 0.05)
    return max(low), high


def allowed_on_caltech():
    run = SimpleNamespace(metrics={"final_val_acc": 0.8}, confusion=np.array([359]))
    return (reproduction.tolerance(run),)


def critical():
    return statistics.dunnett_critical(8, 32), statistics.student_critical(32)


def half_widths():
    """Of simultaneous intervals of five folds at a residual of 0.65 points, and of the wider."""
    parts = 1 / 5, 1 / 5 + 1 / 4
    return [0.65 * critical()[0] * sqrt(2 * part) for part in parts]


def found(gain):
    """The share of such studies whose interval leaves zero out."""
    return scipy.stats.nct.sf(critical()[0], 32, gain / (0.65 * sqrt(2 / 5)))


def by_holm():
    """What the first of 15 claims takes, by Student's t."""
    return (scipy.stats.t.ppf(1 - 0.05 / 2 / 15, 32),)


def gains():
    points = [
        100 * (REPORTED[one.task, title] - REPORTED[one.task, RESNET.title])
        for one in WRITE_UPS
        if RESNET.title in one.prints
        for title in one.prints
        if title != RESNET.title
    ]
    return min(points), max(points)


def measured(table, column, name):
    """The row of a benchmark's table."""
    with (PROJECT / "benchmarks" / "results" / table).open(encoding="utf-8") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        (row,) = (row for row in rows if row[column] == name)
    return row


def minutes():
    return (float(measured("reproduce.csv", "what", "whole command")["value"]) / 60,)


def rounds():
    row = measured("models.csv", "model", "sa_resnet101")
    return float(row["train"]) / float(row["torch_train"]), float(row["train_ratio"])


def added(block):
    names = f"{block}_resnet50", "resnet50"
    ours, plain = (ab.count_params(ab.create_model(name, num_classes=1000)) for name in names)
    return ((ours - plain) / 1e6,)


def runs():
    """Of a profile with one seed."""
    return (sum(len(comparison.entries) for comparison in PAGES[OVERVIEW]),)


def first_epochs():
    """SENet's training accuracy in its first epoch: the write-up's and that of our record."""
    (ours,) = (
        record
        for record in full_size.records(PUBLISHED / full_size.FOLDER)
        if (record.model, record.options) == ("senet_cifar", dict(SENET_PUBLISHED.options))
    )
    return reported_history("senet_cifar10")["train_acc"][0], ours.history[0]["train_acc"]


def seconds():
    return (np.median(reported_history("senet_cifar10")["seconds"]).round(-1),)


def left_by_decay():
    """Of a factor without gradient, at the end of the runs at full width on Animals-10."""
    one = next(r for r in full_size.records(PUBLISHED / full_size.FOLDER) if r.task == "animals10")
    recipe = Recipe(**{"stem": "imagenet", **one.recipe})
    return (decay_limit(recipe, one.data["train"] // recipe.batch_size),)


def dogs():
    """The share of dogs among the validation images of fold 0, Animals-10."""
    run = predict.published_run("resnet50")
    assert run.classes[0] == "dog" and run.experiment.fold == 0
    return (run.confusion[0].sum() / run.confusion.sum(),)


def copied():
    """The share of Animals-10's validation images that were seen in training as near-copies."""
    found = near_copies.read(PUBLISHED / "study", "animals10")
    return (sum(map(len, found.places)) / sum(found.images),)


def longer():
    """More epochs of the pilot's longest trial, and what they bring the plain network in points."""
    trials = pilot.trials(finished_runs(PUBLISHED / "study").values())
    best, longest = pilot.chosen(trials), max(trials, key=lambda trial: trial.epochs)
    return longest.epochs - best.epochs, 100 * (longest.mean - best.mean)


def hidden_units():
    """Of SE in the study: the first stage of ResNet-50, the SENet; and the SENet as published."""
    built = (
        ab.create_model("se_resnet50", 4, 0.25, "small", 56).layer1[0],
        ab.create_model("senet_cifar", 10, 0.25, "small", 32).blocks[0],
        ab.create_model("senet_cifar", 10).blocks[0],
    )
    return [block.attn.fc1.weight.shape[0] for block in built]


def best_and_last():
    accuracies = reported_history("senet_cifar10")["test_acc"]
    return accuracies.max(), accuracies[-1]


NUMBERS = {
    "book/index.md": [
        ("report gains of {:.0f} to {:.0f} points on Animals-10", gains),
    ],
    "book/method.md": [
        ("rates up to 0.02 ended at {:.2f} at most (at 0.05 it reached {:.2f}", turned_on_caltech),
        ("(its accuracy falls from {:.4f} to {:.4f} within", best_and_last),
        ("and {:.1%} of the validation images have such a near-copy", copied),
        ("After {} more epochs the plain network itself is {:.1f} points better", longer),
        (
            "{} units in the first stage of ResNet-50, and {} in the SENet for CIFAR-10, of {} as",
            hidden_units,
        ),
        ("{:.0%} of the Animals-10 images at hand are dogs", dogs),
        ("is right on {:.2f} of them, and not on the 0.25", dogs),
        ("(about {:.2f} on the 359 of Caltech-101)", allowed_on_caltech),
        ("$c$ is {:.2f}, where a single comparison would take {:.2f}", critical),
        ("reaches {:.2f} points to each side, and the wider one {:.2f};", half_widths),
    ],
    "book/deviations.md": [
        ("That {:.1%} of the validation images of Animals-10 have a near-copy", copied),
    ],
    "book/full_size.md": [
        ("would end these runs at {:.3f} of where it began", left_by_decay),
    ],
    "book/performance.md": [
        ("in training give {:.2f}, its rounds {:.2f}.", rounds),
        ("All {} runs come to", runs),
    ],
    "book/why_05888.md": [
        ("gains of {:.0f} to {:.0f} points", gains),
        ("right on {:.1%} of the training images in its first epoch; the same", first_epochs),
        ("trained by the same recipe, is on {1:.1%}", first_epochs),
        ("printed as 'cpu', with about {:.0f} seconds an epoch", seconds),
    ],
    "README.md": [
        ("{} runs of small networks", runs),
        ("({:.0f} in [the record](benchmarks/results/reproduce.csv))", minutes),
        ("a first look, {:.0f} minutes on 2 recent cores", minutes),
    ],
    "README.zh.md": [
        ("小网络的 {} 次运行", runs),
        ("（[记录](benchmarks/results/reproduce.csv)中为 {:.0f} 分钟）", minutes),
        ("较新处理器的两个核心上 {:.0f} 分钟", minutes),
    ],
    "notebooks/01_se.ipynb": [
        ("In a ResNet-50 that adds {:.2f} million parameters", partial(added, "se")),
    ],
    "notebooks/02_ge.ipynb": [
        ("these kernels and norms are {:.2f} million parameters", partial(added, "ge")),
    ],
    "notebooks/08_bat.ipynb": [
        ("$28 \\times 28$ pixels {:,}", lambda: (28**4,)),
        ("on five folds leave: {1:.2f};", critical),
        ("have it, takes up to {:.1f}.", by_holm),
    ],
}


def prose(name):
    text = (PROJECT / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return text


@pytest.mark.parametrize(
    ("name", "sentence", "values"), [(name, *one) for name, of in NUMBERS.items() for one in of]
)
def test_a_number_in_prose_is_what_it_is_said_to_be(name, sentence, values):
    assert sentence.format(*values()) in prose(name)


def test_which_runs_are_from_processors_with_avx2_alone():
    """By what the maths library was told: 5 is AVX2; else it is 7, or nothing on Intel's own."""
    every = runs_by_title(PUBLISHED / "study", NINE)
    found = {
        (block_of(title), run.experiment.fold)
        for title, runs in every.items()
        for run in runs
        if run.record["compute"]["mkl_debug_cpu_type"] == "5"
    }
    assert found == {("NL", 0), ("GC", 0), ("BAT", 0), ("SE", 1), ("GE", 1)}


def test_how_often_such_a_study_finds_a_gain():
    text = prose("book/method.md")
    assert "A true gain of 1.15 points is found in about half of such studies" in text
    assert "one of 1.5 in about four of five" in text
    assert (found(1.15), found(1.5)) == pytest.approx((0.5, 0.8), abs=0.02)


def test_the_page_of_use_shows_what_is_printed_and_a_block_that_is_tried():
    page = prose("book/use.md")
    run = predict.published_run("srm_resnet50")
    assert f"Published weights: {predict.provenance(run)} · {', '.join(run.classes)}" in page
    shown = ast.parse(page.partition("```python\n")[2].partition("```")[0])
    tried = ast.parse((PROJECT / "tests/blocks/eca.py").read_text(encoding="utf-8"))
    del tried.body[0], tried.body[-1].body[0]  # docstrings
    assert ast.dump(shown) == ast.dump(tried)
