"""How far a run that is trained again may be from its record."""

from __future__ import annotations

import math

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_book.records.reading import HISTORY_COLUMNS
from attn_book.records.run import Run

# A run that is trained again on another processor or thread count sums in another order and drifts.
ACCURACY_TOLERANCE = 0.05


def is_same(known: Run, ours: Run) -> bool:
    """Whether two runs have the same history, but for the seconds."""
    columns = [column for column in HISTORY_COLUMNS if column != "seconds"]
    return all(np.array_equal(known.history[c], ours.history[c]) for c in columns)


def tolerance(known: Run) -> float:
    """How far the final accuracy may be off in a repeat that sums in another order.

    Training amplifies the rounding until the repeat differs as another seed would. At least
    ``ACCURACY_TOLERANCE``; on few images, three standard deviations of the difference between two
    networks that are equally good.
    """
    share, images = known.metrics["final_val_acc"], known.confusion.sum()
    return max(ACCURACY_TOLERANCE, 3 * math.sqrt(2 * share * (1 - share) / images))


def check_reproduction(known: Run, ours: Run) -> str:
    """Compare a run with the record of the same name.

    Returns:
        A sentence: identical to the last bit, or how far the final accuracy is off.

    Raises:
        CheckpointError: it is off by more than ``tolerance``.
    """
    if is_same(known, ours):
        return f"{known.folder.name}: identical to the last bit"
    before, after = (run.metrics["final_val_acc"] for run in (known, ours))
    text = f"{known.folder.name}: final accuracy {after:.4f}, its record says {before:.4f}"
    allowed = tolerance(known)
    if abs(after - before) > allowed:
        raise CheckpointError(f"{text}: more than {allowed:.2f} apart")
    return f"{text}, within {allowed:.2f} (not bit for bit: another processor or library)"
