"""Weights and the state of training in safetensors files: saved, restored, loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import paddle

from attn_blocks.errors import CheckpointError, choose
from attn_blocks.tensors import check_shapes, load_tensors, save_tensors
from attn_book.records.published import PUBLISHED, weights_of
from attn_book.records.repair import history_until_checkpoint
from attn_book.records.run import Run
from attn_book.training import compute as computing
from attn_book.training.build import build_model

OPTIMIZER_PREFIX = "optimizer/velocity/"


def save_checkpoint(
    path: Path,
    model: paddle.nn.Layer,
    epochs_done: int,
    optimizer: paddle.optimizer.Momentum | None = None,
    scaler: paddle.amp.GradScaler | None = None,
) -> None:
    """Write weights, and if given the optimiser's velocities and the loss scale, as one file.

    One file, because weights of one epoch with velocities of another would not resume bit for bit.
    """
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    if optimizer is not None:
        velocities = optimizer._accumulators["velocity"]
        for name, parameter in model.named_parameters():
            if parameter.name in velocities:
                tensors[OPTIMIZER_PREFIX + name] = velocities[parameter.name].numpy()
    scale = {} if scaler is None else computing.scaler_state(scaler)
    save_tensors(path, tensors, {"epoch": str(epochs_done), **scale})


def restore(
    folder: Path,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Momentum,
    scaler: paddle.amp.GradScaler,
) -> list[dict[str, float]]:
    """Load the last finished epoch into all three; return the history up to there."""
    path = folder / "last.safetensors"
    if not path.exists():
        return []
    try:
        tensors, metadata = load_tensors(path, remedy="")
        velocities = {
            OPTIMIZER_PREFIX + name: parameter
            for name, parameter in model.named_parameters()
            if OPTIMIZER_PREFIX + name in tensors
        }
        check_shapes(path, tensors, {**model.state_dict(), **velocities})
        history = history_until_checkpoint(folder, metadata)
    except CheckpointError as error:
        warnings.warn(f"{error}; training {folder.name} from the start", stacklevel=2)
        return []
    state = {k: v for k, v in tensors.items() if not k.startswith(OPTIMIZER_PREFIX)}
    model.set_state_dict(state)
    # Paddle numbers parameters by the order in which a process makes them; our file does not.
    optimizer.set_state_dict(
        {
            f"{parameter.name}_velocity_0": tensors[OPTIMIZER_PREFIX + name]
            for name, parameter in model.named_parameters()
            if OPTIMIZER_PREFIX + name in tensors
        }
    )
    computing.restore_scaler(scaler, metadata)
    return history


def weights_path(run: Run, which: str = "last", published: Path = PUBLISHED) -> Path | None:
    """The file of a run's "last" or "best" weights, as ``load_model`` takes them; None without."""
    own = run.folder / f"{which}.safetensors"
    if own.exists() or which != "last":
        return own if own.exists() else None
    return weights_of(run, published)


def load_model(run: Run, which: str = "last", published: Path = PUBLISHED) -> paddle.nn.Layer:
    """A run's trained network in evaluation mode, with its "last" or its "best" weights.

    The last ones of a run that was not trained here are those that are ``published``, in float16.

    Raises:
        CheckpointError: there are no weights, or they do not fit the network.
    """
    choose("checkpoint", which, ("last", "best"))
    model = build_model(run.experiment, len(run.classes))
    path = weights_path(run, which, published)
    if path is None:
        raise CheckpointError(
            f"{run.folder.name} was not trained here, and its {which} weights are not published; "
            "train it here with FRESH=1"
        )
    tensors, _ = load_tensors(path)
    weights = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in tensors.items()
        if not name.startswith(OPTIMIZER_PREFIX)
    }
    check_shapes(path, weights, model.state_dict())
    model.set_state_dict(weights)
    model.eval()
    return model
