"""Importing the library changes nothing in a process; importing the book tunes it."""

import json
import os
import re
import subprocess
import sys

import paddle
import pytest

import attn_blocks as ab
from attn_blocks import device
from attn_blocks.files import PROJECT

TUNED = device.tuned_environment(device.processor(), device.cores())


def fresh(code, *arguments):
    """What a new process prints as JSON, whose environment nobody has tuned yet."""
    environment = {k: v for k, v in os.environ.items() if k not in {*TUNED, "ATTN_BLOCKS_TUNE"}}
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


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
    unchanged, loaded = fresh(CHANGES)
    assert unchanged
    assert "attn_blocks" in loaded
    assert not {"paddle", "numpy", "attn_book"} & set(loaded)


MEMORY = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
before = resident()
held = [bytearray(b"1") * (2 << 20) for _ in range(100)]
full = resident()
del held
print(json.dumps([full - before, resident() - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("package", ["attn_blocks", "attn_blocks.layers.se", "attn_book"])
def test_freed_memory_is_given_back_unless_the_book_is_imported(package):
    held, left = fresh(MEMORY, package)  # megabytes
    assert held > 150  # of 200; a little may come from what was free before
    assert (left > 0.75 * held) if package == "attn_book" else (left < 0.25 * held)


LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in sys.modules if name.startswith("attn_")]))
"""


def test_a_layer_loads_the_layers_and_nothing_else():
    loaded = fresh(LOADED, "attn_blocks.layers.se")
    rooms = {".".join(name.split(".")[:2]) for name in loaded}
    assert rooms == {"attn_blocks", "attn_blocks.layers", "attn_blocks.errors"}


BOOK = """
import json, os, attn_book, paddle
print(json.dumps([dict(os.environ), "attn_book.training" in __import__("sys").modules]))
"""


def test_importing_the_book_tunes_the_process():
    environment, has_loaded_training = fresh(BOOK)
    assert {name: environment.get(name) for name in TUNED} == TUNED
    assert not has_loaded_training


@pytest.mark.parametrize("package", ["attn_blocks", "attn_book"])
def test_importing_says_nothing_and_harms_nobody(package):
    # SciPy inflates something when it is imported, with a zlib that Paddle 2 would break.
    answer = subprocess.run(
        [sys.executable, "-c", f"import {package}, scipy.stats"], capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout) == (0, "")
    said = answer.stderr.splitlines()
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
    assert fresh(UNINSTALLED) == "unknown"


def test_the_classes_among_them_are_the_registered_ones():
    from attn_blocks.layers import ATTNS

    classes = [getattr(ab, name) for name in ab.__all__ if name[0].isupper()]
    assert len(classes) == 8
    for cls in classes:
        name = cls.__module__.rpartition(".")[2]  # a paper a file
        assert ATTNS[name] is cls
        assert type(ab.create_attn(name, 128)) is cls
