"""A block of the reader's own is tried at every place of the network before it is trained."""

from pathlib import Path

import pytest

from attn_blocks.errors import SettingError
from attn_book.study.own import find
from attn_book.study.recipes import PROFILES
from attn_book.training.own import check, places

ECA = Path(__file__).parents[1] / "blocks" / "eca.py"
RECIPE = PROFILES["smoke"].recipes["animals10"]
HEAD = "import paddle\nfrom paddle import nn\n"
LAYER = (
    HEAD + "class Mine(nn.Layer):\n    def __init__(self, channels):\n        super().__init__()\n"
)
FORWARD = LAYER + "    def forward(self, x):\n        "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 / 0", r"mine\.py cannot be loaded: ZeroDivisionError: division by zero"),
        ("import nothing_like_it", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("def Other(c): ...", r"unknown name in .*mine\.py: 'Mine'; choose one of: Other"),
        ("Mine = 3", r"Mine in .*mine\.py is 3; it must be a class or a function"),
        ("def Mine(c): return 3", "made from 32 channels it is 3, no paddle.nn.Layer"),
        (FORWARD + "return x[:, :1]", r"from \[2, 32, 28, 28\] of .* it makes \[2, 1, 28, 28\]"),
        (FORWARD + "return x.astype('float64')", "makes .* of paddle.float64; both must be alike"),
        (FORWARD + "return 2 * x, x", r"it makes \(Tensor.*both must be alike"),
        (FORWARD + "return x.reshape([2, -1, 28, 28])", r"it makes \[2, 16, 28, 28\]"),
        (
            LAYER
            + "        assert channels < 128, 'too many'\n    forward = lambda self, x: 2 * x\n",
            "fails with 128 channels, on maps of 4 x 4: AssertionError: too many",
        ),
        (FORWARD + "return x + self.nothing", "fails with 32 channels, on maps of 28 x 28: Attr"),
    ],
)
def test_a_block_that_cannot_be_trained_is_refused(tmp_path, text, problem):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SettingError, match=f"(?s){problem}"):
        check(find("mine.py:Mine", tmp_path), "inside", RECIPE)


def test_it_is_tried_wherever_the_network_has_it():
    assert places("inside", RECIPE) == [(32, 28), (32, 14), (64, 7), (128, 4)]
    assert places("between", RECIPE) == [(32, 14), (64, 7)]
    check(find(f"{ECA}:ECA"), "inside", PROFILES["study"].recipes["animals10"])
