"""What the write-ups report, and the claims of the protocol."""

import re

import pytest

from attn_blocks.errors import SettingError
from attn_blocks.files import PROJECT
from attn_book.study import claims
from attn_book.study.claims import BETTER, CLAIMS, PRIMARY, REACH, SECONDARY, SIZE
from attn_book.study.pages import OVERVIEW, PAGES, TASK_TITLES


def section():
    """The protocol's claims: (primary family, one network better than another, sizes, reach)."""
    text = (PROJECT / "book" / "protocol.md").read_text(encoding="utf-8")
    section = text.split("## Claims")[1].split("## Analysis")[0]
    primary, secondary = section.split("**Secondary family**")
    return primary, *secondary.split("\n* ")[1:]


def named(family, kind):
    return {(c.task, c.better, c.worse) for c in CLAIMS if (c.family, c.kind) == (family, kind)}


def test_the_primary_family_is_the_protocols():
    blocks = re.search(r": (.+), each better than ResNet-50\.", section()[0])[1]
    names = re.split(r", | and ", blocks)
    assert len(names) == 8
    expected = {("animals10", f"{name}-ResNet-50", "ResNet-50") for name in names}
    assert named(PRIMARY, BETTER) == expected
    assert {c.kind for c in CLAIMS if c.family == PRIMARY} == {BETTER}


def test_the_orders_of_the_secondary_family_are_the_protocols():
    expected = set()
    tasks = {title: task for task, title in TASK_TITLES.items()}
    for title, pairs in re.findall(r"([\w-]+): (.+?)[.;](?= |\n|$)", section()[1]):
        better = None
        for pair in re.split(r", (?:and )?", pairs):
            first, worse = re.fullmatch(r"(.*?) ?> (.+)", pair).groups()
            better = first or better  # "> VGG-19" goes on with the network before
            expected.add((tasks[title], *(in_full(name, title) for name in (better, worse))))
    assert len(expected) == 11
    assert named(SECONDARY, BETTER) == expected


def in_full(name, title):
    """A network's title, from the short name that the protocol gives it."""
    if title == "Animals-10":
        return f"{name}-ResNet-50"
    if title == "CIFAR-10":
        return f"SENet {name.removeprefix('SENet ')}"
    return name.replace("the same network without SA", "Residual-Inception without SA")


def test_sizes_and_what_is_reached_are_the_protocols():
    blocks = re.search(r": (.+) against ResNet-50 on Animals-10", section()[2])[1]
    names = re.split(r", | and ", blocks)
    expected = {("animals10", f"{name}-ResNet-50", "ResNet-50") for name in names}
    assert named(SECONDARY, SIZE) == expected
    assert "SENet as published reaches 87% on CIFAR-10" in section()[3]
    assert [c.text for c in CLAIMS if c.kind == REACH] == [
        "SENet as published reaches 87% on CIFAR-10"
    ]
    assert len(CLAIMS) == 24 == len({c.text for c in CLAIMS})


def test_every_claim_is_on_networks_that_are_trained():
    trained = {(c.task, entry.title) for c in PAGES[OVERVIEW] for entry in c.entries}
    for claim in CLAIMS:
        assert {(claim.task, t) for t in (claim.better, claim.worse) if t} <= trained, claim.text


def test_what_is_reported():
    of = {claim.text: claim for claim in CLAIMS}
    size = of["SE-ResNet-50 > ResNet-50 by 28.4 points on Animals-10"]
    assert (size.reported, size.accuracies) == (28.42, (0.8730, 0.5888))
    assert of["GC-ResNet-50 > NL-ResNet-50 on Animals-10"].reported == 0.64
    # Accuracies of two write-ups, and a write-up that shows curves alone.
    assert of["BAT-ResNet-50 > ResNet-50 on Animals-10"].reported is None
    assert of["SA-Residual-Inception > VGG-19 on Caltech-16"].reported is None
    assert of["SENet as published reaches 87% on CIFAR-10"].reported == 87.21


def test_reported_history_is_the_write_ups():
    history = claims.reported_history("senet_cifar10")
    assert list(history["epoch"]) == list(range(1, 41))
    assert history["test_acc"][-1] == 0.8721
    assert (history["test_acc"].max(), history["test_acc"].argmax() + 1) == (0.8805, 38)
    assert all(len(column) == 40 for column in history.values())
    with pytest.raises(SettingError, match="senet_cifar10"):
        claims.reported_history("senet")
