"""The page on what the first study got wrong: every sentence with a number, and every figure."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from attn_blocks.files import PROJECT
from attn_book.records import first_study
from attn_book.records.published import PUBLISHED

KEPT = PUBLISHED / first_study.FOLDER
PAGE = PROJECT / "book" / "first_study.md"
FINDINGS = {
    "gains": "With a decay of 5e-4 at a rate of 0.1, a gain that starts at 1 and gets no gradient "
    "shrinks to 0.35 in 30 epochs; SRM's blocks alone were exempt, as in their authors' code, and "
    "SRM-ResNet-50 came out best (88.1%; SGE-ResNet-50, the next, 87.4%).",
    "seeds": "Of ResNet-50's 53 convolutions, networks of the same seed began with so many alike: "
    "SE and GE 1; NL, GC and BAT 18; SRM, SGE and SA 53 (counted at commit a6efa90); and over the "
    "27 runs the seed explains nothing: F = 0.27 with 2 and 16 degrees of freedom, p = 0.77, and "
    "F = 0.34 among the 4 networks that began alike.",
    "matches": "Which run is set against which is then arbitrary, and of the 6 ways to match three "
    "runs with three, “SRM-ResNet-50 > ResNet-50 on Animals-10: supported” stands in 2; of the 6 "
    "signs that were decided 1 stands in all (BAT-ResNet-50 > NL-ResNet-50 on Animals-10), while "
    "“BAT-ResNet-50 > ResNet-50 on Animals-10: undecided” becomes contradicted in 4.",
    "families": "Each of 18 claims of a sign had its own test at 5%, and adjusted for their number "
    "by Holm's method none is left (smallest p 0.18); Dunnett's intervals, with the spread of all "
    "27 runs for 8 blocks at once, find SRM-ResNet-50 better (+1.99 [+0.36, +3.63]; the study said "
    "“supported”) and BAT-ResNet-50 worse (-2.59 [-4.22, -0.95]; the study said “undecided”).",
    "sizes": "Of the 6 claims that were called contradicted, 4 are gains of 21.7 to 28.5 points "
    "over a ResNet-50 that leaves 13.9: a network without any error would have been contradicted "
    "as well, and the trial that settled the recipe had shown so before the first run, with 85.6%.",
    "training": "In its last epoch ResNet-50 was right on 85.7% of the training images of "
    "Animals-10 and on 86.1% of the validation images, and no network was more than 1.2 points "
    "better on what it was trained on. The first is counted on crops while the weights move, so "
    "that it does not show that they had more to learn; but nothing shows that 30 epochs were "
    "enough (unlike Caltech-16, where ResNet-50 has 95.3% and 79.9%).",
}


@pytest.fixture
def study(book):
    parts = (first_study.runs(KEPT, part) for part in (first_study.RUNS, first_study.TRIALS))
    return book("lessons.first_study").Study(*parts)


def test_what_was_found(book, study):
    found = book("lessons.first_study").lessons(study)
    assert {name: lesson.finding for name, lesson in found.items()} == FINDINGS
    for name, lesson in found.items():
        assert re.search(r"\d\.\d", lesson.alt) or name == "matches", lesson.alt
        assert lesson.alt.endswith(".")
        assert lesson.table.notna().all(axis=None)
        plt.close(lesson.figure)


def test_figures_show_the_numbers_that_their_words_say(book, study):
    found = book("lessons.first_study").lessons(study)
    shown = {
        name: [t.get_text() for t in lesson.figure.findobj(plt.Text) if t.get_visible()]
        for name, lesson in found.items()
    }
    assert {"not decayed: 1.00", "decay 1e-4: 0.81", "decay 5e-4: 0.35"} <= {*shown["gains"]}
    assert [shown["seeds"].count(f"{n} of 53") for n in (1, 18, 53)] == [2, 3, 3]
    away = [float(text) for text in shown["seeds"] if re.fullmatch(r"[+-]\d\.\d\d", text)]
    nine, means = np.array(away[:27]).reshape(9, 3), away[27:]
    assert np.abs(nine.sum(axis=1)).max() < 0.02  # rounded
    assert means == pytest.approx([-0.06, 0.13, -0.07])
    assert shown["matches"].count("supported: 2 of 6") == 3
    assert {"supported: 3 of 6", "contradicted: 4 of 6", "contradicted: 6 of 6"} <= {
        *shown["matches"]
    }
    assert {"+1.99 [+0.36, +3.63]", "-2.59 [-4.22, -0.95]"} <= {*shown["families"]}
    assert {"ResNet-50: 86.1", "+28.4", "+27.3", "+28.5", "+21.7"} <= {*shown["sizes"]}
    assert {"-0.4", "+1.2", "-1.9", "+15.4"} <= {*shown["training"]}
    for lesson in found.values():
        plt.close(lesson.figure)


def test_the_page_shows_every_lesson_and_its_own_numbers_are_right(book, study, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    made = book("lessons.first_study").texts(tmp_path)
    assert re.findall(r"\{include\} records/(\w+)\.md", text) == sorted(
        made, key=lambda name: (name.endswith("_table"), [*made].index(name))
    )
    pictures = re.findall(r"\{image\} records/(\S+)\n:alt: \"", "\n".join(made.values()))
    assert sorted(pictures) == sorted(path.name for path in tmp_path.iterdir())
    assert len(pictures) == len(FINDINGS)
    networks = sum(map(len, study.networks.values()))
    claims = len(study.signs) + len(study.sizes)
    assert f"{networks} networks three times each and judged {claims} claims" in text
    assert (networks * 3, len(study.signs)) == (len(study.runs), 18)
    assert "## Eighteen claims, each judged alone" in text
    assert (len(study.signs[0].matches), study.signs[0].matches[0].residual.freedom) == (6, 2)
    assert "the six ways to match the runs" in text and "leave two degrees of freedom" in text


def test_what_the_page_says_is_not_on_record_is_not(study):
    kinds = {path.name for path in KEPT.glob("*/*/*")}
    assert kinds == {"experiment.json", "history.csv", "metrics.json"}  # no weights, no logits
    assert all("confusion" in run.metrics for run in study.runs)
    assert not any(key.startswith("final_train") for run in study.runs for key in run.metrics)


def test_the_origin_names_data_sizes_seeds_device_and_dates(book, study):
    assert book("lessons.first_study").origin(study) == (
        "first study · Animals-10 (4 of 10 classes; 9,013 / 2,256 images), 56 px, width 0.25; "
        "Caltech-101 (16 classes; 1,412 / 359 images), 64 px, width 0.25; CIFAR-10 (10 classes; "
        "50,000 / 10,000 images), 32 px, width 0.25 · 48 runs, seeds 0, 1, 2 · cpu · trained "
        "2026-11-25 to 2026-11-26"
    )
