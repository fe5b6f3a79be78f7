"""Versions of packages and the commit: information in a record, which gates nothing."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

from attn_blocks.files import PROJECT

VERSIONS_OF = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "safetensors", "visualdl")


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
