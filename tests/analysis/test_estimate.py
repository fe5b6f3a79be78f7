"""What a profile will cost: counted on the models, and held against real training steps."""

import math
from dataclasses import replace

import paddle
import pytest
from attn_blocks.__main__ import main
from paddle import nn

from attn_blocks import models
from attn_blocks.errors import SettingError, TrainingError
from attn_book.analysis import estimate
from attn_book.analysis.estimate import DEFAULT, GIB, GPUS, MIB, Cost, Estimate
from attn_book.driver import reproduce
from attn_book.study.plan import plan
from attn_book.training import build

A100 = GPUS["A100"]


@pytest.fixture(scope="module")
def smoke(data_dir, tmp_path_factory):
    return plan("04_sge", "smoke", [0, 1], data_dir, tmp_path_factory.mktemp("results"), "cpu")


def counted(work, gpu=DEFAULT):
    """The estimate of a work, counted in this process."""
    cost = Cost(**estimate.count(work.experiment, len(work.images.classes)))
    return Estimate(work, cost, gpu, gpu.precision)


@pytest.fixture(scope="module")
def smoke_items(smoke):
    return [counted(work) for work in estimate.works([smoke])]


class TestCounting:
    def test_kept_bytes_are_the_inputs_that_gradients_need(self):
        # Kept: the image and the convolution's output, which is the batch norm's input; the ReLU
        # keeps its own output, and of the sum over it only shapes are needed.
        side, channels = 8, 6
        body = nn.Sequential(nn.Conv2D(3, channels, 1), nn.BatchNorm2D(channels), nn.ReLU())

        class Net(nn.Layer):
            def __init__(self):
                super().__init__()
                self.body = body

            def forward(self, x):
                return self.body(x).mean(axis=[2, 3])

        maps = 4 * side * side * (3 + channels + channels)
        kept = estimate.kept_bytes(Net(), side, batch=16)
        assert maps <= kept <= 1.1 * maps

    def test_kept_bytes_of_an_image_do_not_depend_on_the_batch_and_grow_with_its_area(self):
        model = models.create_model("resnet18", num_classes=10, width=0.25)
        at_64 = estimate.kept_bytes(model, 64, batch=4)
        assert estimate.kept_bytes(model, 64, batch=8) == pytest.approx(at_64, rel=0.02)
        assert estimate.kept_bytes(model, 128, batch=4) == pytest.approx(4 * at_64, rel=0.05)

    def test_counts_are_those_of_the_model(self, smoke, smoke_items):
        for item in smoke_items:
            model = build.build_model(item.work.experiment, len(item.work.images.classes))
            side = item.work.experiment.recipe.image_size
            assert item.cost.params == models.count_params(model)
            assert item.cost.macs == models.count_macs(model, (3, side, side))
            assert item.cost.kept == estimate.kept_bytes(model, side)

    def test_a_training_step_needs_what_was_counted(self, smoke_items):
        # Large enough that maps outweigh the code and the buffers that come with a first step.
        work = smoke_items[0].work
        recipe = replace(work.experiment.recipe, width=0.25, image_size=64, batch_size=128)
        item = counted(replace(work, experiment=replace(work.experiment, recipe=recipe)))
        [measured] = estimate._ask("step", [item.work], estimate.GIVE_BACK)
        assert 0.9 < measured["needed"] / item.cost.step_bytes(128) < 1.35
        assert measured["peak"] > measured["needed"]
        assert measured["seconds"] > 0

    def test_a_model_that_cannot_be_trained_is_named(self, smoke_items):
        work = smoke_items[1].work
        recipe = replace(work.experiment.recipe, image_size=1)
        work = replace(work, experiment=replace(work.experiment, recipe=recipe))
        with pytest.raises(TrainingError, match="cannot step sge_resnet50: .+"):
            estimate._ask("step", [work])


class TestPlans:
    def test_every_model_once_with_its_number_of_runs(self, smoke):
        both = estimate.works([smoke, smoke])
        assert [(work.title, work.runs) for work in both] == [
            ("ResNet-50", 2),
            ("SGE-ResNet-50", 2),
        ]

    def test_only_the_named_experiments_count(self, smoke):
        [name] = [e.name for e in smoke.experiments if e.model == "sge_resnet50" and e.seed == 1]
        [work] = estimate.works([smoke], [name])
        assert (work.title, work.runs, work.experiment.seed) == ("SGE-ResNet-50", 1, 1)

    def test_missing_data_sets_count_complete(self, data_dir):
        plans = estimate.plans_without_data([], data_dir, profile="paper")
        counted = {
            c.task: (len(c.images.train), len(c.images.val), len(c.images.classes))
            for page in plans
            for c in page.comparisons
        }
        assert counted == {
            "animals10": (20_938, 5_241, 10),
            "caltech16": (1_412, 359, 16),
            "cifar10": (50_000, 10_000, 10),
        }
        titles = {(work.title, work.data) for work in estimate.works(plans)}
        assert len(titles) == 16

    def test_small_profiles_count_the_images_they_use(self, data_dir):
        [first] = estimate.plans_without_data(["04_sge"], data_dir, profile="smoke")
        assert first.comparisons[0].images.name == "shapes"
        assert (len(first.comparisons[0].images.train), len(first.comparisons[0].images.val)) == (
            40,
            20,
        )

    def test_a_data_set_that_is_found_counts_as_found(self, tmp_path):
        from PIL import Image

        for name in ("cane", "gatto"):
            (tmp_path / "animals10" / name).mkdir(parents=True)
            for number in range(10):
                image = Image.new("RGB", (8, 8), (number, 0, 0))
                image.save(tmp_path / "animals10" / name / f"{number}.png")
        [first] = estimate.plans_without_data(["04_sge"], tmp_path, profile="paper")
        images = first.comparisons[0].images
        assert "2 of 10 classes; 16 / 4 images" in images.label


class TestArithmetic:
    # 10^9 multiply-accumulates and a million kept bytes an image, ten million parameters.
    COST = Cost(params=10_000_000, macs=10**9, kept=1_000_000)

    def item(self, work, gpu=A100, precision=None, cost=COST):
        return Estimate(work, cost, gpu, precision)

    def test_time_is_arithmetic_plus_memory_traffic(self, smoke_items):
        item = self.item(smoke_items[0].work)
        arithmetic = 6e9 / (0.35 * 156e12)
        traffic = 9e6 / (0.75 * 1555e9)
        assert item.image_seconds == pytest.approx(arithmetic + traffic)
        half = self.item(smoke_items[0].work, precision="bfloat16")
        assert half.image_seconds == pytest.approx((arithmetic + traffic) / 2)

    def test_gpus_without_tf32_count_in_float32(self, smoke_items):
        item = self.item(smoke_items[0].work, DEFAULT)
        assert item.image_seconds == pytest.approx(6e9 / (0.35 * 15.7e12) + 9e6 / (0.75 * 900e9))

    def test_runs_count_whole_batches_and_validation_a_third(self, smoke_items):
        work = smoke_items[0].work  # 40 and 20 images, batches of 16, 2 epochs, 2 seeds
        item = self.item(work)
        assert item.epoch_seconds == pytest.approx((32 + 20 / 3) * item.image_seconds)
        assert item.seconds == pytest.approx(2 * 2 * item.epoch_seconds)

    def test_memory_is_weights_three_times_and_what_is_kept(self, smoke_items):
        item = self.item(smoke_items[0].work)
        assert item.memory == pytest.approx(1 + (3 * 40e6 + 16 * 1e6) / GIB)

    def test_what_does_not_fit_says_what_to_lower(self, smoke_items):
        cost = replace(self.COST, kept=100 * MIB)
        item = self.item(smoke_items[0].work, replace(A100, memory=2.0), cost=cost)
        room = (2.0 - 1) * GIB - 3 * 40e6
        assert f"batch_size from 16 to {int(room // cost.kept)}" in item.warning
        assert estimate.summary([item]).endswith(item.warning)
        # At that batch it fits.
        work = item.work
        recipe = replace(work.experiment.recipe, batch_size=int(room // cost.kept))
        lower = replace(work, experiment=replace(work.experiment, recipe=recipe))
        assert replace(item, work=lower).warning is None
        hopeless = self.item(work, replace(A100, memory=1.1), cost=cost)
        assert "batch_size" not in hopeless.warning and "image_size" in hopeless.warning

    @pytest.mark.parametrize(
        ("gpu", "memory", "precision", "images_per_second"),
        [  # NVIDIA's own ResNet-50 in PyTorch, batch 256 (DeepLearningExamples, container 21.03)
            ("V100", 900, None, 367),
            ("V100", 900, "float16", 1200),
            ("A100", 2039, None, 938),
            ("A100", 2039, "bfloat16", 2470),
        ],
    )
    def test_published_speeds_are_met_within_a_factor_of_2_1(
        self, gpu, memory, precision, images_per_second, smoke_items
    ):
        # Parameters, MACs and kept bytes of resnet50 at 224 pixels; an 80 GB A100 was measured.
        cost = Cost(25_557_032, 4_089_184_256, 84_300_000)
        device = replace(GPUS[gpu], bandwidth=memory)
        item = self.item(smoke_items[0].work, device, precision, cost)
        assert 1 / 2.1 < images_per_second * item.image_seconds < 2.1

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(59, "59 seconds"), (600, "10 minutes"), (3 * 3600, "3.0 hours"), (9e5, "10 days")],
    )
    def test_durations_have_two_digits(self, seconds, words):
        assert estimate.duration(seconds) == words


class TestGPUs:
    @pytest.mark.parametrize(
        ("device", "name"),
        [
            ("Tesla V100-SXM2-16GB", "V100"),
            ("NVIDIA A100-SXM4-40GB", "A100"),
            ("NVIDIA A10", "A10"),
            ("NVIDIA GeForce RTX 4090", "RTX 4090"),
            ("NVIDIA H100 80GB HBM3", "H100"),
        ],
    )
    def test_drivers_names_are_known(self, device, name):
        assert estimate.named_in(device).name == name

    def test_others_are_not(self):
        assert estimate.named_in("NVIDIA GeForce GTX 1080") is None

    def test_names_are_found_as_people_write_them(self):
        assert estimate.find_gpu("rtx4090") is GPUS["RTX 4090"]
        assert estimate.find_gpu(" v100 ") is GPUS["V100"]
        with pytest.raises(SettingError, match="unknown GPU 'V10'.*V100, T4"):
            estimate.find_gpu("V10")

    def test_the_gpu_at_hand_counts_with_its_own_memory(self, monkeypatch):
        class Properties:
            name, total_memory = "Tesla V100-SXM2-32GB", 32 * GIB

        monkeypatch.setattr(estimate.runtime, "has_gpu", lambda: True)
        monkeypatch.setattr(paddle.device.cuda, "get_device_properties", Properties)
        gpu = estimate.find_gpu()
        assert (gpu.name, gpu.memory, gpu.bandwidth) == ("Tesla V100-SXM2-32GB", 32, 900)
        Properties.name = "Another"
        assert estimate.find_gpu() is DEFAULT

    def test_mixed_precision_is_what_a_run_would_use(self, monkeypatch):
        monkeypatch.delenv("ATTN_BLOCKS_AMP", raising=False)
        assert (DEFAULT.precision, A100.precision) == ("float16", "bfloat16")
        monkeypatch.setenv("ATTN_BLOCKS_AMP", "0")
        assert DEFAULT.precision is None
        assert "15.7 TFLOPS in float32" in str(DEFAULT)
        assert "156 TFLOPS in TF32" in str(A100)


class TestWords:
    def test_the_command_needs_neither_data_nor_gpu(self, data_dir, capsys):
        arguments = ["estimate", "sge", "--gpu", "t4", "--data-dir", str(data_dir)]
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("Profile paper on T4 (16 GiB, 300 GB/s, 65 TFLOPS in float16)")
        assert "Animals-10 (10 classes; 20,938 / 5,241 images)" in printed
        [row] = [line.split() for line in printed.splitlines() if line.startswith("SGE-ResNet-50")]
        assert row[1:4] == ["Animals-10", "224", "32"]
        assert float(row[4]) == pytest.approx(3 * 4.09, rel=0.02)  # GMACs, by the paper 4.13
        assert "2 runs, one after the other: about" in printed

    def test_the_write_ups_record_is_held_against_the_estimate(self, data_dir):
        line = estimate.reference_line(counted(estimate.published_senet(), A100))
        estimated, recorded = 183, 170  # both shown; the record's 40 epochs took 167 to 171 s
        assert f"{estimated} s an epoch in float32 on a V100" in line
        assert f"recorded {recorded} s" in line

    def test_a_reproduction_of_the_paper_profile_says_it_before_it_starts(
        self, smoke, smoke_items, capsys
    ):
        paper = replace(smoke, profile="paper")
        reproduce._say_what_is_coming([paper], 1)
        printed = capsys.readouterr().out
        assert "Estimate for V100" in printed
        assert estimate.summary(smoke_items) in printed
        assert "This machine trains on its processor: about" in printed
        assert "goes on from the last finished epoch" in printed

    def test_a_step_that_fails_stops_no_reproduction(self, smoke, smoke_items, monkeypatch):
        def ask(*_):
            raise TrainingError("cannot step ResNet-50: memory was short")

        monkeypatch.setattr(estimate, "estimates", lambda works, gpu: smoke_items)
        monkeypatch.setattr(estimate, "_ask", ask)
        told = estimate.announcement([smoke], [experiment.name for experiment in smoke.experiments])
        assert "is not known, cannot step ResNet-50: memory was short" in told

    def test_other_profiles_do_not(self, smoke, capsys):
        reproduce._say_what_is_coming([smoke], 1)
        assert "Estimate" not in capsys.readouterr().out


def test_time_on_this_processor_comes_from_measured_steps(smoke_items, monkeypatch):
    asked = []

    def ask(measure, works):
        asked.append((measure, works[0].title))
        return [{"seconds": 8.0}]

    monkeypatch.setattr(estimate, "_ask", ask)
    plain, sge = smoke_items
    per_image = 8.0 / 16
    expected = 2 * 2 * (32 + 20 / 3) * per_image * (1 + sge.cost.macs / plain.cost.macs)
    assert estimate.seconds_here(smoke_items) == pytest.approx(expected)
    assert asked == [("step", "ResNet-50")]


def test_the_check_reports_a_model(data_dir, smoke_items, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "works", lambda plans: [smoke_items[1].work])
    arguments = ["estimate", "sge", "--profile", "smoke", "--check", "--data-dir", str(data_dir)]
    assert main(arguments) == 0
    [line] = capsys.readouterr().out.splitlines()
    row = dict(cell.split(" ", 1) for cell in line.split("  "))
    assert row["model"] == "SGE-ResNet-50"
    assert row["batch"] == "16"
    assert 0 < float(row["loss"]) < 10
    counted_mib = smoke_items[1].cost.step_bytes(16) / MIB
    assert float(row["counted_mib"]) == pytest.approx(counted_mib, abs=0.51)
    assert int(row["peak_mib"]) > int(row["needed_mib"]) > counted_mib


@pytest.mark.long
def test_every_model_of_the_paper_profile_trains_at_its_true_shapes(data_dir):
    """One after the other; the largest takes about 10 GB, all of them some 20 minutes."""
    rows = list(estimate.check([], profile="paper", data_dir=data_dir))
    assert len(rows) == 16
    for row in rows:
        assert math.isfinite(float(row["loss"])), row
        assert row["peak_mib"] * MIB < 16 * GIB, row
        assert 0.9 < float(row["needed_by_counted"]) < 1.35, row
    shapes = {(row["data"], row["pixels"], row["batch"]) for row in rows}
    assert shapes == {("CIFAR-10", 32, 128), ("Animals-10", 224, 32), ("Caltech-16", 256, 32)}
