"""The book: what trains, judges, draws and prints.

A network of your own is trained like those of the book in three lines:

    >>> import attn_book
    >>> training = attn_book.prepare(network, images, recipe)
    >>> for epoch in attn_book.train(training): print(epoch.epoch, epoch.val_acc)

Import it before Paddle: it sets the CPU's threads and code path, which ``attn_blocks`` alone does
not do.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

from attn_blocks import device

device.tune_cpu()
# Without Paddle, whatever needs it fails when it imports it; `attn-book doctor` says what to do. Of
# one that was removed, an empty folder may be left, which can be imported and has nothing.
with contextlib.suppress(ImportError, AttributeError):
    device.import_paddle()

# Public name -> the module that it is loaded from when it is first asked for.
_PUBLIC = {
    "Experiment": "study.experiment",
    "Recipe": "study.experiment",
    "Run": "records.run",
    "build_model": "training.build",
    "plan": "study.plan",
    "prepare": "training.build",
    "reported_history": "study.claims",
    "reproduce": "driver.reproduce",
    "runs_of": "records.planned",
    "train": "training.loop",
    "train_all": "training.run",
    "train_experiment": "training.run",
    "try_out": "analysis.trial",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
