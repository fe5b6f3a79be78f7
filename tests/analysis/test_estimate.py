"""What a profile will cost: counted on the models, and held against recorded times."""

from dataclasses import replace

import paddle
import pytest

from attn_blocks import models
from attn_blocks.errors import SettingError
from attn_book.analysis import cost, estimate
from attn_book.analysis.estimate import GPUS, V100, ModelCost
from attn_book.driver import reproduce
from attn_book.driver.cli import main
from attn_book.study import claims
from attn_book.study.pages import PAGES
from attn_book.study.plan import plan
from attn_book.study.recipes import PROFILES
from attn_book.training import build

A100 = next(gpu for gpu in GPUS if gpu.name == "A100")
# 10^9 multiply-accumulates and a million kept bytes an image, ten million parameters.
ITEM = ModelCost(
    "A model", "Some data", PROFILES["paper"].recipes["animals10"], 2, 1e4, 10**7, 10**9, 10**6
)


@pytest.fixture(scope="module")
def smoke(data_dir, tmp_path_factory):
    return plan("04_sge", "smoke", [0, 1], data_dir, tmp_path_factory.mktemp("results"), "cpu")


@pytest.fixture(scope="module")
def counted(smoke):
    return estimate.costs([smoke, smoke])


def test_every_model_counts_once_with_its_runs_and_its_images(smoke, counted):
    assert [(item.title, item.runs) for item in counted] == [("ResNet-50", 2), ("SGE-ResNet-50", 2)]
    for item, experiment in zip(counted, smoke.experiments[::2], strict=True):
        assert item.images == pytest.approx(40 + 20 / 3)
        model, side = build.build_model(experiment, 10), item.recipe.image_size
        assert item.params == models.count_params(model)
        assert item.macs == models.count_macs(model, (3, side, side))
        assert item.kept == cost.kept_bytes(model, side)


def test_only_the_named_experiments_count(smoke):
    [name] = [e.name for e in smoke.experiments if e.model == "sge_resnet50" and e.seed == 1]
    [item] = estimate.costs([smoke], [name])
    assert (item.title, item.runs) == ("SGE-ResNet-50", 1)


def test_complete_data_sets_are_cut_as_the_recipe_wants():
    for task, counts in (("animals10", (20_938, 5_241)), ("caltech16", (1_412, 359))):
        images = estimate.complete(task, "real", PROFILES["paper"].recipes[task], None)
        assert (len(images.train), len(images.val)) == counts
        images = estimate.complete(task, "any", PROFILES["smoke"].recipes[task], None)
        recipe = PROFILES["smoke"].recipes[task]
        assert (len(images.train), len(images.val)) == (
            recipe.train_images,
            recipe.validation_images,
        )


def test_time_is_arithmetic_plus_memory_traffic():
    arithmetic, traffic = 6e9 / (0.35 * 156e12), 9e6 / (0.75 * 1555e9)
    assert ITEM.image_seconds(A100, mixed=False) == pytest.approx(arithmetic + traffic)
    assert ITEM.image_seconds(A100) == pytest.approx((arithmetic + traffic) / 2)
    epochs = 2 * ITEM.recipe.epochs
    assert ITEM.hours(A100) == pytest.approx(epochs * 1e4 * ITEM.image_seconds(A100) / 3600)


def test_memory_is_weights_three_times_and_what_is_kept():
    batch = ITEM.recipe.batch_size
    assert ITEM.memory == pytest.approx(1 + (3 * 40e6 + batch * 1e6) / 2**30)


@pytest.mark.parametrize(
    ("gpu", "bandwidth", "mixed", "images_per_second"),
    [  # NVIDIA's own ResNet-50 in PyTorch, batch 256 (DeepLearningExamples, container 21.03)
        (V100, 900, False, 367),
        (V100, 900, True, 1200),
        (A100, 2039, False, 938),
        (A100, 2039, True, 2470),
    ],
)
def test_published_speeds_are_met_within_a_factor_of_2_1(gpu, bandwidth, mixed, images_per_second):
    # Parameters, MACs and kept bytes of resnet50 at 224 pixels; an 80 GB A100 was measured.
    resnet = replace(ITEM, params=25_557_032, macs=4_089_184_256, kept=84_400_000)
    seconds = resnet.image_seconds(gpu._replace(bandwidth=bandwidth), mixed)
    assert 1 / 2.1 < images_per_second * seconds < 2.1


def test_the_one_time_that_a_write_up_recorded_is_met_within_a_factor_of_1_2():
    page = plan("01_se", "paper", seeds=0, device="cpu", load=estimate.complete)
    [name] = [e.name for e in page.experiments if e.options == {"squeeze": "none"}]
    [senet] = estimate.costs([page], [name])
    recorded = claims.reported_history("senet_cifar10")["seconds"].mean()
    assert recorded == pytest.approx(170, abs=1)
    assert 1 / 1.2 < senet.images * senet.image_seconds(V100, mixed=False) / recorded < 1.2


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce GTX 1080", "V100"),
    ],
)
def test_the_gpu_at_hand_is_found_by_its_drivers_name(device, name, monkeypatch):
    monkeypatch.setattr(estimate.device, "has_gpu", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda: device)
    assert estimate.find_gpu().name == name


def test_gpus_are_found_by_name():
    assert estimate.find_gpu(" v100 ") is V100
    with pytest.raises(SettingError, match="unknown GPU 'v10'.*v100, t4"):
        estimate.find_gpu("V10")


def test_the_command_needs_neither_images_nor_gpu(counted, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "costs", lambda plans: counted if len(plans) == 1 else [])
    assert main(["estimate", "sge", "--gpu", "t4"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Profile paper, complete data sets")
    [row] = [line.split() for line in printed.splitlines() if line.startswith("SGE-ResNet-50")]
    assert row[2:4] == [f"{counted[1].params:,}", f"{counted[1].macs / 1e6:,.1f}"]
    assert "4 runs, one after the other, take about 0.0 hours on a T4" in printed
    assert printed.rstrip().endswith(estimate.ASSUMED)


def test_a_page_that_trains_nothing_costs_nothing(capsys):
    assert main(["estimate", "export"]) == 2
    assert capsys.readouterr().err == "error: export trains nothing, so that it costs nothing\n"


def test_every_page_of_the_paper_profile_can_be_planned_without_images(monkeypatch):
    seen = []
    monkeypatch.setattr(estimate, "costs", lambda plans: seen.extend(plans) or [ITEM])
    estimate.report([], "V100", profile="paper")
    assert [page.page for page in seen] == list(PAGES)
    assert "Animals-10 (10 classes; 20,938 / 5,241 images)" in seen[0].provenance


def test_a_reproduction_of_the_paper_profile_says_it_before_it_starts(smoke, counted, capsys):
    reproduce._announce([replace(smoke, profile="paper")], 1)
    printed = capsys.readouterr().out
    assert f"Estimate, to a factor of two: {estimate.summary(counted, V100)}." in printed
    assert "On this machine's processor it takes many times as long" in printed
    assert "goes on from the last finished epoch" in printed
