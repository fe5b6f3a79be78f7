"""The blocks against arrays recorded from PyTorch code; ``book/sources.md`` says whose it was.

A recording is a ``.npz`` file with an input, weights, the output and all gradients of one original
class; its ``meta`` says which class was run with which arguments, and ``originals`` what that is
here. A checkout holds the smallest of each block and mode, and those with the networks' settings;
``$ATTN_REFERENCE_DIR`` may name a folder of more. Everything is computed in float64.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pandas as pd
from paddle import nn

from attn_blocks.errors import DataError, choose
from attn_blocks.files import PROJECT
from attn_blocks.layers import list_attns
from attn_blocks.models.torch_weights import load_torch_state_dict
from attn_book.analysis.originals import build
from attn_book.language import _, say

VARIABLE = "ATTN_REFERENCE_DIR"
SHIPPED = PROJECT / "tests" / "recordings"
MOMENTUM = float(np.float32(0.9))  # Paddle's kernels hold a batch norm's momentum in float32
Arrays = dict[str, np.ndarray]
Meta = Mapping[str, Any]


def files(folder: Path, attn: str | None = None) -> list[Path]:
    """The recordings in a folder, of one block or of all.

    Raises:
        DataError: a folder without any.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise DataError(f"{folder} has no .npz files; name the folder of the recordings")
    if attn is None:
        return paths
    choose("attention block", attn, list_attns())
    # Files are called after their layer: sge__..., nl_batrepo__..., seblock_..., batransform__...
    names = {"se": ("se_", "seblock_"), "bat": ("bat_", "batransform_")}.get(attn, (f"{attn}_",))
    return [path for path in paths if path.name.startswith(names)]


def table(attn: str) -> pd.DataFrame | str:
    """The largest differences between a block and the recordings of its original code.

    Those of ``$ATTN_REFERENCE_DIR`` if it is set, else those of the checkout; the index says which.
    Each difference is relative to the recorded array's largest value where that is above 1. In
    place of the table, a sentence says what to set where there are no recordings, or that none of
    them is of the block.
    """
    named = os.environ.get(VARIABLE)
    if not named and not SHIPPED.is_dir():
        return say(
            "{variable} is not set and tests/recordings not there, so the block is not compared "
            "with published code here.",
            variable=VARIABLE,
        )
    paths = files(Path(named) if named else SHIPPED, attn)
    place = VARIABLE if named else "tests/recordings"
    if not paths:
        return say("There is no recording of {block} in {place}.", block=attn, place=place)
    rows = []
    for path in paths:
        meta = meta_of(path)
        errors = compare(path, training=meta["mode"] == "train")
        gradients = [e for name, e in errors.items() if name.startswith("gradient of")]
        rows.append(
            {
                "recording": path.stem,
                _("output"): errors["y"],
                _("input gradient"): errors["gx"],
                _("parameter gradients"): max(gradients, default=0.0),
                # Last: long names would push the differences out of sight on a small screen.
                _("repository"): meta["source"]["repo"],
            }
        )
    frame = pd.DataFrame(rows).set_index("recording").map(_short_form)
    return frame.rename_axis(say("recording in {place}", place=place))


def meta_of(path: Path) -> Meta:
    """What a recording is of: layer, kwargs, mode, source ..."""
    with np.load(path, allow_pickle=False) as archive:
        return json.loads(str(archive["meta"]))


def _short_form(value: object) -> object:
    return f"{value:.0e}" if isinstance(value, float) else value


def compare(path: Path, training: bool) -> dict[str, float]:
    """Differences between this package and one recording, by the name of the result.

    Results are the output ``y``, the input's gradient ``gx``, every parameter's gradient and the
    running statistics after the step. A difference is the largest absolute one, divided by the
    recorded array's largest value where that is above 1; infinite if the shapes differ.
    """
    meta = meta_of(path)
    with np.load(path, allow_pickle=False) as archive:
        ours, counts = run_at_exact_epsilon(archive, meta, training)
        theirs = recorded(archive, meta, training, counts)
    differences = {}
    for name in ours.keys() | theirs.keys():
        mine, other = ours.get(name), theirs.get(name)
        if mine is None or other is None or mine.shape != other.shape:
            differences[name] = float("inf")
        else:
            scale = max(1.0, np.abs(other).max(initial=0.0))
            differences[name] = float(np.abs(mine - other).max(initial=0.0) / scale)
    return differences


def part(archive: np.lib.npyio.NpzFile, kind: str) -> Arrays:
    """The arrays of one kind, such as "param/", by the names that the original gave them."""
    return {k.removeprefix(kind): archive[k] for k in archive.files if k.startswith(kind)}


class RecordedDropout(nn.Layer):
    """Dropout with the mask that the original drew."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.mask = paddle.to_tensor(mask, dtype="float64")

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.mask


def loaded(meta: Meta, *states: Arrays) -> nn.Layer:
    """The recorded block in float64, with the original's weights or what is named like them."""
    layer = build(meta).to(dtype="float64")
    load_torch_state_dict(layer, {name: array for state in states for name, array in state.items()})
    return layer


def batch_norms(layer: nn.Layer) -> dict[str, nn.BatchNorm2D]:
    """By name."""
    return {n: sub for n, sub in layer.named_sublayers() if isinstance(sub, nn.BatchNorm2D)}


def norms(layer: nn.Layer) -> list[nn.Layer]:
    """All that divide by a deviation."""
    return [sub for sub in layer.sublayers() if hasattr(sub, "_epsilon")]


def run(
    archive: np.lib.npyio.NpzFile, meta: Meta, training: bool, epsilon: float | None
) -> tuple[Arrays, dict[str, int]]:
    """Forward and backward; every result by name, and the values a channel in each batch norm."""
    layer = loaded(meta, part(archive, "param/"), part(archive, "buffer/"))
    layer.train() if training else layer.eval()
    if "extra/dropout_mask" in archive.files:
        layer.dropout = RecordedDropout(archive["extra/dropout_mask"])
    for norm in norms(layer):
        norm._epsilon = epsilon
    counts = {}
    for name, norm in batch_norms(layer).items():

        def count(_: nn.Layer, inputs: tuple[paddle.Tensor, ...], name: str = name) -> None:
            counts[name] = inputs[0].numel().item() // inputs[0].shape[1]

        norm.register_forward_pre_hook(count)

    x = paddle.to_tensor(archive["x"], dtype="float64", stop_gradient=False)
    y = layer(x)
    (y * paddle.to_tensor(archive["gy"], dtype="float64")).sum().backward()
    results = {"y": y, "gx": x.grad}
    for name, parameter in layer.named_parameters():
        if not parameter.stop_gradient:  # Paddle lists the running statistics here too
            results[f"gradient of {name}"] = parameter.grad
    for name, norm in batch_norms(layer).items():
        results[f"{name}._mean"], results[f"{name}._variance"] = norm._mean, norm._variance
    return {name: tensor.numpy() for name, tensor in results.items()}, counts


def run_at_exact_epsilon(
    archive: np.lib.npyio.NpzFile, meta: Meta, training: bool
) -> tuple[Arrays, dict[str, int]]:
    """As ``run``, at the epsilon of the norms itself.

    Paddle's kernels take it as a float32 number even for float64 tensors. Where a batch has nearly
    no variance that shows beyond 1e-9, so the results at its two neighbours are interpolated.
    """
    epsilons = {norm._epsilon for norm in norms(build(meta))}
    if not epsilons:
        return run(archive, meta, training, None)
    (epsilon,) = epsilons
    nearest = np.float32(epsilon)
    low, high = sorted((nearest, np.nextafter(nearest, np.float32(np.sign(epsilon - nearest)))))
    share = (epsilon - float(low)) / (float(high) - float(low))
    at_low, counts = run(archive, meta, training, float(low))
    at_high, _ = run(archive, meta, training, float(high))
    return {k: at_low[k] + share * (at_high[k] - at_low[k]) for k in at_low}, counts


def recorded(
    archive: np.lib.npyio.NpzFile, meta: Meta, training: bool, counts: Mapping[str, int]
) -> Arrays:
    """What the file says of every result of ``run``, under this package's names."""
    results = {"y": archive["y"], "gx": archive["gx"]}
    before = part(archive, "buffer/")
    # Gradients and statistics come here by the renaming that brought the weights.
    gradients = part(archive, "grad/")
    old = loaded(meta, gradients, before)
    new = loaded(meta, gradients, before, part(archive, "buffer_after/"))
    for name, parameter in old.named_parameters():
        if not parameter.stop_gradient:
            results[f"gradient of {name}"] = parameter.numpy()
    for name, norm in batch_norms(old).items():
        n = counts[name]
        # PyTorch adds the unbiased batch variance to the running one, Paddle the biased.
        for statistic, correction in (("_mean", 1.0), ("_variance", (n - 1) / n)):
            value = getattr(norm, statistic).numpy()
            if training:
                after = getattr(batch_norms(new)[name], statistic).numpy()
                batch = (after - 0.9 * value) / 0.1 * correction
                value = MOMENTUM * value + (1 - MOMENTUM) * batch
            results[f"{name}.{statistic}"] = value
    return results
