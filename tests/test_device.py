"""Threads, code path and devices."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest

from attn_blocks import device, files
from attn_blocks.errors import DataError, SettingError
from attn_book.driver.reproduce import reproduce
from attn_book.study import recipes
from attn_book.study.plan import plan

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


TOO_LATE = """
import os, sys, paddle, attn_blocks
attn_blocks.tune_cpu()
print("and", file=sys.stderr)
import attn_book
print(os.environ.get("GLIBC_TUNABLES"))
"""


def test_tuning_too_late_is_said():
    tuned = device.tuned_environment(device.processor(), device.cores())
    environment = {k: v for k, v in os.environ.items() if k not in tuned}
    command = [sys.executable, "-c", TOO_LATE]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "None"
    by_call, by_import = answer.stderr.split("\nand\n")
    for said in (by_call, by_import):
        assert "call attn_blocks.tune_cpu(), or import attn_book, before paddle" in said
        if device.cores() > 1:  # Paddle has set its own default of one thread by then
            assert f"OMP_NUM_THREADS={device.cores()}" in said


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
        with pytest.raises(SettingError, match="can use no GPU"):
            device.select_device("gpu")


def test_what_paddle_says_before_it_cannot_be_imported_is_shown(tmp_path, monkeypatch, capsys):
    words = "import sys; print('libsomething is missing', file=sys.stderr); raise ImportError"
    (tmp_path / "paddle.py").write_text(words)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "paddle")
    with pytest.raises(ImportError):
        device.import_paddle()
    assert capsys.readouterr().err == "libsomething is missing\n"


# As nvidia-smi prints them.
GTX_1080 = "NVIDIA GeForce GTX 1080, 535.183.01, 6.1"
RTX_4090 = "NVIDIA GeForce RTX 4090, 550.54.14, 8.9"
H100 = "NVIDIA H100 80GB HBM3, 535.104.05, 9.0"
RTX_5090 = "NVIDIA GeForce RTX 5090, 575.64, 12.0"
OLD_DRIVER = "NVIDIA H100 80GB HBM3, 520.61.05, 9.0"
CU126 = [70, 75, 80, 86, 89, 90]


@pytest.mark.parametrize(
    ("line", "seen"), [(RTX_4090, (8, 9)), (H100, (9, 0)), (H100.replace("9.0", "7.0"), (7, 0))]
)
def test_a_gpu_that_the_build_has_code_for_is_taken(machine, line, seen):
    machine([line], CU126, [seen, seen])
    assert device.gpu_problem() == ""
    assert recipes.default_profile() == "paper"
    assert [device.select_device(name) for name in (None, "gpu:1", "cpu")] == [
        "gpu",
        "gpu:1",
        "cpu",
    ]
    with pytest.raises(SettingError, match="'gpu:2' asked for, and this Paddle sees 2 GPUs"):
        device.select_device("gpu:2")


UNUSABLE = [
    # A build without code for the GPU: too old, too new.
    (
        [GTX_1080],
        CU126,
        [(6, 1)],
        "only for 7.0, 7.5, 8.0, 8.6, 8.9, 9.0; .*: make setup PADDLE=cu118",
    ),
    ([RTX_5090], CU126, [(12, 0)], "no code for Some GPU .*12.0.*: make setup PADDLE=cu129"),
    # A container without nvidia-smi.
    ([], CU126, [(12, 0)], "Some GPU .*12.0.* is here: make setup PADDLE=cu129"),
    # What is recommended is installed already.
    ([H100], [61, 70, 80], [(9, 0)], "no code for Some GPU .*; to train on the processor"),
    # The CPU build beside a GPU.
    ([RTX_4090], None, [], "this is the CPU build of Paddle; .*4090.*: make setup PADDLE=cu126"),
    # A driver that is too old, which CUDA says by an error.
    (
        [OLD_DRIVER],
        CU126,
        OSError("CUDA error(35), CUDA driver version is insufficient"),
        "built for CUDA 12.6, finds no GPU it can use; .*needs the driver 525.60.13 or newer",
    ),
    ([OLD_DRIVER], CU126, [], "needs the driver 525.60.13 or newer .*choose device cpu"),
]


@pytest.mark.filterwarnings("ignore:computing on the processor")
@pytest.mark.parametrize(("lines", "archs", "seen", "words"), UNUSABLE)
def test_a_gpu_that_the_build_cannot_use_stops_the_paper_profile(
    machine, lines, archs, seen, words, data_dir, tmp_path
):
    machine(lines, archs, seen)
    assert recipes.default_profile() == "quick"
    assert device.select_device() == "cpu"
    with pytest.raises(SettingError, match=f"(?s)'gpu' asked for, .*{words}"):
        device.select_device("gpu")
    folders = {"data_dir": data_dir, "results_dir": tmp_path / "results"}
    with pytest.raises(SettingError, match=f"(?s)the paper profile is made for the GPU, .*{words}"):
        reproduce(["04_sge"], profile="paper", **folders)
    assert not (tmp_path / "results").exists()
    with pytest.raises(DataError):  # not the GPU is missing, where the processor was chosen
        plan("04_sge", "paper", device="cpu", **folders)


def test_a_gpu_that_was_hidden_on_purpose_is_no_problem(machine, monkeypatch):
    machine([RTX_4090], CU126, [])
    assert device.gpu_problem()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.gpu_problem() == ""


def test_a_gpu_without_code_for_it_is_not_passed_over_in_silence(machine):
    machine([RTX_5090], CU126, [(12, 0)])
    with pytest.warns(UserWarning, match="computing on the processor: this build of Paddle has no"):
        device.select_device()


@pytest.mark.parametrize("archs", [None, CU126])  # the CPU build, and a GPU build on a CPU host
def test_a_machine_without_a_gpu_computes_on_the_cpu(machine, archs):
    machine([], archs)
    assert device.gpu_problem() == ""
    assert device.select_device() == "cpu"
    assert recipes.default_profile() == "quick"
    for name in ("gpu", "gpu:0"):
        with pytest.raises(SettingError, match=f"'{name}' asked for.*choose device cpu"):
            device.select_device(name)


def test_a_gpu_that_cannot_be_used_beside_one_that_can_is_named_alone(machine):
    machine([RTX_4090, RTX_5090], CU126, [(8, 9), (12, 0)])
    with pytest.raises(SettingError, match="'gpu:1' asked for, which Paddle cannot use: .*12.0"):
        device.select_device("gpu:1")


def test_a_build_that_does_not_tell_is_tried(machine, monkeypatch):
    machine([H100], [], [(9, 0)])
    monkeypatch.setattr(device, "_computes", lambda number: True)
    assert device.has_gpu()
    monkeypatch.setattr(device, "_computes", lambda number: False)
    assert "has no code for Some GPU (compute capability 9.0); " in device.gpu_problem()


def test_the_trial_computes_on_the_gpu_and_survives_a_crash(monkeypatch):
    assert device.gpu_count() or not device._computes(0)
    device._computes.cache_clear()
    monkeypatch.setattr(device.sys, "executable", "false")  # as an aborted one ends
    assert not device._computes(0)
    device._computes.cache_clear()


def test_outside_a_checkout_the_advice_is_pips(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    line = device.install_line("cu129")
    assert f"paddlepaddle-gpu=={paddle.__version__} --extra-index-url https://" in line
    assert line.endswith("/stable/cu129/")
    assert device.install_line("cpu").endswith(f"pip install paddlepaddle=={paddle.__version__}")
