"""Readings: a figure's sentence has the figure's numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from attn_book.analysis import readings
from attn_book.analysis.explain import SeenImage, Transforms
from attn_book.analysis.findings.compared import NO_PLAIN
from attn_book.analysis.judgement import Verdict
from attn_book.records.logits import save_logits
from attn_book.records.run import Run
from attn_book.study.claims import CLAIMS, PRIMARY


def run(
    accuracy,
    train=0.9,
    loss=0.5,
    params=1e6,
    macs=1e6,
    confusion=((8, 2), (1, 9)),
    seed=0,
    model="resnet50",
):
    return SimpleNamespace(
        experiment=SimpleNamespace(seed=seed, model=model, options={}),
        metrics={
            "final_val_acc": accuracy,
            "final_train_acc": train,
            "params": params,
            "macs": macs,
        },
        history={"val_loss": np.array([1.0, loss])},
        confusion=np.array(confusion),
        classes=["cat", "dog"],
    )


def test_curves_say_where_they_end_and_which_is_farthest_from_its_training_images():
    runs = {
        "ResNet-50": [run(0.6, train=0.9), run(0.7, train=0.8, loss=0.7, seed=1)],
        "SE-ResNet-50": [run(0.8, train=0.75)],
        "GE-ResNet-50": [],
    }
    assert str(readings.training_curves(runs)) == (
        "Accuracy on validation images at the end of training: ResNet-50 0.650 (on training images "
        "0.850, validation loss 0.600) and SE-ResNet-50 0.800 (on training images 0.750, "
        "validation loss 0.500). The widest gap is that of ResNet-50, 20.0 points below its "
        "accuracy on training images."
    )
    above = str(readings.training_curves({"A": [run(0.8, train=0.5)], "B": [run(0.8, train=0.8)]}))
    assert above.endswith(
        "The widest gap is that of A, 30.0 points above its accuracy on training images."
    )


def test_networks_are_put_in_order_over_the_runs_that_all_share():
    runs = {
        "ResNet-50": [run(0.6), run(0.9, seed=1)],
        "SE-ResNet-50": [run(0.7), run(0.7, seed=1)],
        "GE-ResNet-50": [],
    }
    assert str(readings.validation_curves(runs)) == (
        "From the highest end to the lowest: ResNet-50 (0.750) and SE-ResNet-50 (0.700)."
    )
    runs["SE-ResNet-50"] = [run(0.7)]
    assert str(readings.validation_curves(runs)) == (
        "From the highest end to the lowest, over 1 shared run of each: SE-ResNet-50 (0.700) and "
        "ResNet-50 (0.600)."
    )
    runs["SE-ResNet-50"] = [run(0.7, seed=2)]
    assert str(readings.validation_curves(runs)) == (
        "No run is shared by all, so that these means have no order: ResNet-50 (0.750) and "
        "SE-ResNet-50 (0.700)."
    )


def test_confusions_are_counted_over_all_runs():
    runs = {
        "ResNet-50": [run(0.5), run(0.5, confusion=((5, 5), (0, 10)))],
        "SE-ResNet-50": [run(1.0, confusion=((10, 0), (0, 10)))],
    }
    assert str(readings.confusion_matrices(runs)) == (
        "ResNet-50 most often takes cat for dog (7 of 20 images) and dog for cat (1 of 20 images); "
        "SE-ResNet-50 confuses nothing."
    )


def test_networks_above_and_below_the_plain_one_have_their_cost():
    runs = {
        "SE-ResNet-50": [run(0.75, params=1.1e6, model="se_resnet50")],
        "ResNet-50": [run(0.7)],
        "BAT-ResNet-50": [run(0.65, macs=1.5e6, model="bat_resnet50")],
        "NL-ResNet-50": [run(0.7, params=0.9e6, model="nl_resnet50")],
    }
    assert str(readings.accuracy_against_cost(runs)) == (
        "ResNet-50 has 0.700; above it lies SE-ResNet-50 (+5.0 points, +10.0% parameters, +0.0% "
        "multiply-adds); not above it lie BAT-ResNet-50 (-5.0 points, +0.0% parameters, +50.0% "
        "multiply-adds) and NL-ResNet-50 (+0.0 points, -10.0% parameters, +0.0% multiply-adds)."
    )


def test_gains_are_paired():
    runs = {
        "ResNet-50": [run(0.7), run(0.2, seed=1)],
        "SE-ResNet-50": [run(0.75, model="se_resnet50")],
        "VGG-19": [run(0.6, seed=3, model="vgg19")],
    }
    assert str(readings.accuracy_against_cost(runs)) == (
        "ResNet-50 has 0.450; above it lies SE-ResNet-50 (+5.0 points over 1 shared run, +0.0% "
        "parameters, +0.0% multiply-adds); no run in common with it: VGG-19."
    )


def test_a_network_with_a_block_does_not_take_the_plain_ones_place():
    runs = {"ResNet-50": [], "SE-ResNet-50": [run(0.75, model="se_resnet50")]}
    assert str(readings.accuracy_against_cost(runs)) == NO_PLAIN


@pytest.mark.parametrize("is_complete", [False, True])
def test_gains_are_in_order_with_intervals_only_where_there_are_any(is_complete):
    claims = [claim for claim in CLAIMS if claim.family == PRIMARY][:3]
    values = dict(zip(claims, (-0.5, 1.25, None), strict=True))
    found = []
    for claim, value in values.items():
        interval = (value - 1, value + 1) if is_complete and value is not None else None
        shared = {"is_own": True, "unit": "points", "folds": "", "outcome": ""}
        found.append(Verdict(claim, **shared, value=value, interval=interval))
    names = [claim.better for claim in claims]
    first, second = (" [+0.25, +2.25]", " [-1.50, +0.50]") if is_complete else ("", "")
    said = "; in brackets the simultaneous 95% intervals" if is_complete else ""
    assert str(readings.gains(found)) == (
        f"Above ResNet-50, from the largest to the smallest: {names[1]} +1.2 points{first} and "
        f"{names[0]} -0.5 points{second}{said}; no finished run of {names[2]}."
    )


def test_nothing_is_read_from_nothing():
    for reading in (
        readings.training_curves,
        readings.validation_curves,
        readings.confusion_matrices,
        readings.accuracy_against_cost,
        readings.reliability,
    ):
        assert str(reading({"ResNet-50": []})) == readings.NOTHING
    assert str(readings.gains([])) == readings.NOTHING


# Looking inside ----------------------------------------------------------------------------------

PLACES = ("layer1.0.attn", "layer1.2.attn", "layer2.0.attn", "layer2.3.attn")


def gates_of(*spreads):
    """Block -> class -> gates of two channels, with that spread between two classes."""
    return {
        block: {"cat": np.full(2, 0.5 - spread), "dog": np.full(2, 0.5 + spread)}
        for block, spread in zip(PLACES, spreads, strict=True)
    }


SPREADS = (
    "Between classes the gates differ by 0.020 in stage 1, block 3 and 0.060 in stage 2, block 4 "
    "(standard deviation over at most 64 images, mean over channels). "
)


def test_gates_of_few_images_leave_much_to_chance():
    text = str(readings.channel_gates(gates_of(0.1, 0.02, 0.1, 0.06)))
    assert text == SPREADS + (
        "So few images leave much to chance, and equal means of the classes make no gate a "
        "constant: it may vary within a class."
    )


def gated(*factors):
    blocks = {
        block: {"factor": {"images": images, "classes": classes}}
        for block, (images, classes) in zip(PLACES, factors, strict=True)
    }
    return SimpleNamespace(
        metrics={"blocks": blocks},
        record={"data": {"validation_images": 2000}},
        classes=list("abcdefgh"),
    )


def test_gates_stand_beside_those_of_all_validation_images():
    """Eight images a class: chance makes the spread within a class divided by their root."""
    known = gated((1, 1), (0.05, 0.03), (1, 1), (0.13, 0.05))
    assert str(readings.channel_gates(gates_of(0.1, 0.02, 0.1, 0.06), known)) == SPREADS + (
        f"With 8.0 images a class, chance alone makes about {0.04 / 8**0.5:.3f} to "
        f"{0.12 / 8**0.5:.3f}. Over all 2,000 validation images the classes differ by 0.030 in "
        "stage 1, block 3 and 0.050 in stage 2, block 4, and single images by 0.050 to 0.130 (root "
        "mean squares over channels). The difference between classes grows most from stage 1, "
        "block 3 to stage 2, block 4. In none of these blocks are the gates constant: between "
        "images they vary by 0.01 or more."
    )
    still = gated((1, 1), (0.05, 0.03), (1, 1), (0.009, 0.001))
    assert str(readings.channel_gates(gates_of(0.1, 0.02, 0.1, 0.06), still)).endswith(
        "From none of these blocks to the next does the difference between classes grow. Nearly "
        "constant, with less than 0.01 between images, are the gates of stage 2, block 4."
    )


def test_maps_say_which_varies_most_and_how_alike_they_are():
    maps = {
        "group 3": np.array([[0.1, 0.2], [0.3, 0.4]]),
        "group 1": np.array([[0.3, 0.3], [0.3, 0.3]]),
        "group 2": np.array([[0.8, 0.6], [0.4, 0.2]]),
    }
    assert str(readings.maps_over_image(maps)) == (
        "Of the maps shown, the gate varies most in group 2 (0.2 to 0.8) and least in group 1 "
        "(0.3). Whatever their sign, the maps correlate by 1.00 on average; at 1 all would show "
        "the same places. In 1 of the 1 pairs one is bright where the other is dark."
    )
    maps["group 4"] = np.zeros((1, 1))
    assert str(readings.maps_over_image(maps, "weight")).startswith("Of the maps shown, the weight")
    assert "correlate" not in str(readings.maps_over_image(maps))
    alone = {"group 3": maps["group 3"]}
    assert str(readings.maps_over_image(alone)) == "The gate over the image: group 3 (0.1 to 0.4)."


def test_maps_that_are_equal_up_to_their_sign_show_the_same_places():
    """Two bright and five dark: with its sign their mean correlation is next to 0."""
    one = np.array([[0.0, 1.0], [2.0, 5.0]])
    maps = {f"channel {i}": one if i < 2 else -one for i in range(7)}
    text = str(readings.maps_over_image(maps))
    assert "correlate by 1.00 on average" in text
    assert "In 10 of the 21 pairs one is bright where the other is dark." in text


def test_maps_are_ranked_as_they_are_chosen():
    """By their standard deviation: one far pixel makes a range, and not the most varied map."""
    spike = np.zeros((4, 4))
    spike[0, 0] = 1
    maps = {"channel 1": spike, "channel 2": np.repeat([[0.0], [0.9]], 2, axis=0) * np.ones(4)}
    assert "varies most in channel 2" in str(readings.maps_over_image(maps))


def test_shuffle_gates_are_held_against_where_they_began():
    gates = np.array([0.731, 0.7, 0.4])
    text = str(readings.shuffle_gates(gates, {"channel 2": np.array([[0.5, 0.6]])}))
    assert text == (
        "The 3 channel gates go from 0.400 to 0.731; 1 of them lie more than 0.05 from the 0.731 "
        "where training began. The gate of the second halves over the image: channel 2 (0.5 to "
        "0.6)."
    )


def test_queries_say_whether_they_look_elsewhere():
    flat, left = np.full((2, 2), 0.25), np.array([[0.7, 0.1], [0.1, 0.1]])
    text = str(readings.query_attention({(0, 0): left, (1, 1): flat}, None, 0.5))
    assert text == (
        "The largest weight of the 2 marked pixels' maps is 1.0 to 2.8 times that of a plain mean; "
        "all have it at the same place. The maps of all pixels correlate by 0.50 on average; at 1 "
        "all would look at the same places."
    )
    text = str(readings.query_attention({(0, 0): left, (1, 1): left[::-1]}, flat, float("nan")))
    assert text.endswith(
        "they have it at 2 different places. In the one map of global context it is 1.0 times."
    )


def test_matrices_are_held_against_the_identity_and_the_mean():
    before, after = np.array([[[0.0, 2.0], [0.0, 2.0]]] * 2), np.ones((2, 2, 2))
    seen = Transforms(
        np.stack([np.eye(2), np.full((2, 2), 0.5)]), np.ones((2, 2, 2)) / 2, before, after
    )
    assert str(readings.transforms(seen)) == (
        "On the diagonal stand 0.50 to 1.00 in P and 0.50 in Q, as means of the 2 groups: 1 leaves "
        "a map as it is, and 0.50 is what a plain mean has everywhere. The largest weight is 1.00. "
        "Over the pixels the groups' maps vary by 1 before and 0 after."
    )


def test_maps_are_held_against_those_from_before_the_training():
    trained = {"layer2.nl1": np.array([0.4, 0.6]), "layer3.nl1": np.array([0.1, 0.2])}
    fresh = {"layer2.nl1": np.array([0.2, 0.2]), "layer3.nl1": np.array([0.3, 0.2])}
    assert str(readings.query_correlations(trained, fresh)) == (
        "Over these 2 images the maps correlate by 0.15 to 0.50 after training and by 0.20 to 0.25 "
        "before it; training made them more alike in 1 of 2 blocks. At 1 all pixels would look at "
        "the same places."
    )
    flat = {"layer2.nl1": np.array([np.nan, 0.6])}
    assert str(readings.query_correlations(flat, fresh)).startswith("In a block fewer than two")


def test_a_walk_says_what_the_block_does_to_the_magnitude():
    steps = {
        "image: cat": np.zeros((4, 4, 3)),
        "input": np.array([[1.0, 3.0], [0.0, 4.0]]),
        "gate": np.array([0.25, 0.75]),
        "output": np.array([[0.5, 0.75], [0.0, 2.0]]),
    }
    assert str(readings.walk(steps)) == (
        "The mean magnitude of the features is 2 before the block and 0.812 after it. It changes "
        "by -59%, and from pixel to pixel by -75% to -50%. On the way, on average: gate 0.5 (0.25 "
        "to 0.75)."
    )
    dark = {"image: cat": steps["image: cat"], "input": np.zeros((2, 2)), "output": np.ones((2, 2))}
    assert str(readings.walk(dark)) == (
        "The mean magnitude of the features is 0 before the block and 1 after it."
    )


def test_parameters_say_where_they_began_and_which_went_farthest():
    weight = {"layer1.0.attn": np.array([0.1, 0.2, 0.3]), "layer2.3.attn": np.array([-0.5])}
    found = readings.parameter_spread({"weight": weight, "bias": weight}, {"weight": 0})
    assert str(found) == (
        "weight: half of the values lie more than 0.2 to 0.5 from 0, where they began, farthest in "
        "stage 2, block 4; bias: medians -0.5 to 0.2."
    )
    there_and_back = {"layer1.0.attn": np.array([-0.3, 0.3, -0.2, 0.2])}
    moved = str(readings.parameter_spread({"weight": there_and_back}, {"weight": 0}))
    assert "lie more than 0.25 from 0" in moved


def test_grad_cam_says_which_class_is_asked_about_and_who_is_left_out():
    maps = {"ResNet-50": np.eye(2), "SE-ResNet-50": 1 - np.eye(2), "SGE-ResNet-50": np.eye(4)}
    evidence = [
        SeenImage(np.zeros((4, 4, 3)), "cat", maps, dict.fromkeys(maps, 0.5), frozenset(right))
        for right in (maps, ["SE-ResNet-50"])
    ]
    runs = {**{title: [run(0.5)] for title in maps}, "VGG-19": [run(0.5)], "GE-ResNet-50": []}
    assert str(readings.grad_cam(evidence, runs)) == (
        "Each map shows what speaks for the true class, whatever the network takes the image for. "
        "The images are chosen so that as many of the networks as can be are right (ResNet-50 1, "
        "SE-ResNet-50 2 and SGE-ResNet-50 1 of 2). By how much their maps correlate with those of "
        "ResNet-50, on average: SE-ResNet-50 -1.00; at 1 they show the same places. Left out, "
        "since their weights of this fold are not here: VGG-19."
    )
    assert "Left out" not in str(readings.grad_cam(evidence))


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        (
            [0, 0, 0, 1],
            "Of all 4 images 1 are taken for another class; the grid shows right and wrong ones, "
            "half of it each where there are enough. The mean probability of the answer is 80% "
            "where it is right and 60% where it is wrong.",
        ),
        (
            [0, 0, 1, 1],
            "Of all 4 images 0 are taken for another class; the grid shows right and wrong ones, "
            "half of it each where there are enough. The mean probability of the answer is 75% "
            "where it is right.",
        ),
    ],
)
def test_predictions_are_counted_and_weighed(predicted, said, tmp_path):
    share = np.array([0.8, 0.8, 0.6, 0.8])
    logits = np.log(share / (1 - share))[:, None] * np.eye(2)[predicted]
    save_logits(tmp_path / "logits.safetensors", logits, np.array([0, 0, 1, 1]))
    assert str(readings.prediction_grid(Run(tmp_path))) == said


def test_bins_in_which_a_network_is_too_sure_are_counted(tmp_path):
    share, predicted = np.array([0.8, 0.8, 0.6, 0.8]), [0, 0, 0, 1]
    logits = np.log(share / (1 - share))[:, None] * np.eye(2)[predicted]
    save_logits(tmp_path / "logits.safetensors", logits, np.array([0, 0, 1, 1]))
    runs = {"ResNet-50": [Run(tmp_path)] * 2, "SE-ResNet-50": []}
    assert str(readings.reliability(runs)) == (
        "ResNet-50 is too sure in 1 of 2 bins, with 25% of the images."
    )
