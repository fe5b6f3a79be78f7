"""Importing the library changes nothing in a process; importing the book tunes it."""

import functools
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import paddle
import pytest

import attn_blocks as ab
from attn_blocks import device
from attn_blocks.files import PROJECT

TUNED = device.tuned_environment(device.processor(), device.cores())


def fresh(code, *arguments):
    """What a new process prints as JSON, whose environment nobody has tuned yet, and its stderr."""
    environment = {k: v for k, v in os.environ.items() if k not in {*TUNED, "ATTN_BLOCKS_TUNE"}}
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout), answer.stderr


CHANGES = """
import json, os, signal, sys, warnings
def state():
    handlers = [str(signal.getsignal(number)) for number in signal.valid_signals()]
    masks = [line for line in open("/proc/self/status") if line.startswith("Sig")]
    return dict(os.environ), [str(f) for f in warnings.filters], handlers, masks[2:]
before = state()
import attn_blocks
attn_blocks.__version__, dir(attn_blocks), attn_blocks.tune_cpu
print(json.dumps([state() == before, sorted({name.split(".")[0] for name in sys.modules})]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_importing_the_library_changes_nothing_and_does_not_load_paddle():
    (unchanged, loaded), _ = fresh(CHANGES)
    assert unchanged
    assert "attn_blocks" in loaded
    assert not {"paddle", "numpy", "attn_book"} & set(loaded)


# Each is imported once, and all is asked of that one process: the modules that it loads, the memory
# that 200 MB take and what is left of it once they are freed, and the environment. SciPy inflates
# something when it is imported, with a zlib that Paddle 2 would break; a layer alone does not care.
IMPORT = """
import importlib, json, os, sys
importlib.import_module(sys.argv[1])
loaded = [name for name in sys.modules if name.startswith("attn_")]
def resident():
    if sys.platform != "linux":
        return 0
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
before = resident()
held = [bytearray(b"1") * (2 << 20) for _ in range(100)]
full = resident()
del held
memory = [full - before, resident() - before]
if sys.argv[1] in ("attn_blocks", "attn_book"):
    import scipy.stats
print(json.dumps([loaded, memory, dict(os.environ)]))
"""


@functools.cache
def imported(package):
    """Loaded modules, megabytes held and left, environment, and what was said on stderr."""
    (loaded, memory, environment), said = fresh(IMPORT, package)
    return SimpleNamespace(loaded=loaded, memory=memory, environment=environment, said=said)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("package", ["attn_blocks", "attn_blocks.layers.se", "attn_book"])
def test_freed_memory_is_given_back_unless_the_book_is_imported(package):
    held, left = imported(package).memory
    assert held > 150  # of 200; a little may come from what was free before
    assert (left > 0.75 * held) if package == "attn_book" else (left < 0.25 * held)


def test_a_layer_loads_the_layers_and_nothing_else():
    loaded = imported("attn_blocks.layers.se").loaded
    rooms = {".".join(name.split(".")[:2]) for name in loaded}
    assert rooms == {"attn_blocks", "attn_blocks.layers", "attn_blocks.errors"}


def test_importing_the_book_tunes_the_process():
    book = imported("attn_book")
    assert {name: book.environment.get(name) for name in TUNED} == TUNED
    assert "attn_book.training" not in book.loaded


@pytest.mark.parametrize("package", ["attn_blocks", "attn_book"])
def test_importing_says_nothing_and_harms_nobody(package):
    said = imported(package).said.splitlines()
    if paddle.is_compiled_with_cuda():  # what Paddle says of the GPU, or of none, is passed on
        said = [line for line in said if "GPU" not in line and "warnings.warn(" not in line]
    assert said == []


def test_public_names():
    assert set(ab.__all__) <= set(dir(ab))
    for name in ab.__all__:
        assert getattr(ab, name).__name__ in (name, "register")  # register_attn
        assert name in ab.__dict__ or ab.__getattr__(name) is getattr(ab, name)
    with pytest.raises(AttributeError, match="no attribute 'SqueezeExcit'"):
        ab.SqueezeExcit  # noqa: B018


UNINSTALLED = """
import json
from importlib import metadata
def version(name):
    raise metadata.PackageNotFoundError(name)
metadata.version = version
import attn_blocks
print(json.dumps(attn_blocks.__version__))
"""


def test_the_version_is_that_of_the_project_and_unknown_where_nothing_is_installed():
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1] == ab.__version__
    assert fresh(UNINSTALLED)[0] == "unknown"


def test_the_classes_among_them_are_the_registered_ones():
    from attn_blocks.layers import ATTNS

    classes = [getattr(ab, name) for name in ab.__all__ if name[0].isupper()]
    assert len(classes) == 8
    for cls in classes:
        name = cls.__module__.rpartition(".")[2]  # a paper a file
        assert ATTNS[name] is cls
        assert type(ab.create_attn(name, 128)) is cls
