"""What is published, sealed: the SHA-256 of every file, in the format of ``sha256sum --check``."""

from __future__ import annotations

import re
from pathlib import Path

from attn_blocks.files import printable, sha256_of, write_bytes

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def seal(folder: Path) -> None:
    """Write ``SHA256SUMS`` over all files below ``folder``."""
    lines = [f"{sha256_of(path)}  {name}\n" for name, path in _files(folder).items()]
    write_bytes(folder / SUMS, "".join(lines).encode())


def broken_seals(folder: Path, below: str = "") -> list[str]:
    """How the files below ``folder`` differ from those that were sealed: a line for each.

    Args:
        below: how their paths in it begin, such as ``"runs/"``; by default all are looked at.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [f"{SUMS}, which holds the sums of its files, is missing"]
    except (OSError, ValueError) as error:
        return [f"{SUMS} cannot be read ({error})"]
    matches = [LINE.fullmatch(line) for line in lines]
    sealed = {match[2]: match[1] for match in matches if match}
    if not sealed or len(sealed) != len(lines):
        return [f"{SUMS} is damaged: it holds other lines than a sum and a name"]
    there = _files(folder)
    problems = []
    for name in sorted(n for n in sealed.keys() | there.keys() if n.startswith(below)):
        if name not in there:
            problems.append(f"{name} is missing")
        elif name not in sealed:
            problems.append(f"{printable(name)} does not belong to what was published")
        elif there[name].is_symlink() or not there[name].is_file():
            problems.append(f"{name} is a link or a folder")
        elif problem := _difference(there[name], sealed[name]):
            problems.append(f"{name} {problem}")
    return problems


def _difference(path: Path, digest: str) -> str:
    """How a file differs from the one of that sum; "" where it does not."""
    try:
        return "" if sha256_of(path) == digest else "is not as it was published"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _files(folder: Path) -> dict[str, Path]:
    """Everything below a folder but its folders and the sums, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path != folder / SUMS and (path.is_symlink() or not path.is_dir())
    }
