"""Weights and the state of training in safetensors files: saved, restored, loaded."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path

import paddle

from attn_blocks.errors import CheckpointError, choose
from attn_blocks.files import check_shapes, load_tensors, save_tensors
from attn_book.records.repair import history_until_checkpoint
from attn_book.records.reproduction import check_reproduction, is_same
from attn_book.records.run import Run
from attn_book.training import compute as computing
from attn_book.training.build import build_model

OPTIMIZER_PREFIX = "optimizer/velocity/"
PAGE_COLUMNS = 72  # characters of printed text that a page shows side by side


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
        tensors, metadata = load_tensors(path)
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


def load_model(run: Run, which: str = "last") -> paddle.nn.Layer:
    """A run's trained network in evaluation mode, with its "last" or its "best" weights.

    They may be those of its repeat, which prints how far that is off if it is not the same.

    Raises:
        CheckpointError: there are no weights, they do not fit the network, or the repeat's final
            accuracy differs by more than ``tolerance``.
    """
    choose("checkpoint", which, ("last", "best"))
    trained = run.trained
    if trained is not run and not is_same(run, trained):
        note = f"The weights are of a repeat. {check_reproduction(run, trained)}"
        print(textwrap.fill(note, PAGE_COLUMNS))
    model = build_model(run.experiment, len(run.classes))
    path = trained.folder / f"{which}.safetensors"
    tensors, _ = load_tensors(path)
    weights = {k: v for k, v in tensors.items() if not k.startswith(OPTIMIZER_PREFIX)}
    check_shapes(path, weights, model.state_dict())
    model.set_state_dict(weights)
    model.eval()
    return model
