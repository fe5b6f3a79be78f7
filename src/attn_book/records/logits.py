"""What a network said of each validation image: a run's ``logits.safetensors``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attn_blocks.errors import CheckpointError
from attn_blocks.tensors import load_tensors, save_tensors
from attn_book.records.reading import MADE_AGAIN

LOGITS = "logits.safetensors"
LARGEST = float(np.finfo(np.float16).max)


def save_logits(path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Write logits [N, classes] as float16 and the true labels [N] beside them.

    Both are in stored order: by class, and within a class by name.
    """
    small = np.clip(logits, -LARGEST, LARGEST).astype(np.float16)
    save_tensors(path, {"logits": small, "labels": np.asarray(labels, np.int16)}, {})


def read_logits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(logits float32 [N, classes], labels int64 [N]); a damaged file raises CheckpointError."""
    tensors, _ = load_tensors(path, MADE_AGAIN)
    try:
        logits, labels = tensors["logits"], tensors["labels"]
        if logits.dtype != np.float16 or logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(f"logits {logits.dtype} {logits.shape}, labels {labels.shape}")
        if not np.isfinite(logits).all():
            raise ValueError("a logit is not finite")
        if not len(labels) or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
            raise ValueError("a label is no class")
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {MADE_AGAIN}") from error
    return logits.astype(np.float32), labels.astype(np.int64)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the classes, [N, classes]."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def confusion_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Validation images by [true class, predicted class]."""
    confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return confusion


def fits(logits: np.ndarray, labels: np.ndarray, confusion: np.ndarray) -> bool:
    """Whether recorded logits give a confusion matrix.

    In float16 the two highest logits of an image can become equal; such an image may be counted
    under either class.
    """
    if confusion.shape != (logits.shape[1],) * 2:
        return False
    highest = np.sort(logits, axis=1)[:, -2:]
    tied = int((highest[:, 0] == highest[:, 1]).sum())
    off = np.abs(confusion_of(logits, labels) - confusion).sum()
    # An image in another column changes two counts by one.
    return bool(off <= 2 * tied and confusion.sum() == len(labels))
