"""The compiled operators: found in the user's cache or compiled, tried, loaded and compared.

They are compiled once and kept in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``,
below ``attn_blocks``). They need Linux, a C++ compiler, the CPU build of Paddle and the headers of
oneDNN (``pip install --no-deps onednn-devel``).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import paddle
from filelock import FileLock

from attn_blocks.device import processor
from attn_blocks.errors import SettingError
from attn_blocks.files import user_cache
from attn_blocks.native import conv, maps, norm

HEADER = Path(__file__).with_name("tensors.h")
SOURCES = tuple(Path(__file__).with_name(f"{name}.cc") for name in ("conv", "norm", "maps"))
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
OPENMP = 2  # DNNL_RUNTIME_OMP
# oneDNN's results differ from Paddle's by the order of addition, far below this; an operator
# that computes something else differs by far more. bfloat16 carries 8 bits.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


class Unavailable(Exception):
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


def _paddle_libraries() -> Path:
    return Path(paddle.__file__).parent / "libs"


def onednn() -> tuple[Path, str]:
    """The oneDNN in Paddle's wheel: its path and its version."""
    if not sys.platform.startswith("linux"):
        raise Unavailable(f"it is built on Linux only, not on {sys.platform}")
    if paddle.is_compiled_with_cuda():
        raise Unavailable("this is the GPU build of Paddle")
    path = _paddle_libraries() / "libdnnl.so.3"
    if not path.exists():
        raise Unavailable(f"Paddle {paddle.__version__} carries no oneDNN 3 ({path.name})")
    try:
        function = ctypes.CDLL(str(path)).dnnl_version
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path} cannot be loaded ({error}); install Paddle again") from error
    function.restype = ctypes.POINTER(_Version)
    version = function().contents
    if version.cpu_runtime != OPENMP:
        raise Unavailable("Paddle's oneDNN is not built on OpenMP")
    return path, f"{version.major}.{version.minor}.{version.patch}"


# The bits of dnnl_cpu_isa_t, https://oneapi-src.github.io/oneDNN/, the largest set last.
INSTRUCTION_SETS = {
    0x1: "SSE4.1",
    0x3: "AVX",
    0x7: "AVX2",
    0xF: "AVX2 with VNNI",
    0x27: "AVX-512",
    0x67: "AVX-512 with VNNI",
    0xE7: "AVX-512 with bfloat16",
    0x1EF: "AVX10.1",
    0xFEF: "AVX10.1 with AMX",
}


def instruction_set() -> str:
    """The processor's instructions that oneDNN uses; ``ONEDNN_MAX_CPU_ISA`` can hold it back."""
    bits = ctypes.CDLL(str(onednn()[0])).dnnl_get_effective_cpu_isa()
    known = [name for needed, name in INSTRUCTION_SETS.items() if bits & needed == needed]
    return known[-1] if known else "the basic ones"


def _headers() -> Path:
    """The include folder of the PyPI package onednn-devel."""
    try:
        files = metadata.files("onednn-devel") or []
    except metadata.PackageNotFoundError:
        raise Unavailable(
            "oneDNN's headers are missing; pip install --no-deps onednn-devel==2025.0.1"
        ) from None
    for file in files:
        if file.as_posix().endswith("include/oneapi/dnnl/dnnl.hpp"):
            return Path(file.locate()).resolve().parents[2]
    raise Unavailable("the package onednn-devel holds no dnnl.hpp; install version 2025.0.1")


def _compiler() -> list[str]:
    """The command, which in ``$CXX`` may be of several words, such as ``ccache g++``."""
    text = os.environ.get("CXX", "")
    try:
        command = shlex.split(text)
    except ValueError as error:  # a quotation mark without another
        raise Unavailable(f"CXX={text!r} is no command ({error}); set CXX to a compiler") from error
    if command and not shutil.which(command[0]):
        raise Unavailable(f"CXX={text!r} names no program that is here; set CXX to a compiler")
    found = shutil.which("g++") or shutil.which("c++")
    if not (command or found):
        raise Unavailable("there is no C++ compiler (g++)")
    return command or [str(found)]


def source_hash() -> str:
    """Of what the operators are compiled from."""
    texts = [path.read_text(encoding="utf-8") for path in (HEADER, *SOURCES)]
    return hashlib.sha256("\n".join([*texts, *FLAGS]).encode()).hexdigest()[:12]


def _target(version: str) -> Path:
    """Where the operators for this source, Paddle, oneDNN and processor are kept."""
    cpu = processor()
    identity = (
        source_hash(),
        paddle.__version__,
        paddle.version.commit,
        version,
        cpu["name"],
        *sorted(cpu["flags"]),
    )
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    return user_cache() / "native" / f"operators-{key}.so"


def _run(command: list[str], what: str) -> None:
    # The package may have been imported from a folder that another Python does not search.
    search = [str(SOURCES[0].parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )
    except OSError as error:
        raise Unavailable(f"{what} failed: {error}") from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise Unavailable(f"{what} failed: {reason.strip()[:300]}")


def _compile(target: Path) -> None:
    """Compile, try in a process of its own (a crash must not reach this one), then publish."""
    library, _ = onednn()
    base = Path(paddle.__file__).parent
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
                *_compiler(),
                *FLAGS,
                *(f"-I{path}" for path in include),
                *map(str, SOURCES),
                "-o",
                str(output),
                *(str(path) for path in libraries if path.exists()),
            ],
            "compiling",
        )
        trial = "import sys; from attn_blocks.native import library; library.load(sys.argv[1])"
        _run([sys.executable, "-c", trial, str(output)], "the trial run")
        output.replace(target)


def load(path: str | os.PathLike) -> None:
    """Register the operators with Paddle and compare their results with Paddle's own."""
    register = paddle.utils.cpp_extension.load_op_meta_info_and_register_op
    try:
        register(str(path))
        conv.use(str(path))
        with paddle.enable_grad():
            differences = [module.difference() for module in (conv, norm, maps)]
    except Exception as error:  # whatever Paddle raises, there is another way to train
        raise Unavailable(f"loading it failed: {error}") from error
    # Only convolutions multiply in bfloat16.
    for worst, maths in zip(differences, (conv.maths(), "float32", "float32"), strict=True):
        if not worst <= TOLERANCE[maths]:
            raise Unavailable(f"its results differ from Paddle's own by {worst:.1e}")


@functools.cache
def why_not() -> str:
    """Build the operators if that has not been done, and load them: why not, or ''."""
    try:
        _, version = onednn()
        target = _target(version)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                if not target.exists():
                    _compile(target)
    except OSError as error:  # of the cache folder; the others are dealt with
        return (
            f"they cannot be kept ({error}); set XDG_CACHE_HOME to a folder that can be written "
            "and has room"
        )
    except (Unavailable, SettingError) as error:
        return str(error)
    try:
        load(target)
    except Unavailable as error:
        return f"{target}: {error}; delete it, and it is compiled again"
    return ""
