"""What a network spends its time on, faster on the CPU: convolution, batch norm, ReLU, addition.

Paddle's eager mode does not use oneDNN, the library that its own wheel carries, for convolutions;
``conv.cc`` is a custom operator that does. And it computes a batch norm, the addition of a residual
block and their ReLUs one by one; ``norm.cc`` holds operators that save passes over memory.
``accelerate(model)`` makes a model use them. Parameters, names and results (to float32 rounding)
stay the same, and the same number of threads gives the same bits.

The operators are compiled once and kept in the user's cache folder (``$XDG_CACHE_HOME`` or
``~/.cache``, below ``attn_blocks``). They need Linux, a C++ compiler, the CPU build of Paddle and
oneDNN's headers (``pip install --no-deps onednn-devel``). Where one of them is missing, or where
the operators' results differ from Paddle's, models run on Paddle's own.

============================  =================================================================
``ATTN_BLOCKS_NATIVE=0``      always Paddle's own operators
``ATTN_BLOCKS_NATIVE_BF16=1`` oneDNN may multiply in bfloat16 and add in float32: faster where the
                              processor has such instructions, three digits instead of seven.
                              Never compare runs of which only some were trained so
============================  =================================================================
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import paddle
from filelock import FileLock
from paddle import nn
from paddle.nn import functional as F

from attn_blocks.device import processor
from attn_blocks.native import norm

__all__ = ["accelerate", "available", "build", "describe"]

SOURCES = (Path(__file__).with_name("conv.cc"), Path(__file__).with_name("norm.cc"))
# Loops are vectorised for this very processor, as if no comparison could raise an exception.
# -w: the warnings are about Paddle's headers.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-w",
    "-DPADDLE_WITH_CUSTOM_KERNEL",
)
OPERATOR = "attn_blocks_conv2d"
SWITCHED_OFF = "ATTN_BLOCKS_NATIVE=0"
OPENMP = 2  # DNNL_RUNTIME_OMP
# oneDNN's results differ from Paddle's by the order of addition, far below this; an operator
# that computes something else differs by far more. bfloat16 carries 8 bits.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


class _Unavailable(Exception):
    """Why the native operators cannot be used here."""


class _Version(ctypes.Structure):
    """``dnnl_version_t``, https://oneapi-src.github.io/oneDNN/."""

    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


def _maths() -> str:
    return "bfloat16" if os.environ.get("ATTN_BLOCKS_NATIVE_BF16", "0") == "1" else "float32"


def _paddle_libraries() -> Path:
    return Path(paddle.__file__).parent / "libs"


def _library() -> tuple[Path, str]:
    """The oneDNN in Paddle's wheel: its path and its version."""
    if not sys.platform.startswith("linux"):
        raise _Unavailable(f"it is built on Linux only, not on {sys.platform}")
    if paddle.is_compiled_with_cuda():
        raise _Unavailable("this is the GPU build of Paddle")
    path = _paddle_libraries() / "libdnnl.so.3"
    if not path.exists():
        raise _Unavailable(f"Paddle {paddle.__version__} carries no oneDNN 3 ({path.name})")
    function = ctypes.CDLL(str(path)).dnnl_version
    function.restype = ctypes.POINTER(_Version)
    version = function().contents
    if version.cpu_runtime != OPENMP:
        raise _Unavailable("Paddle's oneDNN is not built on OpenMP")
    return path, f"{version.major}.{version.minor}.{version.patch}"


def _headers() -> Path:
    """The include folder of the PyPI package onednn-devel."""
    try:
        files = metadata.files("onednn-devel") or []
    except metadata.PackageNotFoundError:
        raise _Unavailable(
            "oneDNN's headers are missing; pip install --no-deps onednn-devel==2025.0.1"
        ) from None
    for file in files:
        if file.as_posix().endswith("include/oneapi/dnnl/dnnl.hpp"):
            return Path(file.locate()).resolve().parents[2]
    raise _Unavailable("the package onednn-devel holds no dnnl.hpp; install version 2025.0.1")


def _compiler() -> str:
    command = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not command:
        raise _Unavailable("there is no C++ compiler (g++)")
    return command


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "attn_blocks" / "native"


def _source_hash() -> str:
    """Of what the operators are compiled from."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    return hashlib.sha256("\n".join([*texts, *FLAGS]).encode()).hexdigest()[:12]


def _target(version: str) -> Path:
    """Where the operators for this source, Paddle, oneDNN and processor are kept."""
    cpu = processor()
    identity = (
        _source_hash(),
        paddle.__version__,
        paddle.version.commit,
        version,
        cpu["name"],
        *sorted(cpu["flags"]),
    )
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    return _cache_folder() / f"operators-{key}.so"


def _run(command: list[str], what: str) -> None:
    # The package may have been imported from a folder that another Python does not search.
    search = [str(SOURCES[0].parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise _Unavailable(f"{what} failed: {reason.strip()[:300]}")


def _compile(target: Path) -> None:
    """Compile, try in a process of its own (a crash must not reach this one), then publish."""
    library, _ = _library()
    base = Path(paddle.__file__).parent
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        output = Path(folder) / target.name
        include = [base / "include", base / "include" / "third_party", _headers()]
        # With libiomp5, Paddle's own OpenMP: the operators share its threads.
        names = ("libphi_core.so", "libphi.so", "libcommon.so", "libiomp5.so")
        libraries = [
            base / "base" / Path(paddle.base.core.libpaddle.__file__).name,
            *(base / "libs" / name for name in names),
            library,
        ]
        _run(
            [
                _compiler(),
                *FLAGS,
                *(f"-I{path}" for path in include),
                *map(str, SOURCES),
                "-o",
                str(output),
                *(str(path) for path in libraries if path.exists()),
            ],
            "compiling",
        )
        trial = "import sys; from attn_blocks import native; native._load(sys.argv[1])"
        _run([sys.executable, "-c", trial, str(output)], "the trial run")
        output.replace(target)


def _call(x, weight, bias, strides, paddings, dilations, groups):
    return paddle.base.core.eager._run_custom_op(
        OPERATOR,
        x,
        weight,
        bias,
        strides,
        paddings,
        dilations,
        groups,
        _maths() == "bfloat16",
        not x.stop_gradient,
    )[0]


def _compare(channels, outputs, kernel, stride, padding, dilation, groups) -> float:
    """Largest relative difference between the operator and Paddle, output and gradients."""
    random = np.random.default_rng(0)  # not Paddle's generator: a check must not move its state
    kernel_shape = (outputs, channels // groups, *kernel)
    shapes = ((2, channels, 11, 9), kernel_shape, (outputs,))
    arrays = [random.standard_normal(shape).astype("float32") for shape in shapes]
    results = []
    for native in (True, False):
        x, weight, bias = (paddle.to_tensor(array, stop_gradient=False) for array in arrays)
        if native:
            y = _call(x, weight, bias, [stride] * 2, padding, [dilation] * 2, groups)
        else:
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        weights = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
        (y * paddle.to_tensor(weights)).sum().backward()
        results.append([t.numpy() for t in (y, x.grad, weight.grad, bias.grad)])
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*results, strict=True))


def _load(path: str | os.PathLike) -> None:
    """Register the operators with Paddle and compare their results with Paddle's own."""
    register = paddle.utils.cpp_extension.load_op_meta_info_and_register_op
    try:
        register(str(path))
        with paddle.enable_grad():
            worst = max(
                _compare(16, 32, (3, 3), 1, [1, 1, 1, 1], 1, 1),
                _compare(8, 12, (1, 1), 2, [0, 0, 0, 0], 1, 1),
                _compare(6, 6, (3, 5), 2, [1, 0, 2, 1], 2, 6),
                norm.difference(),
            )
    except Exception as error:  # whatever Paddle raises, there is another way to train
        raise _Unavailable(f"loading it failed: {error}") from error
    if not worst <= TOLERANCE[_maths()]:
        raise _Unavailable(f"its results differ from Paddle's own by {worst:.1e}")


@functools.cache
def _ready() -> str:
    """Build the operators if that has not been done, and load them: why not, or ''."""
    try:
        _, version = _library()
        target = _target(version)
        if not target.exists():
            _cache_folder().mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                if not target.exists():
                    _compile(target)
        _load(target)
    except (_Unavailable, OSError) as error:
        return str(error)
    return ""


def _reason() -> str:
    """Why the native operators are not used, or ''."""
    if os.environ.get("ATTN_BLOCKS_NATIVE", "1") == "0":
        return SWITCHED_OFF
    return _ready()


def available() -> bool:
    """Whether the native operators work here; compiles them the first time (20 seconds)."""
    return not _reason()


def build() -> str:
    """Build the native operators and say in one sentence how that went; never raises."""
    reason = _reason()
    if reason:
        return f"Native operators: not used, Paddle's own are ({reason})."
    return f"Native operators: ready (oneDNN {_library()[1]}, {_maths()})."


def describe() -> dict[str, object]:
    """The native operators in a run's record: enabled, library, source hash, maths, reason."""
    reason = _reason()
    return {
        "enabled": not reason,
        "library": None if reason else f"oneDNN {_library()[1]}",
        "source": None if reason else _source_hash(),
        "maths": "float32" if reason else _maths(),
        "reason": reason or None,
    }


class NativeConv2D(nn.Conv2D):
    """``nn.Conv2D`` through the native operator. ``accelerate`` makes these, nobody else does.

    Paddle's own way is taken for what the operator does not cover: static graphs (so that
    ``paddle.jit.save`` writes the ordinary operator), other types than float32, and inputs that
    do not fit (so that the error is Paddle's).
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not paddle.in_dynamic_mode() or x.dtype != paddle.float32 or not self._fits(x.shape):
            return super().forward(x)
        y = _call(
            x,
            self.weight,
            _no_bias() if self.bias is None else self.bias,
            self._stride,
            _four_sides(self._updated_padding),
            self._dilation,
            self._groups,
        )
        if not paddle.is_grad_enabled():
            y.stop_gradient = (
                True  # Paddle records nothing then, but leaves a custom operator's flag
            )
        return y

    def _fits(self, shape: list[int]) -> bool:
        return len(shape) == 4 and shape[0] > 0 and shape[1] == self._in_channels


@functools.cache
def _no_bias() -> paddle.Tensor:
    return paddle.zeros([0])


def _four_sides(padding: list[int]) -> list[int]:
    """Paddle's [height, width] or [top, bottom, left, right] as the latter."""
    return [side for side in padding for _ in range(2)] if len(padding) == 2 else padding


def _suitable(layer: nn.Layer) -> bool:
    # Exactly nn.Conv2D: a subclass may compute something else.
    return (
        type(layer) is nn.Conv2D
        and layer._data_format == "NCHW"
        and layer._padding_mode == "zeros"
        and layer._padding_algorithm != "SAME"
    )


def _worthwhile(layer: nn.Conv2D) -> bool:
    """Whether oneDNN has a fast kernel for these channels; for others it can be far slower.

    It has for depth-wise layers and for multiples of eight; kernels of more than one pixel also
    want at least sixteen input channels, or the three of an image.
    """
    inputs, outputs = layer._in_channels // layer._groups, layer._out_channels // layer._groups
    if inputs == outputs == 1 and layer._groups > 1:
        return True
    wide = layer._kernel_size == [1, 1] or inputs >= 16
    return ((inputs % 8 == 0 and wide) or inputs == 3) and outputs % 8 == 0


def accelerate(model: nn.Layer) -> nn.Layer:
    """Make every suitable layer of ``model`` use the native operators; returns ``model``.

    Convolutions (``nn.Conv2D``), batch norms, ReLUs and ``models.fused.AddReLU`` stay where they
    are and keep their parameters and names: only their class becomes the native one. Convolutions
    with padding "SAME", a padding mode other than zeros or channel counts for which oneDNN has no
    fast kernel are left alone, so are layers on NHWC data, and all of them where the native
    operators are not available.
    """
    reason = _reason()
    if reason:
        if reason != SWITCHED_OFF:
            warnings.warn(f"training on Paddle's own, slower operators: {reason}", stacklevel=2)
        return model
    for layer in model.sublayers(include_self=True):
        if _suitable(layer) and _worthwhile(layer):
            layer.__class__ = NativeConv2D
        elif replacement := norm.native_class(layer):
            layer.__class__ = replacement
    return model
