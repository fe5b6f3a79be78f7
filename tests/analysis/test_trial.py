"""A block of the reader's own, tried on drawn images."""

from types import SimpleNamespace

import pytest
from paddle import nn

import attn_blocks as ab
from attn_blocks.errors import SettingError
from attn_book import try_out


class Nothing(nn.Layer):
    """What a block is that does nothing."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x


@pytest.fixture
def page(data_dir):
    return SimpleNamespace(profile="smoke", device="cpu", data_dir=data_dir)


def test_a_block_that_does_nothing_trains_as_the_plain_network_does(page):
    table = try_out(page, Nothing, "se")
    assert list(table.index) == ["no block", "Nothing", "se"]
    assert table.loc["Nothing"].equals(table.loc["no block"])  # equal starts, equal batches
    learnt = table[["loss, epoch 1", "loss, epoch 2"]].astype(float)
    assert learnt.loc["se", "loss, epoch 1"] != learnt.loc["no block", "loss, epoch 1"]
    assert (learnt["loss, epoch 2"] < learnt["loss, epoch 1"]).all()


def test_its_seed_epochs_and_placement_are_the_readers(page):
    between = try_out(page, ab.StyleRecalibration, placement="between", epochs=1)
    inside = try_out(page, ab.StyleRecalibration, epochs=1, seed=1)
    assert list(between.columns) == ["parameters", "loss, epoch 1", "validation accuracy"]
    fewer, more = (frame["parameters"].str.replace(",", "") for frame in (between, inside))
    assert int(fewer["StyleRecalibration"]) < int(more["StyleRecalibration"])
    assert between.loc["no block", "loss, epoch 1"] != inside.loc["no block", "loss, epoch 1"]


def test_what_is_no_block_is_refused(page):
    with pytest.raises(SettingError, match="must be a class or a function"):
        try_out(page, lambda channels: channels)
