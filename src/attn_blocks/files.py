"""Files that are whole or absent: every write goes through a temporary file and a rename."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from attn_blocks.errors import CheckpointError

PROJECT = Path(__file__).resolve().parents[2]


def project_folder(name: str, variable: str, folder: str | os.PathLike | None = None) -> Path:
    """``folder``, else the environment variable's, else ``name`` in the project's checkout.

    Notebooks run in their own folder, so a path relative to it would lead astray; outside a
    checkout (an installed wheel) it is relative to the working folder all the same.
    """
    if folder is None:
        folder = os.environ.get(variable) or (
            PROJECT / name if (PROJECT / "notebooks").is_dir() else name
        )
    return Path(folder).expanduser().absolute()


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file beside ``path``; on success it takes the name, on error it is removed.

    Args:
        path: where the finished file is to stand; its folder is made if it is missing.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, mode, **text) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are meant to be read by others too.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused (not JSON)."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; a damaged one raises CheckpointError with its path."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({error}); delete it and run the command again"
        ) from error


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_tensors(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and text metadata as one safetensors file, atomically."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_write(path, "wb") as stream:
        stream.write(safetensors.numpy.save(contiguous, dict(metadata)))


def load_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file: (arrays, metadata); a damaged one raises CheckpointError."""
    try:
        with safe_open(path, framework="numpy") as stream:
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return arrays, dict(stream.metadata() or {})
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); delete it and run the command again"
        ) from error
