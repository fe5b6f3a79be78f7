"""CIFAR-10: ten classes of 32 x 32 photographs, 50,000 to train and 10,000 to test."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attn_blocks.datasets.source import Source
from attn_blocks.errors import DataError, reason_of

SOURCE = Source(
    name="cifar10",
    title="CIFAR-10",
    # In the order of the labels of the original binary files.
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    # The SENet write-up's.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    advice="run attn-book data prepare cifar10 --download (171 MB)",
    folders=("cifar10", "CIFAR-10-images"),
    own_split=True,
)
# The original "python version": pickled dictionaries of pixels [N, 3072] and labels.
BATCHES = {
    **{f"data_batch_{number}": "train" for number in range(1, 6)},
    "test_batch": "test",
}
MAX_BATCH_BYTES = 2**26


def read_batches(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The original files in a folder: (``train`` or ``test``, uint8 [N, 32, 32, 3], labels [N]).

    Raises:
        DataError: a file is missing, damaged, or holds anything but pixels and labels.
    """
    missing = [name for name in BATCHES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} of CIFAR-10; fetch the archive again")
    for name, part in BATCHES.items():
        pixels, labels = _read_batch(folder / name)
        yield part, pixels, labels


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        if path.stat().st_size > MAX_BATCH_BYTES:
            raise ValueError(f"more than {MAX_BATCH_BYTES:,} bytes")
        with path.open("rb") as stream:
            content = _ArrayUnpickler(stream, encoding="bytes").load()
        pixels, labels = content[b"data"].values, np.asarray(content[b"labels"])
        if pixels.shape != (len(labels), 3072) or not len(labels):
            raise ValueError(f"pixels of {pixels.shape}, {len(labels)} labels")
        if labels.dtype.kind != "i" or not np.isin(labels, range(10)).all():
            raise ValueError("labels other than 0 to 9")
    except Exception as error:  # a forged or damaged pickle can raise anything
        raise DataError(
            f"{path} is not an original CIFAR-10 batch: {reason_of(error)}; fetch the archive "
            f"again: {SOURCE.how_to_get}"
        ) from error
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles made of plain values and NumPy arrays of uint8; refuses all else.

    Nothing that a pickle names is looked up: the names that arrays are pickled with are answered
    by what this file has in their place. NumPy's own types would take any state from the file.
    """

    def find_class(self, module: str, name: str) -> Any:
        answer = {
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): _Type,
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("_codecs", "encode"): _latin1,
        }.get((module, name))
        if answer is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return answer


class _Type:
    """In the place of ``numpy.dtype``: uint8, with no state but its plain one."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {code!r}, which is refused")

    def __setstate__(self, state: tuple) -> None:
        # Version, byte order, subarray, names, fields, size, alignment, flags.
        _, order, *others = state
        if order not in ("|", b"|") or others != [None, None, None, -1, -1, 0]:
            raise pickle.UnpicklingError(f"a type with the state {state}, which is refused")


class _Array:
    """In the place of an array that is being read; ``values`` once its state is there."""

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type):
            raise pickle.UnpicklingError(f"an array of {kind!r}, which is refused")
        values = np.frombuffer(content, np.uint8)
        self.values = values.reshape(shape, order="F" if by_columns else "C")


def _latin1(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes into old pickle formats.
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r}, which is refused")
    return text.encode("latin1")
