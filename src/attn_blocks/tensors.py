"""Named arrays in safetensors files: written, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from attn_blocks.errors import CheckpointError
from attn_blocks.files import DELETE_IT, damaged, write_bytes


def save_tensors(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and text metadata as one safetensors file, atomically.

    Raises:
        StorageError: as ``write_bytes``.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    write_bytes(path, safetensors.numpy.save(contiguous, dict(metadata)))


def load_tensors(
    path: str | os.PathLike, remedy: str = DELETE_IT
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file: (arrays, metadata).

    Args:
        remedy: as in ``read_json``.

    Raises:
        CheckpointError: it is not there, cannot be read, is damaged, is of types that NumPy does
            not know, or holds NaN or infinity.
    """
    with _opened(path, remedy) as stream:
        arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        metadata = dict(stream.metadata() or {})
    check_finite(path, arrays, remedy)
    return arrays, metadata


def tensor_shapes(
    path: str | os.PathLike, remedy: str = DELETE_IT
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Like ``load_tensors``, with shapes for arrays: reads no more than the file's header."""
    with _opened(path, remedy) as stream:
        shapes = {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
        return shapes, dict(stream.metadata() or {})


@contextmanager
def _opened(path: str | os.PathLike, remedy: str) -> Iterator[Any]:
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(
            f"{path} is not a .safetensors file; no other is read here, since a pickle (.pdparams, "
            ".pth and the like) runs whatever code it holds when it is loaded"
        )
    try:
        path.open("rb").close()  # safe_open takes a file that may not be read for a missing one
        with safe_open(path, framework="numpy") as stream:
            yield stream
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    # A type that NumPy does not have, such as float8, is looked up as an attribute of it.
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{path} is not a complete safetensors file of numbers that NumPy knows ({error})"
        raise damaged(what, remedy, error) from error


def check_finite(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], remedy: str = DELETE_IT
) -> None:
    """Check that the arrays of a file hold no NaN and no infinity.

    Args:
        remedy: as in ``read_json``.

    Raises:
        CheckpointError: one does.
    """
    for name, array in tensors.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise damaged(f"{path}: {name} holds NaN or infinity", remedy)


def check_shapes(
    path: str | os.PathLike, tensors: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Check that the arrays of a file have the names and shapes that are expected.

    Raises:
        CheckpointError: names are missing or unknown, or shapes differ.
    """
    problems = [f"missing: {name}" for name in expected.keys() - tensors.keys()]
    problems += [f"unknown: {name}" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        found, needed = list(tensors[name].shape), list(expected[name].shape)
        if found != needed:
            problems.append(f"misshaped: {name} is {found}, needed {needed}")
    if problems:
        shown, others = sorted(problems)[:3], len(problems) - 3
        more = f" and {others} more" if others > 0 else ""
        raise CheckpointError(f"{path} does not fit its model ({'; '.join(shown)}{more})")
