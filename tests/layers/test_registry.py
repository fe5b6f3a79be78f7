import inspect

import numpy as np
import paddle
import pytest

from attn_blocks.layers import ATTNS, create_attn, keywords_of, list_attns
from attn_blocks.layers.base import hidden_width, largest_divisor, register

NAMES = ["bat", "gc", "ge", "nl", "sa", "se", "sge", "srm"]


def test_all_blocks_are_listed():
    assert set(NAMES) <= set(list_attns())
    assert list_attns() == sorted(ATTNS)


@pytest.mark.parametrize("name", list_attns())
def test_first_argument_is_the_channel_count(name):
    parameters = list(inspect.signature(ATTNS[name].__init__).parameters)
    assert parameters[:2] == ["self", "channels"]
    assert create_attn(name, 128).channels == 128


def test_keywords_reach_the_block():
    assert create_attn("sge", 32, groups=8).groups == 8


@pytest.mark.parametrize("name", list_attns())
@pytest.mark.parametrize("channels", [0, -4, 2.0, True])
def test_channel_count_must_be_a_positive_whole_number(name, channels):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        create_attn(name, channels)


@pytest.mark.parametrize("name", NAMES)
def test_channel_count_may_be_numpys(name):
    block = create_attn(name, np.int64(128))
    assert type(block.channels) is int
    assert block(paddle.zeros([2, 128, 14, 14])).shape == [2, 128, 14, 14]


@pytest.mark.parametrize("name", list_attns())
@pytest.mark.parametrize("shape", [[2, 64, 4, 4], [2, 128, 4], [128, 4, 4], [2, 1, 4, 4]])
def test_input_of_another_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match=r"takes \[N, 128, H, W\]"):
        create_attn(name, 128)(paddle.zeros(shape))


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'sgee'; choose one of: bat, gc, .*did you mean 'sge'"):
        create_attn("sgee", 64)
    with pytest.raises(ValueError, match="unknown attention block 'x'; choose one of: bat"):
        keywords_of("x")


def test_unknown_keyword_lists_the_valid_ones():
    with pytest.raises(ValueError, match="keyword of 'sge' 'group'; choose one of: groups"):
        create_attn("sge", 64, group=8)
    with pytest.raises(ValueError, match="'srm' takes no keywords, got 'reduction'"):
        create_attn("srm", 64, reduction=8)


def test_the_keywords_of_a_readers_block_are_what_follows_its_channels(monkeypatch):
    class Own(paddle.nn.Layer):
        def __init__(self, dim, kernel, scale=2.0, **others):
            super().__init__()

    monkeypatch.setitem(ATTNS, "own", Own)
    assert keywords_of("own") == {"kernel": inspect.Parameter.empty, "scale": 2.0}
    with pytest.raises(ValueError, match="keyword of 'own' 'dim'; choose one of: kernel, scale"):
        create_attn("own", 64, dim=64)


ODD = [None, -1, 0, True, 2.5, 1000, float("nan"), float("inf"), "x", (), (1,), (3, 3), (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "keyword"), [(name, keyword) for name in list_attns() for keyword in keywords_of(name)]
)
def test_any_setting_works_or_is_refused_in_words_that_name_it(name, keyword):
    for value in ODD:
        with paddle.LazyGuard():  # a very wide hidden layer needs no memory
            try:
                block = create_attn(name, 64, **{keyword: value})
            except ValueError as error:
                assert keyword in str(error), f"{keyword}={value!r}: {error}"
                continue
        assert block.channels == 64


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("nl", {"channels": 1}, "channels=1 leaves no inner channel, C // 2; give inner=1"),
        ("ge", {"extent": None}, "extent=None must be 0 .* or a power of two: 2, 4 or 8"),
        ("ge", {"extent": 6}, "extent=6 must be 0"),
        ("ge", {"variant": "theta", "feat_size": (7, 7, 7)}, r"feat_size=.* such as \(56, 56\)"),
        ("gc", {"fusion": True}, r'fusion=True; give \("add",\), \("mul",\)'),
        ("gc", {"epsilon": -1}, "epsilon=-1 must be a number above 0; epsilon=1e-05 works"),
        ("gc", {"ratio": float("nan")}, "ratio=nan must be a number above 0; ratio=0.0625 works"),
        ("nl", {"epsilon": -1}, "epsilon=-1 must be a number above 0; epsilon=1e-05 works"),
        ("nl", {"scale": "none"}, "scale='none' must be a number above 0; scale=0.176777 works"),
        ("bat", {"dropout": None}, "dropout=None must be at least 0 and less than 1, such as 0.2"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_one_that_does(name, keywords, words):
    with pytest.raises(ValueError, match=words):
        create_attn(name, **{"channels": 64, **keywords})


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'se' is registered already, as .*SqueezeExcite; choose"):
        register("se")(paddle.nn.Identity)
    assert ATTNS["se"].__name__ == "SqueezeExcite"


def test_a_class_may_be_registered_again_as_a_cell_that_is_run_twice_does(monkeypatch):
    monkeypatch.setitem(ATTNS, "own", None)
    del ATTNS["own"]
    for _ in range(2):

        @register("own")
        class Own(paddle.nn.Layer):
            pass

    assert ATTNS["own"] is Own


def test_hidden_width():
    assert hidden_width(64, 16) == 4
    assert hidden_width(64, 128, hidden=3) == 3
    with pytest.raises(ValueError, match="reduction=16 leaves none of 8 .* reduction <= 8"):
        hidden_width(8, 16)


def test_largest_divisor():
    assert largest_divisor(48, 32) == 24
    assert largest_divisor(7, 6) == 1
    assert largest_divisor(4, 64) == 4
