"""What networks are made of, as tables."""

import numpy as np
import paddle
import pytest

from attn_blocks import models
from attn_book.analysis import architecture


def test_a_summary_has_each_part_with_the_shape_that_leaves_it():
    network = models.create_model("bat_resnet50", 10, 0.25, "small", 56)
    network.train()
    before = [value.numpy() for value in network.state_dict().values()]
    table = architecture.summary(network, 56)
    assert network.training
    assert all(
        np.array_equal(a, b.numpy())
        for a, b in zip(before, network.state_dict().values(), strict=True)
    )
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert list(table.index) == [*parts, "total"]
    assert table.loc["layer2", "Kind"] == "4 × Bottleneck, 2 × BilinearAttnTransform"
    assert table.loc["layer2", "Output"] == "128 × 14 × 14"
    assert table.loc["fc"].tolist() == ["Linear", "10", f"{512 * 10 + 10:,}"]
    counts = [int(value.replace(",", "")) for value in table["Parameters"]]
    assert counts[-1] == sum(counts[:-1]) == models.count_params(network)


def test_a_summary_leaves_out_what_no_image_passes():
    class Network(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.used = paddle.nn.Conv2D(3, 4, 1)
            self.unused = paddle.nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    table = architecture.summary(Network(), 8)
    assert table.loc["used"].tolist() == ["Conv2D", "4 × 8 × 8", "16"]
    assert table.loc["total", "Parameters"] == "22"
    assert "unused" not in table.index


@pytest.mark.parametrize(("reduction", "total"), [(16, 2_514_944), (8, 5_029_888)])
def test_se_adds_2_by_r_times_the_squares_of_its_channels(reduction, total):
    table = architecture.se_resnet50(reduction)
    stages = {256: 3, 512: 4, 1024: 6, 2048: 3}
    expected = [2 * n * c**2 // reduction for c, n in stages.items()]
    assert table["2NC²/r"].tolist() == [f"{value:,}" for value in [*expected, total]]
    assert sum(expected) == total
    assert table.loc["stage 2", "Layers"] == "[1 × 1, 128; 3 × 3, 128; 1 × 1, 512] × 4"
    assert table.loc["stage 2", "SE"] == f"{512 // reduction}, 512"
    assert "..." not in table._repr_html_()  # as a notebook shows it
    assert table["Output"].tolist() == ["56 × 56", "28 × 28", "14 × 14", "7 × 7", ""]
    assert table.loc["total"].tolist() == ["", "", "", "16", "", f"{total:,}"]
