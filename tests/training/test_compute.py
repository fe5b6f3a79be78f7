"""Precision, determinism, layout, batches, loss scales and seeds."""

import numpy as np
import paddle
import pytest

from attn_blocks import device
from attn_blocks.errors import SettingError, TrainingError
from attn_book.training import compute as computing


def test_a_seed_repeats_weights_and_noise():
    def draw():
        computing.seed_everything(7)
        return paddle.nn.Linear(3, 3).weight.numpy(), np.random.rand()

    (first, noise), (second, again) = draw(), draw()
    np.testing.assert_array_equal(first, second)
    assert noise == again


@pytest.mark.parametrize(
    ("capability", "setting", "amp"),
    [
        ((9, 0), "", "bfloat16"),
        ((8, 0), "auto", "bfloat16"),
        ((7, 5), "", "float16"),
        ((6, 1), "", None),
        (None, "", None),
        ((8, 6), "float16", "float16"),
        ((8, 6), "0", None),
        ((8, 6), "float32", None),
        (None, "0", None),
    ],
)
def test_the_precision_follows_the_gpu_and_the_setting(capability, setting, amp):
    device = "cpu" if capability is None else "gpu"
    assert computing.decide(device, capability, {"ATTN_BLOCKS_AMP": setting}).amp == amp


@pytest.mark.parametrize(
    ("capability", "settings", "words"),
    [
        (None, {"AMP": "bfloat16"}, "8.0 or more, and this is the CPU; choose 0"),
        ((7, 0), {"AMP": "bfloat16"}, "of compute capability 7.0; choose float16 or 0"),
        ((8, 0), {"AMP": "fp16"}, "ATTN_BLOCKS_AMP is 'fp16'"),
        (None, {"CHANNELS_LAST": "1"}, "needs a GPU and mixed precision"),
        ((8, 0), {"CHANNELS_LAST": "1", "AMP": "0"}, "needs a GPU and mixed precision"),
        (None, {"TO_STATIC": "yes"}, "ATTN_BLOCKS_TO_STATIC is 'yes'"),
        ((8, 0), {"DETERMINISTIC": "no"}, "ATTN_BLOCKS_DETERMINISTIC is 'no'"),
    ],
)
def test_settings_that_the_device_cannot_follow(capability, settings, words):
    device = "cpu" if capability is None else "gpu"
    environment = {f"ATTN_BLOCKS_{name}": value for name, value in settings.items()}
    with pytest.raises(SettingError, match=words):
        computing.decide(device, capability, environment)


def test_the_cpu_computes_as_ever():
    compute = computing.decide("cpu", None, {}, available_cores=64)
    assert compute == computing.Compute("cpu", loader_threads=8)
    assert computing.decide("cpu", None, {}, available_cores=0).loader_threads == 1
    assert not compute.scaler().is_enable()
    linear = paddle.nn.Linear(2, 2)
    assert compute.network(linear) is linear
    with compute.autocast():
        assert linear(paddle.ones([1, 2])).dtype == paddle.float32
    record = compute.describe()
    assert (record["device"], record["amp"], record["pinned_memory"]) == ("cpu", None, False)
    assert "gpu" not in record
    with pytest.raises(SettingError, match="one process only"):
        computing.compute("cpu", processes=2, environment={"ATTN_BLOCKS_TO_STATIC": "1"})


@pytest.mark.parametrize(("value", "threads"), [("4", 4), ("4,2", 4), ("", None)])
def test_the_threads_that_are_asked_for(value, threads):
    assert computing.threads_asked({"OMP_NUM_THREADS": value}) == threads


@pytest.mark.parametrize("value", ["0", "two", ",2"])
def test_threads_that_cannot_be(value):
    with pytest.raises(SettingError, match="OMP_NUM_THREADS is"):
        computing.threads_asked({"OMP_NUM_THREADS": value})


@pytest.fixture
def gpu_settings(monkeypatch):
    """A GPU of compute capability 7.0; what Paddle is told is collected."""
    said = {}
    cuda = paddle.device.cuda
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cuda, "get_device_capability", lambda *_: (7, 0))
    monkeypatch.setattr(cuda, "get_device_name", lambda *_: "Some GPU")
    monkeypatch.setattr(paddle.version, "cuda_archs", lambda: [70], raising=False)
    monkeypatch.setattr(paddle, "set_device", lambda name: said.update(device=name))
    monkeypatch.setattr(paddle, "set_flags", said.update)
    monkeypatch.setattr(paddle.incubate.autotune, "set_config", said.update)
    return said


def test_a_gpu_repeats_its_results_unless_it_is_told_not_to(gpu_settings):
    compute = computing.compute(None, environment={})
    assert gpu_settings == {
        "device": "gpu",
        "FLAGS_cudnn_deterministic": True,
        "FLAGS_cudnn_exhaustive_search": False,
        "layout": {"enable": False},
    }
    record = compute.describe()
    assert (record["gpu"], record["amp"], record["pinned_memory"]) == ("Some GPU", "float16", True)
    assert record["loss_scaling"]

    settings = {"ATTN_BLOCKS_DETERMINISTIC": "0", "ATTN_BLOCKS_CHANNELS_LAST": "1"}
    compute = computing.compute("gpu:1", environment=settings)
    assert gpu_settings == {
        "device": "gpu:1",
        "FLAGS_cudnn_deterministic": False,
        "FLAGS_cudnn_exhaustive_search": True,
        "layout": {"enable": True},
    }
    assert not compute.describe()["deterministic"]
    with pytest.raises(SettingError, match="gpu:2.*2 GPUs"):
        device.select_device("gpu:2")


def test_batches_reach_a_gpu_through_pinned_memory(monkeypatch):
    made = []

    class Pinned:
        def __init__(self, array, place):
            self.array, self.place = array, place
            made.append(self)

        def cuda(self, blocking):
            return self.array, self.place, blocking

    batches = [(np.zeros(2), np.ones(1)), (np.zeros(3), np.ones(2))]
    (pixels, labels), _ = list(computing.Compute("cpu").batches(batches))
    assert (pixels.shape, labels.shape) == ([2], [1])
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned", raising=False)
    monkeypatch.setattr(paddle, "to_tensor", Pinned)
    arrived = list(computing.Compute("gpu").batches(batches))
    assert [array for batch in arrived for array, _, _ in batch] == [a for b in batches for a in b]
    assert {place for batch in arrived for _, place, _ in batch} == {"pinned"}
    assert not any(blocking for batch in arrived for _, _, blocking in batch)


def test_each_epoch_and_process_has_noise_of_its_own():
    def draw(*settings):
        computing.seed_noise(*settings)
        return paddle.rand([4]).numpy().tolist()

    settings = [(0, 0), (0, 1), (1, 0), (0, 0, 1), (0, 1, 1)]
    draws = [draw(*each) for each in settings]
    assert draws == [draw(*each) for each in settings]
    assert len({tuple(each) for each in draws}) == len(settings)


def test_the_loss_scale_is_saved_and_restored(loss_scaler):
    again = paddle.amp.GradScaler(enable=False)
    assert computing.scaler_state(again) == {}
    computing.restore_scaler(again, computing.scaler_state(loss_scaler))  # float32 after float16
    assert not again.is_enable()
    saved = computing.scaler_state(loss_scaler)
    loss_scaler.load_state_dict({**loss_scaler.state_dict(), "scale": np.array([2.0], "float32")})
    computing.restore_scaler(loss_scaler, {})
    assert loss_scaler.state_dict()["scale"] == 2
    computing.restore_scaler(loss_scaler, saved)
    assert computing.scaler_state(loss_scaler) == saved
    assert loss_scaler.state_dict()["scale"] == 2.0**16


def test_a_loss_scale_does_not_fall_for_ever(loss_scaler):
    layer = paddle.nn.Linear(1, 1)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=layer.parameters())
    loss_scaler.load_state_dict({**loss_scaler.state_dict(), "scale": np.array([4.0], "float32")})
    weight = layer.weight.numpy()
    with pytest.raises(TrainingError, match="ATTN_BLOCKS_AMP=0"):
        for _ in range(4):
            loss_scaler.scale(layer(paddle.full([1, 1], np.inf)).sum()).backward()
            loss_scaler.step(optimizer)
            loss_scaler.update()
            optimizer.clear_grad()
            assert loss_scaler.state_dict()["scale"] >= 1
    np.testing.assert_array_equal(layer.weight.numpy(), weight)
