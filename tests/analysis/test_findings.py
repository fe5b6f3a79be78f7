"""Findings: every number of a sentence comes from the records, and what they lack is said."""

import re

import numpy as np
import pandas as pd
import pytest

from attn_blocks.errors import SettingError
from attn_blocks.files import read_json, write_json
from attn_book.analysis import findings
from attn_book.analysis.findings import blocks
from attn_book.analysis.findings.compared import has_block
from attn_book.analysis.findings.scores import calibration_error
from attn_book.analysis.first_study import decay_alone
from attn_book.analysis.judgement import OUTCOMES
from attn_book.analysis.verdicts import verdicts
from attn_book.records.logits import save_logits
from attn_book.records.published import PUBLISHED
from attn_book.records.reading import HISTORY_COLUMNS
from attn_book.records.recorded import recorded_plans
from attn_book.study.claims import PRIMARY
from attn_book.study.design import HALF_THE_EPOCHS, TWICE_THE_EPOCHS
from attn_book.study.pages import (
    GC,
    INCEPTION,
    OVERVIEW,
    PAGES,
    RESNET,
    SA_INCEPTION,
    SE,
    SENET_WITHOUT,
    SGE,
    SRM,
)
from attn_book.study.recipes import PROFILES
from attn_book.training.run import write_history

TASK, EPOCHS = "animals10", 30
BLOCKS = {
    "layer1.0.attn": {
        "parameters": {
            "fc1.weight": {"start": 0.2, "end": 0.2, "moved": 0.1},
            "fc1.bias": {"start": 0.1, "end": 0.1, "moved": 0.0},
            "fc2.weight": {"start": 0.1, "end": 0.1, "moved": 0.001},
            "fc2.bias": {"start": 0.0, "end": 0.25, "moved": 0.25},
        },
        "input": 1.0,
        "factor": {"mean": 0.49, "images": 0.1, "classes": 0.02},
    },
    "layer2.3.attn": {
        "parameters": {
            "fc1.weight": {"start": 0.2, "end": 0.2, "moved": 0.02},
            "fc1.bias": {"start": 0.1, "end": 0.1, "moved": 0.0},
            "fc2.weight": {"start": 0.1, "end": 0.1, "moved": 0.003},
            "fc2.bias": {"start": 0.0, "end": 0.25, "moved": 0.25},
        },
        "input": 1.0,
        "factor": {"mean": 0.51, "images": 0.3, "classes": 0.04},
    },
}
ADDS = {
    "layer2.nl1": {
        "parameters": {"f_add.conv2.weight": {"start": 0.0, "end": 0.01, "moved": 0.01}},
        "input": 2.0,
        "summand": {"mean": 0.0, "images": 0.5, "classes": 0.02},
    }
}


@pytest.fixture
def made(tmp_path, study_run):
    """A function that writes a run of the study and changes its metrics, and its page's plan."""

    def write(entry, seed, share, task=TASK, curve=None, losses=None, images=6400, **metrics):
        run = study_run(tmp_path / "study", task, entry, seed, share)
        record = read_json(run.folder / "experiment.json")
        record["data"]["train_images"] = images
        write_json(run.folder / "experiment.json", record)
        found = read_json(run.folder / "metrics.json")
        write_json(run.folder / "metrics.json", {**found, **metrics})
        epochs = run.experiment.recipe.epochs
        curve = [share] * epochs if curve is None else curve
        losses = [1.0] * len(curve) if losses is None else losses
        rows = [
            (i + 1, 0.1, 0.7, 0.5, loss, accuracy, 1.5)
            for i, (loss, accuracy) in enumerate(zip(losses, curve, strict=True))
        ]
        rows = [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in rows]
        write_history(run.folder / "history.csv", rows)
        return run

    write.page = lambda name="01_se": recorded_plans(tmp_path / "study")[name]
    return write


def text_of(finding, title=SE.title):
    return dict(finding.lines)[title]


# Blocks ------------------------------------------------------------------------------------------


def test_movement_stands_beside_decay_alone_and_modulation_has_its_spread(made):
    run = made(SE, 0, 0.8, blocks=BLOCKS, frozen={"accuracy": 0.7, "changed": 0.042})
    alone = 1 - decay_alone(run.experiment.recipe, 100)[-1]
    assert alone > 0.01
    assert text_of(findings.learned(made.page(), TASK)) == (
        "The weights that decay acts on moved by 2.0% (fc2.weight) to 30.0% (fc1.weight) of their "
        f"first size, where decay alone moves them by {alone:.1%}; what began at 0 ended at a size "
        "of 0.25 (fc2.bias); fc1.bias did not move. The factor of its 2 blocks is 0.490 to 0.510 "
        "on average; over the validation images it varies by 0.100 to 0.300 (most in stage 2, "
        "block 4), and over the means of classes by 0.020 to 0.040. Replacing it by its mean over "
        "these images changes 4.2% of the predictions, not below the 0.5% under which the protocol "
        "calls a block constant."
    )


def test_parameters_that_moved_no_further_than_decay_moves_them_have_not_learnt(made):
    alone = 1 - decay_alone(made(SE, 1, 0.8).experiment.recipe, 100)[-1]
    weight = {"start": 1.0, "end": 1 - alone, "moved": alone}
    block = BLOCKS["layer1.0.attn"] | {"parameters": {"fc1.weight": weight}}
    made(SE, 1, 0.8, blocks={"layer1.0.attn": block})
    assert text_of(findings.learned(made.page(), TASK)).startswith(
        f"The weights that decay acts on moved by {alone:.1%} (fc1.weight) of their first size, "
        f"which is no more than decay alone moves them ({alone:.1%}): they have learnt next to "
        "nothing."
    )


def test_a_block_that_adds_is_measured_by_what_it_adds_to(made):
    made(GC, 0, 0.8, blocks=ADDS, frozen={"accuracy": 0.8, "changed": 0.004})
    made(GC, 1, 0.8, blocks=ADDS, frozen={"accuracy": 0.8, "changed": 0.006})
    text = text_of(findings.learned(made.page("07_gc"), TASK, GC.title), GC.title)
    assert text == (
        "What began at 0 ended at a size of 0.01 (f_add.conv2.weight). What its 1 block adds "
        "varies over the validation images by 25.0% of the size of what it is added to, and over "
        "the means of classes by 1.0%. Replacing it by its mean over these images changes 0.5% of "
        "the predictions (mean of 2 runs), not below the 0.5% under which the protocol calls a "
        "block constant."
    )


@pytest.mark.parametrize(("frozen", "change"), [(0.7, "-10.0"), (0.9, "+10.0")])
def test_what_freezing_changes_is_not_what_the_blocks_are_worth(made, frozen, change):
    for seed in (0, 1):
        made(RESNET, seed, 0.75)
        made(SE, seed, 0.8, blocks=BLOCKS, frozen={"accuracy": frozen, "changed": 0.2})
    assert text_of(findings.frozen(made.page(), TASK)) == (
        "With every modulation replaced by its mean over the validation images, and nothing "
        f"trained again, the accuracy changes by {change} points, from 0.8000 to {frozen:.4f} "
        "(mean of 2 runs). That measures how far the later layers of the trained network depend on "
        "what its blocks decide image by image. What the blocks are worth is read beside "
        "ResNet-50, which was trained without them: the network with them stands at +5.0 points "
        "against it."
    )


# Course ------------------------------------------------------------------------------------------


def test_a_curve_is_read_at_a_quarter_half_and_the_end(made):
    """The block is ahead by 10 points, then behind by 2; losses turn in epoch 20."""
    plain = [0.02 * (i + 1) for i in range(EPOCHS)]  # ends at 0.60, passes 0.48 after epoch 24
    block = [*(a + 0.1 for a in plain[:20]), *(a - 0.02 for a in plain[20:])]
    losses = [2.0] * 19 + [0.5] + [0.75] * 10
    for seed in (0, 1):
        made(RESNET, seed, 0.6, curve=plain)
        made(SE, seed, 0.58, curve=block, losses=losses)
    made(SE, 2, 1.0)  # a fold that the plain network lacks
    assert text_of(findings.curve(made.page(), TASK)) == (
        "Against ResNet-50 it stood at +10.0 points after epoch 8, +10.0 points after epoch 15 and "
        "-2.0 points after epoch 30 of 30 (mean of 2 runs). It took 19 epochs to reach 0.480, 80% "
        "of ResNet-50's final accuracy; ResNet-50 took 24 epochs. The validation loss ended at "
        "0.750 for SE-ResNet-50 (lowest: 0.500 in epoch 20) and 1.000 for ResNet-50."
    )


def test_a_level_that_is_never_reached_is_no_number(made):
    made(RESNET, 0, 0.5)
    made(SE, 0, 0.3, losses=[*[1.0] * 29, float("inf")])
    text = text_of(findings.curve(made.page(), TASK))
    assert "It took more than its training to reach" in text
    assert "final accuracy; ResNet-50 took 1 epoch." in text
    assert "ended at inf for SE-ResNet-50 (lowest: 1.000 in epoch 1)" in text


# Scores ------------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    # Bin 2 of 4 holds 0.3 and 0.4, one right: |0.7 - 1| / 4. Bin 4 holds 0.9 and 1, both wrong.
    error = calibration_error(
        np.array([0.3, 0.4, 0.9, 1.0]), np.array([True, False, False, False]), bins=4
    )
    assert error == pytest.approx((0.3 + 1.9) / 4)


def logits_with(confidence, predicted):
    """Two classes: each image's predicted class has that probability."""
    return np.log(confidence / (1 - confidence)) * np.eye(2)[predicted]


def test_confidence_stands_beside_accuracy_and_confusions_that_change_are_counted(made):
    plain = made(RESNET, 0, 0.5, confusion=[[90, 10], [5, 95]])
    block = made(SE, 0, 0.75, confusion=[[97, 3], [13, 87]])
    labels = np.array([0, 0, 1, 1])
    save_logits(plain.folder / "logits.safetensors", logits_with(0.9, [0, 1, 0, 1]), labels)
    save_logits(block.folder / "logits.safetensors", logits_with(0.6, [0, 0, 0, 1]), labels)
    found = dict(findings.calibration(made.page(), TASK).lines)
    assert found["ResNet-50"] == (
        "It is right on 50.0% of the validation images and gives its answers a probability of "
        "90.0% on average: 40.0 points too high. Its expected calibration error is 40.0 points."
    )
    assert "60.0% on average: 15.0 points too low" in found["SE-ResNet-50"]
    assert found["SE-ResNet-50 beside ResNet-50"] == (
        "Of all confusions these changed most: a taken for b became rarer (3 in place of 10 of 100 "
        "images) and b taken for a became more frequent (13 in place of 5 of 100 images)."
    )


def test_confusions_that_do_not_change_are_said_not_to(made):
    made(RESNET, 0, 0.5)
    made(SE, 0, 0.5)
    found = dict(findings.calibration(made.page(), TASK).lines)
    assert found["SE-ResNet-50 beside ResNet-50"] == (
        "Of all confusions these changed most: no confusion became rarer and no confusion became "
        "more frequent."
    )


# Cost --------------------------------------------------------------------------------------------


def measured(ratio):
    halves = {RESNET.title: "1.00 to 1.00", SE.title: "1.40 to 1.60"}
    steps = {RESNET.title: 1.0, SE.title: ratio}
    return pd.DataFrame({"Training step": steps, "Middle half of the rounds": halves})


def test_cost_is_said_in_parameters_multiply_adds_and_measured_time(made):
    plain = [0.5] * 22 + [0.6] * 7 + [0.7]
    made(RESNET, 0, 0.7, curve=plain, params=1_000_000, macs=200_000_000)
    made(SE, 0, 0.8, curve=[0.75] * EPOCHS, params=1_250_000, macs=200_000_000)
    text = text_of(findings.cost_finding(made.page(), TASK, measured(1.5)))
    assert text == (
        "Beside ResNet-50 it has 25.0% more parameters (1,250,000 against 1,000,000) and equally "
        "many multiply-adds (200.0 against 200.0 million an image). A forward and backward pass "
        "takes 1.50 times as long, measured in turn on the machine that made this page, whatever "
        "else it did (the page Performance has measurements of a quiet one); in the middle half of "
        "the rounds it took 1.40 to 1.60 times. In the time of its 30 epochs ResNet-50 could train "
        "for 45.0; no run of that length is on record. The last 7 epochs of ResNet-50's own 30 "
        "brought it +10.0 points. By the time ResNet-50 had finished, the network with the block "
        "had done 20 epochs and stood at 0.7500 against 0.7000, with its rate not yet annealed."
    )
    cheap = text_of(findings.cost_finding(made.page(), TASK, measured(0.9)))
    assert cheap.endswith("So it leaves no time in which ResNet-50 could train for longer.")


@pytest.mark.parametrize(("epochs", "brought"), [(1, None), (2, "+30.0"), (3, "+10.0")])
def test_a_short_training_says_what_its_last_epoch_brought(made, epochs, brought):
    for which in (RESNET, SE):
        made(which, 0, 0.7, curve=[0.3, 0.6, 0.7][:epochs])
    text = text_of(findings.cost_finding(made.page(), TASK, measured(1.5)))
    said = re.findall(r"The last epoch of ResNet-50's own \d brought it (.+?) points", text)
    assert said == ([brought] if brought else [])
    assert "no run of that length is on record." in text


def test_what_is_added_to_nothing_has_no_share_of_it():
    report = {"input": 0.0, "summand": {"images": 0.5}, "factor": {"images": 0.2}}
    assert blocks.spread(report, "summand", "images") == 0.0
    assert blocks.spread(report, "factor", "images") == 0.2
    assert blocks.spread(report | {"input": 2.0}, "summand", "images") == 0.25


@pytest.mark.parametrize(("share", "gain"), [(0.9, "+12.5"), (0.7, "-7.5")])
def test_trainings_of_other_lengths_say_what_the_same_time_buys(made, share, gain):
    """ResNet-50 with 15, 30 and 60 epochs; halfway from 30 to 60 lies 0.775."""
    half, twice = (c.entries[0] for c in (HALF_THE_EPOCHS, TWICE_THE_EPOCHS))
    for seed in (0, 1):
        made(half, seed, 0.6)
        made(RESNET, seed, 0.75)
        made(twice, seed, 0.8)
        made(SE, seed, share)
    made(RESNET, 2, 0.1)  # of a fold without the other lengths
    made(SE, 2, 0.1)
    text = text_of(findings.cost_finding(made.page(), TASK, measured(1.5)))
    assert text.endswith(
        "In the time of its 30 epochs ResNet-50 could train for 45.0: its own trainings end at "
        "0.6000 with 15, 0.7500 with 30, 0.8000 with 60 epochs (mean of 2 runs), which makes "
        f"0.7750 for that time, against {share:.4f} with the block ({gain} points)."
    )


# In words ----------------------------------------------------------------------------------------


def test_while_a_family_is_incomplete_there_is_no_outcome_word(made):
    for seed in (0, 1, 2):
        made(RESNET, seed, 0.70)
        made(SE, seed, 0.65, frozen={"accuracy": 0.6, "changed": 0.1})
    found = findings.in_words(made.page(), TASK)
    assert found.lines[0] == (
        "",
        "Seen in the profile study on Shapes (2 classes; 8 / 4 images), with images of 56 pixels, "
        "networks of 0.25 times the published width and 30 epochs of training. This is what was "
        "seen so far, and no outcome: outcomes take all runs of the study's family.",
    )
    assert text_of(found) == (
        "It ended at 0.6500 and ResNet-50 at 0.7000, which is -5.0 points (3 of 5 folds); half way "
        "through it was -5.0 points. With its modulation frozen at the mean, the accuracy changes "
        "by -5.0 points."
    )
    page = made.page()
    for finding in (findings.learned, findings.frozen, findings.curve, findings.calibration):
        found = f"{found} {finding(page, TASK)}"
    assert not re.search(rf"\b({'|'.join(OUTCOMES)})\b", str(found))


def test_a_claim_about_two_blocks_has_its_difference_too(made):
    for entry, share in ((RESNET, 0.7), (SE, 0.65), (SRM, 0.8)):
        made(entry, 0, share)
    found = dict(findings.in_words(made.page("03_srm"), TASK).lines)
    assert found["SRM-ResNet-50 beside SE-ResNet-50"] == "+15.0 points (1 of 5 folds)."
    assert found["SE-ResNet-50 beside GE-ResNet-50"] == "No run of ours speaks to it."
    alone = dict(findings.in_words(made.page("03_srm"), TASK, SRM.title).lines)
    assert set(alone) == {"", "SRM-ResNet-50", "SRM-ResNet-50 beside SE-ResNet-50"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, study_of):
    """A whole study in which SE gains 4 points and SGE's blocks do the same to all images."""
    folder = tmp_path_factory.mktemp("whole") / "study"

    def accuracy(task, title, seed):
        return 0.80 + 0.04 * title.startswith("SE-") + 0.005 * ((seed * len(title)) % 3)

    study_of(folder, accuracy, tasks=(TASK,))
    for path in (folder / "runs").glob("*-sge_resnet50-*/metrics.json"):
        write_json(path, {**read_json(path), "frozen": {"accuracy": 0.8, "changed": 0.001}})
    return recorded_plans(folder)


def test_outcomes_are_those_of_the_verdicts(whole):
    page = whole[OVERVIEW]
    found = dict(findings.in_words(page, TASK).lines)
    given = {v.claim.better: v for v in verdicts(page) if v.claim.family == PRIMARY}
    assert given[SE.title].word == "better"
    assert f"Outcome: {given[SE.title].in_full}. Ours: " in found[SE.title]
    assert f"Outcome: {given[SGE.title].in_full}. Ours: " in found[SGE.title]
    assert "constant" in given[SGE.title].in_full
    text = found["SRM-ResNet-50 beside SE-ResNet-50"]  # their family is not complete
    assert text.endswith("points (5 of 5 folds).")
    assert found["Constant"] == "SGE-ResNet-50: no verdict on attention."
    assert "An outcome is about these images" in found[""]


@pytest.mark.parametrize(
    ("learnt", "said"),
    [
        (0.5, ""),
        (
            0.29,
            " ResNet-50 has hardly begun to learn: at its end it is right on 29.0% of its training "
            "images.",
        ),
    ],
)
def test_a_small_profile_tests_nothing(learnt, said, tmp_path, study_run):
    recipe = PROFILES["quick"].recipes[TASK]
    for entry, share in ((RESNET, 0.5), (SE, 0.75)):
        run = study_run(tmp_path / "quick", TASK, entry, 0, share, dataset="shapes", recipe=recipe)
        path = run.folder / "metrics.json"
        write_json(path, {**read_json(path), "final_train_acc": learnt})
    found = findings.in_words(recorded_plans(tmp_path / "quick")["01_se"], TASK)
    assert found.lines[0][1].endswith(
        f"These numbers test nothing: the training is short and has 1 seed.{said}"
    )
    assert "which is +25.0 points (1 of 1 seed)" in text_of(found)


def test_a_fold_that_the_plain_network_lacks_is_accounted_for(made):
    for seed in (0, 1):
        made(SE, seed, 0.8)
    made(RESNET, 0, 0.75)
    diverged = made(RESNET, 1, 0.1).folder
    write_json(diverged / "metrics.json", {"status": "failed", "reason": "nan", "epoch": 2})
    text = text_of(findings.in_words(made.page(), TASK))
    assert "+5.0 points (1 of 5 folds, 1 run diverged)" in text


# What is missing ---------------------------------------------------------------------------------


def cost_of_all(plan, task):
    entries = plan.comparison(task).comparison.entries
    frame = pd.DataFrame(1.0, [entry.title for entry in entries], list(measured(1.0).columns))
    return findings.cost_finding(plan, task, frame)


EVERY = [findings.calibration, findings.curve, findings.frozen, findings.in_words]
EVERY += [findings.learned, cost_of_all]
assert len(EVERY) == len(findings.__all__)


@pytest.mark.parametrize("finding", EVERY)
def test_a_network_without_runs_has_none_to_speak_of(finding, made):
    made(RESNET, 0, 0.5)
    assert text_of(finding(made.page(), TASK)) == "No run of it is finished."


def test_records_of_older_code_say_nothing_of_their_blocks(made):
    made(RESNET, 0, 0.5)
    made(SE, 0, 0.5)
    page = made.page()
    for finding in (findings.learned, findings.frozen):
        assert "say nothing of its blocks" in text_of(finding(page, TASK))
    assert "Frozen" not in text_of(findings.in_words(page, TASK))
    made(SE, 0, 0.5, blocks=BLOCKS)  # and those of code in between, half of it
    text = text_of(findings.learned(made.page(), TASK))
    assert text.endswith("No record says what replacing the modulation by its mean would change.")


def test_without_a_plain_network_nothing_is_held_against_it(made):
    made(SE, 0, 0.5, blocks=BLOCKS, frozen={"accuracy": 0.5, "changed": 0.1})
    page = made.page()
    assert "no finished network without a block" in text_of(findings.curve(page, TASK))
    assert "It ended at 0.5000." in text_of(findings.in_words(page, TASK))
    assert "Against" not in text_of(findings.frozen(page, TASK))


def test_only_networks_with_a_block_can_be_asked_about(made):
    made(RESNET, 0, 0.5)
    assert [has_block(e) for e in (RESNET, SE, SENET_WITHOUT, SA_INCEPTION, INCEPTION)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(SettingError, match="SE-ResNet-50"):
        findings.learned(made.page(), TASK, "ResNet-50")


@pytest.mark.parametrize("finding", EVERY)
def test_every_page_that_is_published_can_be_spoken_of(finding):
    plans = recorded_plans(PUBLISHED / "quick")
    assert set(plans) == set(PAGES)
    for page in plans.values():
        for comparison in page.comparisons:
            lines = dict(finding(page, comparison.task).lines)
            wanted = {e.title for e in comparison.comparison.entries if has_block(e)}
            assert wanted <= lines.keys()
            assert all(re.search(r"\d", lines[title]) for title in wanted)


def test_a_finding_is_markdown_that_holds_names_as_they_are(made):
    made(RESNET, 0, 0.5, confusion=[[1, 3], [0, 4]])
    run = made(SE, 0, 0.5)
    record = read_json(run.folder / "experiment.json")
    record["data"]["classes"] = ["<b>", "$x$"]
    write_json(run.folder / "experiment.json", record)
    found = findings.calibration(made.page(), TASK)
    assert "<b> taken for $x$" in str(found)
    text = found._repr_markdown_()
    assert "\\<b\\> taken for \\$x\\$" in text
    assert text.startswith("* **ResNet-50:** It is")
