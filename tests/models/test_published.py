"""Exact parameter counts and MACs: those of the papers' own PyTorch code, of 1000 and 10 classes.

The numbers were counted there (torch's FlopCounterMode / 2 for the MACs, at 224 pixels).
"""

import paddle
import pytest

import attn_blocks as ab
from attn_blocks.models import published
from attn_blocks.models.published import ROWS

COUNTS = [  # name, options, parameters of 1000 classes, of 10 classes, MACs of 1000 classes
    ("resnet50", {}, 25557032, 23528522, 4089184256),
    ("se_resnet50", {}, 28088024, 26059514, 4091699200),
    ("se_resnet50", {"bias": False}, 28071976, 26043466, 4091699200),
    ("ge_resnet50", {}, 31121704, 29093194, 4094703616),
    ("ge_resnet50", {"variant": "theta_minus"}, 25557032, 23528522, None),
    ("ge_resnet50", {"conv_bias": False}, 31106600, 29078090, None),
    ("ge_resnet50", {"variant": "theta_plus"}, 33637592, 31609082, None),
    ("srm_resnet50", {}, 25617448, 23588938, 4089184256),
    ("sge_resnet50", {}, 25559080, 23530570, 4089184256),
    ("sa_resnet50", {}, 25557740, 23529230, 4089184256),
    ("nl_resnet50", {}, 32915496, 30886986, 6891814912),
    ("bat_resnet50", {}, 30234220, 28205710, 5407463008),
    ("bat_se_resnet50", {}, 32765212, 30736702, 5409977952),
    ("gc_resnet50", {"placement": "inside_c3_c5"}, 28078773, 26050263, 4097896448),
    ("gc_resnet50", {"placement": "inside"}, 28105032, 26076522, 4102737920),
    ("gc_resnet50", {"placement": "inside_c3_c5", "ratio": 1 / 4}, 35557941, 33529431, 4105367552),
    ("gc_resnet50", {}, 26024749, 23996239, 4092452864),
    ("gc_resnet50", {"ratio": 1 / 4}, 27403309, 25374799, 4093829120),
    ("gc_resnet50", {"ratio": 1 / 2}, 29241389, 27212879, 4095664128),
]


@pytest.mark.parametrize(("name", "options", "params_1000", "params_10", "macs"), COUNTS)
def test_counts_equal_the_papers_code(name, options, params_1000, params_10, macs):
    with paddle.LazyGuard():
        model = ab.create_model(name, 1000, **options)
        ten_classes = ab.create_model(name, 10, **options)
    assert ab.count_params(model) == params_1000
    assert ab.count_params(ten_classes) == params_10
    if macs:
        assert ab.count_macs(model, (3, 224, 224)) == pytest.approx(macs, rel=1e-5)


def test_the_table_quotes_the_same_figures():
    quoted = {(row.name, str(row.options)): row for row in ROWS}
    for name, options, params_1000, _, macs in COUNTS:
        row = quoted[name, str(options)]
        assert row.reference_params == params_1000
        assert row.reference_gmac == (round(macs / 1e9, 3) if macs else None)


def test_a_row_shows_ours_beside_theirs(monkeypatch):
    rows = [row for row in ROWS if row.name in ("senet_cifar", "resnet18", "mobilenet_v2")]
    monkeypatch.setattr("attn_blocks.models.published.ROWS", rows)
    for row, shown in zip(rows, published.table(), strict=True):
        assert shown["model"] == row.name
        assert shown["params"] == shown["reference_params"] == row.reference_params
        assert shown["gmac"] == pytest.approx(row.reference_gmac, abs=5e-3)
        assert shown["code"]


def test_every_network_of_the_book_has_a_row():
    from_experiments = {f"{block}_resnet50" for block in ab.list_attns()} | {"resnet50"}
    rows = {row.name for row in ROWS}
    assert from_experiments | {"senet_cifar", "sa_inception", "vgg19", "mobilenet_v2"} <= rows
