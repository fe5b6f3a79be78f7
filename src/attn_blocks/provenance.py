"""Where a number comes from: versions, commit, and a hash of each source file that made it."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from attn_blocks.files import PROJECT

PACKAGE = Path(__file__).resolve().parent
VERSIONS_OF = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "safetensors", "visualdl")
# Every run depends on these, whatever its model; files below datasets/ that only fetch or lay out
# images are not among them, since the data set's own fingerprint covers what they leave.
COMMON = (
    "train.py",
    "datasets/augment.py",
    "datasets/decode.py",
    "datasets/loader.py",
    "layers/base.py",
    "models/fused.py",
    "models/scaling.py",
)


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` if files differ from it; None outside one."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def source_hash(path: Path) -> str:
    """Hash of what a Python file does: comments, docstrings and layout do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[0].value.value = ""
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def source_hashes(model: Any, dataset: str, others: Iterable[str] = ()) -> dict[str, str]:
    """Hashes of the package's files that a run of ``model`` on ``dataset`` depends on.

    Those are the modules of the model's own layers, so that a change of one block leaves the
    results of the others valid, the common training and data code, and ``others``.
    """
    modules = {type(layer).__module__ for layer in model.sublayers(include_self=True)}
    # Native operators change a result by rounding only; a run records whether it had them.
    files = {
        Path(*name.split(".")[1:]).with_suffix(".py").as_posix()
        for name in modules
        if name.startswith(("attn_blocks.layers.", "attn_blocks.models."))
    }
    files |= {*COMMON, f"datasets/{dataset}.py", *others}
    return {
        name: source_hash(PACKAGE / name) for name in sorted(files) if (PACKAGE / name).exists()
    }


def changed_sources(recorded: dict[str, str]) -> list[str]:
    """The files whose code is no longer what a run recorded."""
    return [
        name
        for name, value in recorded.items()
        if not (PACKAGE / name).exists() or source_hash(PACKAGE / name) != value
    ]
