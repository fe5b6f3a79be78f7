"""Threads, code path and devices."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest

from attn_blocks import device
from attn_blocks.errors import SettingError
from attn_book.study import recipes

CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
model name\t: Some Processor
flags\t\t: fpu sse2 {flags}

processor\t: 1
vendor_id\t: other
"""
AVX512 = "avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "code_path"),
    [
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", "avx2 fma", "5"),
        ("AuthenticAMD", "avx2", None),
        ("HygonGenuine", "avx2 fma", "5"),
        ("GenuineIntel", AVX512, None),
    ],
)
def test_the_code_path_follows_the_processor(vendor, flags, code_path):
    cpu = device.processor(CPUINFO.format(vendor=vendor, flags=flags))
    settings = device.tuned_environment(cpu, 4)
    assert settings.get("MKL_DEBUG_CPU_TYPE") == code_path
    assert settings["OMP_NUM_THREADS"] == "4"
    assert ("GLIBC_TUNABLES" in settings) == (sys.platform == "linux")


def test_a_machine_without_cpuinfo_is_left_alone():
    assert "MKL_DEBUG_CPU_TYPE" not in device.tuned_environment(device.processor(""), 2)


def test_what_the_user_set_stays_and_zero_switches_off(monkeypatch):
    monkeypatch.delitem(sys.modules, "paddle")
    environment = {"OMP_NUM_THREADS": "3"}
    assert "OMP_NUM_THREADS" not in device.tune_cpu(environment)
    assert environment["OMP_NUM_THREADS"] == "3"
    environment = {"ATTN_BLOCKS_TUNE": "0"}
    assert device.tune_cpu(environment) == {}
    assert environment == {"ATTN_BLOCKS_TUNE": "0"}


@pytest.mark.parametrize("call", ["attn_blocks.tune_cpu()", "import attn_book"])
def test_tuning_too_late_is_said(call):
    code = f"import paddle, attn_blocks, os; {call}; print(os.environ.get('GLIBC_TUNABLES'))"
    tuned = device.tuned_environment(device.processor(), device.cores())
    environment = {k: v for k, v in os.environ.items() if k not in tuned}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "call attn_blocks.tune_cpu(), or import attn_book, before paddle" in answer.stderr
    assert answer.stdout.strip() == "None"
    if device.cores() > 1:  # Paddle has set its own default of one thread by then
        assert f"OMP_NUM_THREADS={device.cores()}" in answer.stderr


PRODUCT = """
import sys
import attn_blocks
attn_blocks.tune_cpu()
import numpy as np, paddle
rng = np.random.default_rng(0)
x = paddle.to_tensor(rng.normal(size=(4, 16, 12, 12)).astype("float32"))
w = paddle.to_tensor(rng.normal(size=(24, 16, 3, 3)).astype("float32"), stop_gradient=False)
y = paddle.nn.functional.conv2d(x, w)
y.square().mean().backward()
np.savez(sys.argv[1], y=y.numpy(), grad=w.grad.numpy())
"""


def test_results_agree_with_the_untuned_path_to_rounding(tmp_path):
    arrays = []
    for tune in ("1", "0"):
        environment = {
            k: v
            for k, v in os.environ.items()
            if k not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")
        } | {"ATTN_BLOCKS_TUNE": tune}
        path = tmp_path / f"{tune}.npz"
        subprocess.run([sys.executable, "-c", PRODUCT, str(path)], env=environment, check=True)
        arrays.append(np.load(path))
    for name in ("y", "grad"):
        scale = abs(arrays[1][name]).max()
        np.testing.assert_allclose(arrays[0][name], arrays[1][name], rtol=0, atol=3e-6 * scale)


def test_devices():
    assert device.select_device("cpu") == "cpu"
    with pytest.raises(SettingError, match="tpu"):
        device.select_device("tpu")
    if not device.has_gpu():
        assert device.select_device() == "cpu"
        with pytest.raises(SettingError, match="sees no GPU"):
            device.select_device("gpu")


def test_a_gpu_build_without_a_gpu_computes_on_the_cpu(monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    assert not device.has_gpu()
    assert device.select_device() == "cpu"
    assert recipes.default_profile() == "quick"
    for name in ("gpu", "gpu:0"):
        with pytest.raises(SettingError, match=f"'{name}' asked for.*choose device='cpu'"):
            device.select_device(name)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle, "set_device", chosen.append)
    assert device.has_gpu()
    assert recipes.default_profile() == "paper"
    assert [device.select_device(name) for name in (None, "gpu:1", "cpu")] == chosen
    assert chosen == ["gpu", "gpu:1", "cpu"]
