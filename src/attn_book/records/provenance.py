"""Versions of packages, commit and protocol: information in a record, which gates nothing."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from attn_blocks.device import installed_version
from attn_blocks.files import PROJECT, sha256_of

VERSIONS_OF = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "safetensors", "visualdl")


PROTOCOL = PROJECT / "book" / "protocol.md"


def protocol() -> str | None:
    """The SHA-256 of the study's protocol as it is now; None outside a checkout."""
    return sha256_of(PROTOCOL) if PROTOCOL.exists() else None


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        if version := installed_version(name):
            found[name] = version
    return found


def git_commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` if files differ from it; None outside one."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != PROJECT:  # a repository of the reader's own around it
        return None
    return _git("describe", "--always", "--abbrev=40", "--dirty")


def _git(*command: str) -> str | None:
    """What git answers of the project's folder; None where it cannot."""
    call = ["git", "-C", str(PROJECT), *command]
    try:
        answer = subprocess.run(call, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
