"""What a person at the terminal, or reading a notebook, sees while data is being worked on."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def say(message: str) -> None:
    """Print one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def bar(
    items: Iterable | None, title: str, total: int | None = None, unit: str = " images", **more: Any
) -> tqdm:
    """A progress bar around ``items``, drawn once a second at most so that logs stay short."""
    return tqdm(items, desc=title, total=total, unit=unit, mininterval=1.0, **more)
