"""A block of the reader's own: found in a file or a module, and named by its text.

The option that names it in an experiment is ``my_block.py:MyBlock@<16 digits>``: where it comes
from, its name, and the beginning of the SHA-256 of its file's text. An edited block is another one,
and is trained anew; what the file imports from elsewhere is not in the digits.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attn_blocks.errors import SettingError, TrainingError, choose
from attn_blocks.files import printable

if TYPE_CHECKING:  # what needs no network needs no Paddle
    from paddle import nn

# Names the folder of the file, or of the module, to worker processes. A network of a record with a
# reader's block is built only where it is set: building it runs that file.
FOLDER = "ATTN_BLOCKS_OWN"
OPTION = re.compile(r"(?P<where>[^/\\]+):(?P<name>\w+)@(?P<digest>[0-9a-f]{16})")
EXAMPLE = "give a Python file and a name in it, such as my_block.py:MyBlock, or module:MyBlock"


@dataclass(frozen=True)
class OwnBlock:
    """A class or function of the channel count that makes a block, as the reader named it.

    Attributes:
        where: name of the file or of the module; ``folder`` is where it is looked for.
        name: of the class or function in it.
        path, text: the file and what it held when it was found.
    """

    where: str
    name: str
    folder: Path
    path: Path
    text: bytes

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the text, whole."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def option(self) -> str:
        """What an experiment's option ``attn`` holds."""
        return f"{self.where}:{self.name}@{self.digest[:16]}"

    @property
    def title(self) -> str:
        """What tables call the network that has it."""
        return f"{self.name} (own)"

    def load(self) -> Callable[[int], nn.Layer]:
        """Run the file or import the module, and return what makes the block.

        Raises:
            SettingError: that fails, or the name is not in it or cannot be called.
        """
        try:
            with _on_path(self.folder):
                module = _run(self) if self.is_file else importlib.import_module(self.where)
        except Exception as error:  # whatever the reader's code raises
            raise SettingError(f"{self.path} cannot be loaded: {reason_of(error)}") from error
        found = vars(module)
        if self.name not in found:
            own = [n for n, v in found.items() if getattr(v, "__module__", "") == module.__name__]
            choose(f"name in {self.path}:", self.name, own)
        make = found[self.name]
        if not callable(make):
            raise SettingError(
                f"{self.name} in {self.path} is {make!r}; it must be a class or a function that "
                "makes a paddle.nn.Layer from the channel count"
            )
        return make

    @property
    def is_file(self) -> bool:
        """Whether it is a file that is named, and not a module."""
        return self.where.endswith(".py")


def find(spec: str, folder: str | Path | None = None) -> OwnBlock:
    """The block that ``"path/to/my_block.py:MyBlock"`` or ``"module:MyBlock"`` names.

    Args:
        spec: the file is not run yet.
        folder: where a relative path begins, or a module is looked for beside the installed ones;
            None for the current folder.

    Raises:
        SettingError: no such file or module.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise SettingError(f"{spec!r} names no block; {EXAMPLE}")
    folder = Path(folder or ".").resolve()
    if where.endswith(".py"):
        path = folder / where
        where, folder = path.name, path.parent
        if printable(where) != where or OPTION.fullmatch(f"{where}:{name}@{'0' * 16}") is None:
            raise SettingError(f"the file {where!a} cannot be named in a record; rename it")
    else:
        path = _file_of(where, folder)
    try:
        return OwnBlock(where, name, folder, path, path.read_bytes())
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}); {EXAMPLE}") from error


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """A network's options with the reader's block itself in place of its name, if there is one.

    Raises:
        SettingError: the folder of its file is not named, or the file is not there.
        TrainingError: the file was edited since.
    """
    named = _named(options)
    if named is None:
        return dict(options)
    spec = f"{named['where']}:{named['name']}"
    if not os.environ.get(FOLDER):
        raise SettingError(
            f"the network holds a block of a reader's own, {spec}; name the folder of its file "
            f"with {FOLDER}=folder, if the file may be run"
        )
    block = find(spec, os.environ[FOLDER])
    if block.option != options["attn"]:
        raise TrainingError(
            f"{block.path} was edited since {options['attn']} was named; run the command again"
        )
    return {**options, "attn": _loaded(block)}


def title_of(options: Mapping[str, Any]) -> str | None:
    """What tables call a network with a reader's block; None for any other."""
    named = _named(options)
    return f"{named['name']} (own)" if named else None


def _named(options: Mapping[str, Any]) -> dict[str, str] | None:
    attn = options.get("attn")
    match = OPTION.fullmatch(attn) if isinstance(attn, str) else None
    return match.groupdict() if match else None


@lru_cache
def _loaded(block: OwnBlock) -> Callable[[int], nn.Layer]:
    return block.load()


def _run(block: OwnBlock) -> ModuleType:
    """A module of the very text that the digits are of."""
    module = ModuleType(f"attn_book_own_{block.digest[:16]}")
    module.__file__ = str(block.path)
    sys.modules[module.__name__] = module  # dataclasses and the like look their module up
    exec(compile(block.text, str(block.path), "exec"), vars(module))
    return module


def _file_of(module: str, folder: Path) -> Path:
    try:
        with _on_path(folder):
            found = importlib.util.find_spec(module)
    except Exception as error:  # of the packages around it, which are imported
        raise SettingError(f"the module {module} cannot be found: {reason_of(error)}") from error
    if found is None or not found.has_location or found.origin is None:
        raise SettingError(f"there is no module {module!r} with a file of its own; {EXAMPLE}")
    return Path(found.origin)


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """With the folder's modules importable, after all that is installed."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def reason_of(error: Exception) -> str:
    """What the reader's code raised, in a line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
