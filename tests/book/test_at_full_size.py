"""The page on the networks at full width: every sentence with a number, and every figure."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from attn_blocks.files import PROJECT
from attn_book.records import full_size
from attn_book.records.published import PUBLISHED
from attn_book.study.pages import BAT, NINE, RESNET

PAGE = PROJECT / "book" / "full_size.md"
RECORDS = PUBLISHED / full_size.FOLDER
NOTHING = PUBLISHED / "study-that-is-not-there" / "study"
FINDINGS = {
    "animals": "Each network was trained twice, from other initial values and with other images "
    "held out. After 32 epochs ResNet-50 is right on 85.2% and 85.9% of its validation images. "
    "Points above it on average, and in each training: SRM +3.3 (+4.0, +2.6); SE +3.0 (+3.4, "
    "+2.6); SA +1.6 (+2.5, +0.8); NL +1.4 (+1.4, +1.4); SGE +1.2 (+2.2, +0.3); GC +0.3 (+0.4, "
    "+0.2); GE +0.2 (+1.2, -0.7); BAT -2.7 (-5.5, +0.1). By the images alone two standard errors "
    "of such a mean are 0.9 to 1.0 points; beyond that lie SRM, SE, SA, NL, SGE and BAT, not "
    "adjusted for their number. But images are not all that moves a difference: GE and BAT are "
    "above ResNet-50 in one training and below it in another, and BAT is at -5.5 and at +0.1. So "
    "few trainings do not say how far the next one would go.",
    "course": "On average 5 of 8 blocks are further ahead after a quarter of the epochs than at "
    "the end (SRM, SE, SA, SGE and GC): SE by 11.5 points after epoch 8 and by 3.0 after epoch 32. "
    "What a block adds is here in part that it learns faster, and ResNet-50 itself gains 1.5 "
    "points in the last quarter: where longer training would take the difference is open.",
    "small": "The study's runs of SRM, SE, SA, NL, SGE, GC, GE and BAT are not all published "
    "yet: what they change is open.",
    "others": "Caltech-16: SA-Residual-Inception 89.1%, ResNet-50 83.0%, MobileNet-V2 88.3%, and "
    "each is right on 100.0% of the training images by then. CIFAR-10: SENet as published 82.0%, "
    "SENet as intended 84.4%, SENet without SE 82.0%; at a constant rate an accuracy moves by 4.0 "
    "to 6.7 points within the last five epochs, and SENet as intended and SENet without SE were "
    "stopped early: these are not told apart.",
    "cost": "The GPU's step times are in the records and left out here, because the networks were "
    "timed in groups, and what else the card did then is not on record: NL, GC, GE and BAT do all "
    "that ResNet-50 does and more, and show a shorter step.",
    "recipe": "settings differ from the study's: width, stem, image size, ",
}


@pytest.fixture
def made(book):
    """The page's parts while nothing of the study is published."""
    module = book("lessons.full_size")
    return module.lessons(module.Found(RECORDS, NOTHING))


def test_what_was_found(made):
    assert list(made) == list(FINDINGS)
    for name, lesson in made.items():
        assert FINDINGS[name] in lesson.finding, lesson.finding
        if name not in ("cost", "recipe"):  # what benchmarks or the study's recipe decide too
            assert lesson.finding == FINDINGS[name]
        assert lesson.table.notna().all(axis=None)
        if lesson.figure is not None:
            assert re.search(r"\d\.\d", lesson.alt) and lesson.alt.endswith(".")
    assert [name for name in made if made[name].figure is None] == ["small", "cost", "recipe"]


def test_figures_show_the_numbers_that_their_words_say(made):
    shown = {
        name: [text.get_text() for text in lesson.figure.findobj(plt.Text)]
        for name, lesson in made.items()
        if lesson.figure is not None
    }
    assert {"SRM", "+3.3", "BAT", "-2.7"} <= {*shown["animals"]}
    assert {"SRM +3.3", "NL +1.4", "BAT -2.7"} <= {*shown["course"]}
    assert {"SENet as intended 84.4", "MobileNet-V2 88.3"} <= {*shown["others"]}
    lines = {line.get_label(): line for line in made["course"].figure.axes[0].lines}
    assert [*lines["SE +3.0"].get_xdata()] == [8, 16, 24, 32]
    animals = [r for r in full_size.records(RECORDS) if r.task == "animals10"]
    ours, plain = (
        np.mean([r.accuracies for r in animals if r.model == model], axis=0)
        for model in ("se_resnet50", "resnet50")
    )
    np.testing.assert_allclose(
        lines["SE +3.0"].get_ydata(), 100 * (ours - plain)[[7, 15, 23, 31]], atol=1e-9
    )


def test_images_won_and_lost_are_those_of_the_confusion_matrices(made):
    for record in full_size.records(RECORDS):
        off = abs(record.right.sum() - np.trace(record.confusion))
        assert off <= full_size.TIES and abs(record.right.mean() - record.accuracy) < 2e-3
    images = {"Animals-10": 2256 + 2255, "Caltech-16": 359, "CIFAR-10": 10000}
    rows = [("Animals-10", row) for _, row in made["animals"].table.iterrows()]
    rows += made["others"].table.iterrows()
    compared = [(images[task], row) for task, row in rows if row["Gain"] != "–"]
    assert len(compared) == len(rows) - len(images)
    for number, row in compared:
        won, lost = map(int, row["Images won, lost"].split(", "))
        ties = 200 * full_size.TIES / number + 0.01
        assert 100 * (won - lost) / number == pytest.approx(float(row["Gain"]), abs=ties)


def test_the_study_stands_beside_them_once_it_is_published(book, tmp_path, study_of, study_run):
    module, small = book("lessons.full_size"), tmp_path / "study"
    gain = {entry.title: 0.01 * place for place, entry in enumerate(NINE.entries)}
    gain["GC-ResNet-50"] = -0.02

    def accuracy(task, title, seed):
        if title == "BAT-ResNet-50" and seed > 2:
            return None
        return 0.7 + 0.01 * seed + (gain[title] if task == "animals10" else 0)

    study_of(small, accuracy, images=1000)
    made = module.lessons(module.Found(RECORDS, small))
    column = made["animals"].table["Gain in the small networks"]
    assert column["SE-ResNet-50"] == "+1.00 (5 of 5 folds)"
    assert column["BAT-ResNet-50"] == "+8.00 (3 of 5 folds)"
    assert column[RESNET.title] == "–"
    others = made["others"].table.set_index("Network")["In the small networks"]
    assert others["SENet as published"] == "+0.00 (3 of 3 seeds)"
    assert others["SA-Residual-Inception"] == "+0.00 (5 of 5 folds)"
    assert made["small"].finding == (
        "The study's runs of BAT are not all published yet: what they change is open."
    )
    for seed in (3, 4):
        study_run(small, "animals10", BAT, seed, 0.78 + 0.01 * seed, images=1000)
    made = module.lessons(module.Found(RECORDS, small))
    assert made["small"].finding == (
        "6 of 8 blocks lie on the same side of ResNet-50 in both sizes; GC and BAT on different "
        "ones. For 2 of the 8 the difference, whatever its sign, is smaller in the "
        "small network."
    )
    shown = {text.get_text() for text in made["small"].figure.findobj(plt.Text)}
    assert {"+1.0 and +3.0", "+8.0 and -2.7"} <= shown


def test_the_page_shows_every_part_and_its_own_numbers_are_right(book, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    texts = book("lessons.full_size").texts(tmp_path)
    assert sorted(re.findall(r"\{include\} records/(\w+)\.md", text)) == sorted(texts)
    pictures = re.findall(r"\{image\} records/(\S+)\n:alt: \"", "\n".join(texts.values()))
    assert sorted(pictures) == sorted(path.name for path in tmp_path.iterdir())
    records = full_size.records(RECORDS)
    animals = [record for record in records if record.task == "animals10"]
    assert {record.recipe["width"] for record in records} == {1.0}
    assert {record.recipe["image_size"] for record in animals} == {112} and "112 pixels" in text
    assert {record.recipe["batch_size"] for record in animals} == {32} and "32 images" in text
    assert {len(record.data["classes"]) for record in animals} == {
        4
    } and "**Four of the ten" in text
    assert {(record.seed, record.fold) for record in animals} == {(0, 0), (1, 1)}
    assert "seed 0 on fold 0, seed 1 on fold 1" in text and "**Two trainings.**" in text
    assert {record.seed for record in records if record not in animals} == {0}
    for record in animals:  # "better on its validation images", "their curves still rise"
        assert record.accuracy > record.history[-1]["train_acc"]
        assert record.accuracy > record.accuracies[23]
    readme = (RECORDS / "README.md").read_text(encoding="utf-8")
    for words in ("logits agree to 3e-8 and gradients to 5e-8", "bfloat16", "stored at 128 pixels"):
        assert words in readme
    assert "3e-8 in the logits and 5e-8 in the gradients" in text
    assert "everything but SRM's block" in readme and "**SRM alone is spared the decay**" in text
    check = PROJECT / "benchmarks" / "full_size" / "check.py"
    assert "benchmarks/full_size/check.py" in text and "float64" in check.read_text("utf-8")


def test_they_are_in_no_comparison_of_the_book(book):
    """What judges reads run folders, and there is none among these records."""
    assert not list(RECORDS.rglob("metrics.json"))
    assert len(full_size.records(RECORDS)) == 24
