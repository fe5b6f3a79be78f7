"""The cost of a block: counted exactly, timed in turn."""

import pytest
from paddle import nn

from attn_blocks import models
from attn_book.analysis import cost
from attn_book.study.plan import plan
from attn_book.training import build


def test_ratios_are_medians_over_rounds_of_the_same_moment():
    # The second round was slow for both: the ratio of that round is still 2.
    seconds = {"plain": [1.0, 10.0, 1.0], "block": [2.0, 20.0, 3.0]}
    assert cost.ratios(seconds, "plain") == {"plain": 1.0, "block": 2.0}
    # Of 2, 2 and 3 the quartiles are 2 and 2.5.
    assert cost.middle_halves(seconds, "plain") == {"plain": "1.00", "block": "2.00 to 2.50"}


def test_the_models_are_timed_in_turn_after_one_step_each():
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = cost.interleaved(steps, rounds=2)
    assert calls == list("abc") * 3
    assert {len(s) for s in seconds.values()} == {2}


def test_when_time_is_up_the_fewest_rounds_are_still_made():
    seconds = cost.interleaved({"a": lambda: None}, rounds=50, limit=0.0)
    assert len(seconds["a"]) == cost.FEWEST_ROUNDS


@pytest.mark.parametrize(
    ("page", "task", "plain"),
    [("04_sge", "animals10", "ResNet-50"), ("01_se", "cifar10", "SENet without SE")],
)
def test_table(page, task, plain, data_dir, tmp_path, monkeypatch):
    page = plan(page, "smoke", [0, 1], data_dir, tmp_path, "cpu")
    batches, loss = set(), cost.F.cross_entropy
    with monkeypatch.context() as patched:
        patched.setattr(
            cost.F,
            "cross_entropy",
            lambda scores, labels: batches.add(len(labels)) or loss(scores, labels),
        )
        table = cost.table(page, task)
    assert batches == {page.comparison(task).recipe.batch_size}  # timed as it is trained
    assert list(table.index) == page.comparison(task).titles
    assert list(table.columns) == [
        "Parameters",
        "Extra parameters (%)",
        "MMACs",
        "Extra MACs (%)",
        "Training step",
        "Middle half of the rounds",
        "Inference",
    ]
    row = table.loc[plain]
    assert row["Extra parameters (%)"] == row["Extra MACs (%)"] == 0
    assert row["Training step"] == row["Inference"] == 1
    assert (table[["Training step", "Inference"]] > 0).all(axis=None)
    params = {
        entry.title: models.count_params(build.build_model(experiment, 10))
        for entry, experiment in page.comparison(task).experiments
    }
    assert table["Parameters"].to_dict() == {t: f"{value:,}" for t, value in params.items()}
    for title, value in params.items():
        extra = 100 * (value - params[plain]) / params[plain]
        assert table.loc[title, "Extra parameters (%)"] == pytest.approx(extra, abs=0.006)


def test_kept_bytes_are_the_inputs_that_gradients_need():
    # Kept: the image and the convolution's output, which is the batch norm's input; the ReLU
    # keeps its own output, and of the sum over it only shapes are needed.
    side, channels = 8, 6

    class Net(nn.Layer):
        def __init__(self):
            super().__init__()
            body = nn.Conv2D(3, channels, 1), nn.BatchNorm2D(channels), nn.ReLU()
            self.body = nn.Sequential(*body)

        def forward(self, x):
            return self.body(x).mean(axis=[2, 3])

    maps = 4 * side * side * (3 + channels + channels)
    assert maps <= cost.kept_bytes(Net(), side, batch=16) <= 1.1 * maps


def test_kept_bytes_of_an_image_do_not_depend_on_the_batch_and_grow_with_its_area():
    model = models.create_model("resnet18", num_classes=10, width=0.25)
    at_64 = cost.kept_bytes(model, 64, batch=4)
    assert cost.kept_bytes(model, 64, batch=8) == pytest.approx(at_64, rel=0.02)
    assert cost.kept_bytes(model, 128, batch=4) == pytest.approx(4 * at_64, rel=0.05)
