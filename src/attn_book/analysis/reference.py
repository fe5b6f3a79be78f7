"""The blocks against arrays recorded from the papers' own PyTorch code.

``$ATTN_REFERENCE_DIR`` names a folder of ``.npz`` files, each with an input, weights, the output
and all gradients of one original class. A file's ``meta`` says which class was run with which
arguments; ``BUILDERS`` says what that is here. Everything is computed in float64.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import numpy as np
import paddle
import pandas as pd
from paddle import nn

from attn_blocks.errors import DataError, choose
from attn_blocks.layers import create_attn, list_attns
from attn_blocks.layers.bat import BATransform
from attn_blocks.models.torch_weights import load_torch_state_dict

VARIABLE = "ATTN_REFERENCE_DIR"
MOMENTUM = float(np.float32(0.9))  # Paddle's kernels hold a batch norm's momentum in float32
BUILDERS = {}


def files(attn: str | None = None) -> list[Path] | None:
    """The recorded files, of one block or of all; None where no folder is named.

    Raises:
        DataError: ``$ATTN_REFERENCE_DIR`` names a folder without ``.npz`` files.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise DataError(f"{VARIABLE}={folder} has no .npz files; name the folder of the recordings")
    if attn is None:
        return paths
    choose("attention block", attn, list_attns())
    # Files are called after their layer: sge__..., nl_batrepo__..., seblock_..., batransform__...
    names = {"se": ("se_", "seblock_"), "bat": ("bat_", "batransform_")}.get(attn, (f"{attn}_",))
    return [path for path in paths if path.name.startswith(names)]


def table(attn: str) -> pd.DataFrame | str:
    """The largest differences between a block and the recordings of its original code.

    Each difference is relative to the recorded array's largest value where that is above 1. In
    place of the table, a sentence says what to set where there are no recordings.
    """
    paths = files(attn)
    if paths is None:
        return f"{VARIABLE} is not set, so the block is not compared with the papers' code here."
    rows = []
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(str(archive["meta"]))
        errors = compare(path, training=meta["mode"] == "train")
        gradients = [e for name, e in errors.items() if name.startswith("gradient of")]
        rows.append(
            {
                "recording": path.stem,
                "output": errors["y"],
                "input gradient": errors["gx"],
                "parameter gradients": max(gradients, default=0.0),
                # Last: long names would push the differences out of sight on a small screen.
                "repository": meta["source"]["repo"],
            }
        )
    return pd.DataFrame(rows).set_index("recording").map(_short_form)


def _short_form(value: object) -> object:
    return f"{value:.0e}" if isinstance(value, float) else value


def compare(path: Path, training: bool) -> dict[str, float]:
    """Differences between this package and one recording, by the name of the result.

    Results are the output ``y``, the input's gradient ``gx``, every parameter's gradient and the
    running statistics after the step. A difference is the largest absolute one, divided by the
    recorded array's largest value where that is above 1; infinite if the shapes differ.
    """
    with np.load(path, allow_pickle=False) as archive:
        meta = json.loads(str(archive["meta"]))
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


# --- original class and its arguments -> block here ------------------------------------------
# Each function has the signature of the original constructor, so that whatever a file leaves out
# takes the original default and whatever it adds is an error.


def original(*layers):
    def enter(build):
        for layer in layers:
            BUILDERS[layer] = build
        return build

    return enter


def timm_width(channels, rd_ratio, rd_channels, rd_divisor, round_limit=0.9):
    """timm's rule for the hidden width: the nearest multiple, never much below the wish."""
    if rd_channels:
        return rd_channels
    wish = channels * rd_ratio
    width = max(rd_divisor, int(wish + rd_divisor / 2) // rd_divisor * rd_divisor)
    return width + rd_divisor if width < round_limit * wish else width


@original("se_moskomule")
def se_moskomule(channel, reduction=16):
    return create_attn("se", channel, reduction=reduction, bias=False)


@original("se_srmrepo")
def se_srmrepo(channel, reduction=16):
    return create_attn("se", channel, reduction=reduction)


@original("se_timm")
def se_timm(channels, rd_ratio=1 / 16, rd_channels=None, rd_divisor=8, bias=True):
    hidden = timm_width(channels, rd_ratio, rd_channels, rd_divisor, round_limit=0)
    return create_attn("se", channels, hidden=hidden, bias=bias)


@original("seblock_jypark_asis")
def seblock_as_published(channels, reduction=16):
    return create_attn("se", channels, reduction=reduction, bias=False, shift=True, squeeze="none")


@original("seblock_jypark_pooled")
def seblock_pooled(channels, reduction=16):
    return create_attn("se", channels, reduction=reduction, bias=False, shift=True)


@original("ge_timm")
def ge_timm(
    channels,
    feat_size=None,
    extra_params=False,
    extent=0,
    use_mlp=True,
    rd_ratio=1 / 16,
    rd_channels=None,
    rd_divisor=1,
):
    return create_attn(
        "ge",
        channels,
        variant="theta" if extra_params else "theta_minus",
        extent=extent,
        feat_size=feat_size,
        hidden=timm_width(channels, rd_ratio, rd_channels, rd_divisor, round_limit=0),
        mlp=use_mlp,
        gather_relu=False,
        padding="same",
    )


@original("ge_srmrepo")
def ge_srmrepo(channel, layer_idx):
    size = {1: 56, 2: 28, 3: 14, 4: 7}[layer_idx]
    return create_attn("ge", channel, variant="theta", feat_size=size, conv_bias=True)


@original("ge_caffe")
def ge_caffe(channels, variant, extent=0, feat_size=None, reduction=16):
    return create_attn(
        "ge",
        channels,
        variant=variant,
        extent=extent,
        feat_size=feat_size,
        reduction=reduction,
        gather_relu=True,
    )


@original("srm")
def srm(channel):
    return create_attn("srm", channel)


@original("sge")
def sge(groups=64, *, shape):
    return create_attn("sge", shape[1], groups=groups)


@original("sa")
def sa(channel, groups=64):
    return create_attn("sa", channel, groups=groups)


@original("nl_batrepo")
def nl_batrepo(inplanes, use_scale=True):
    return create_attn("nl", inplanes, scale=use_scale)


@original("nl_timm")
def nl_timm(in_channels, use_scale=True, rd_ratio=1 / 8, rd_channels=None, rd_divisor=8):
    inner = timm_width(in_channels, rd_ratio, rd_channels, rd_divisor)
    return create_attn("nl", in_channels, inner=inner, scale=in_channels**-0.5 if use_scale else 1)


@original("nl_gcnet")
def nl_gcnet(
    in_channels, reduction=2, use_scale=True, conv_cfg=None, norm_cfg=None, mode="embedded_gaussian"
):
    inner = in_channels // reduction
    return create_attn(
        "nl",
        in_channels,
        inner=inner,
        mode=mode,
        scale=inner**0.5 if use_scale else 1,  # the bug of that commit: divided by c^-0.5
        norm=norm_cfg is not None,
        out_bias=norm_cfg is None,
    )


@original("nl_caffe2")
def nl_caffe2(dim_in, dim_inner, **switches):
    def on(*words):
        """A switch of the original's configuration (NONLOCAL.USE_BN ...), on by default."""
        for name, value in switches.items():
            if any(word in name.lower() for word in words):
                # A number is a pooling stride, and 1 does not pool.
                return value > 1 if type(value) is int else bool(value)
        return True

    softmax = on("softmax") and "dot_product" not in switches.values()
    return create_attn(
        "nl",
        dim_in,
        inner=dim_inner,
        mode="embedded_gaussian" if softmax else "dot_product",
        scale=on("scale"),
        subsample="input" if on("pool", "sub") else None,
        norm=on("bn", "norm"),
        epsilon=1.0000001e-5,
    )


@original(
    "nl_alexhex7_embedded_gaussian",
    "nl_alexhex7_gaussian",
    "nl_alexhex7_dot_product",
    "nl_alexhex7_concatenation",
)
def nl_alexhex7(in_channels, inter_channels=None, sub_sample=True, bn_layer=True, *, layer):
    return create_attn(
        "nl",
        in_channels,
        inner=inter_channels,
        mode=layer.removeprefix("nl_alexhex7_"),
        scale=False,
        subsample="projections" if sub_sample else None,
        norm=bn_layer,
    )


@original("gc")
def gc(inplanes, ratio, pooling_type="att", fusion_types=("channel_add",)):
    fusion = [name.removeprefix("channel_") for name in fusion_types]
    return create_attn("gc", inplanes, ratio=ratio, pooling=pooling_type, fusion=fusion)


@original("gc_timm")
def gc_timm(
    channels,
    use_attn=True,
    fuse_add=False,
    fuse_scale=True,
    init_last_zero=False,
    rd_ratio=1 / 8,
    rd_channels=None,
    rd_divisor=1,
):
    return create_attn(
        "gc",
        channels,
        pooling="att" if use_attn else "avg",
        fusion=["mul"] * fuse_scale + ["add"] * fuse_add,
        hidden=timm_width(channels, rd_ratio, rd_channels, rd_divisor, round_limit=0),
        epsilon=1e-6,
    )


@original("batransform")
def batransform(in_channels, s, k):
    return BATransform(in_channels, s, k)


@original("batransform_timm")
def batransform_timm(in_channels, block_size, groups):
    return BATransform(in_channels, block_size, groups, conv_bias=False)


@original("bat")
def bat(in_channels, r=2, s=4, k=4, dropout=0.2, transpose=False):
    return create_attn("bat", in_channels, reduction=r, size=s, groups=k, dropout=dropout)


@original("bat_timm")
def bat_timm(
    in_channels,
    block_size=7,
    groups=2,
    rd_ratio=0.25,
    rd_channels=None,
    rd_divisor=8,
    drop_rate=0.2,
):
    return create_attn(
        "bat",
        in_channels,
        size=block_size,
        groups=groups,
        hidden=timm_width(in_channels, rd_ratio, rd_channels, rd_divisor),
        dropout=drop_rate,
        conv_bias=False,
    )


def build(meta):
    make = BUILDERS[meta["layer"]]
    # Two originals take what they need from elsewhere: SGE from its input, AlexHex7 its file.
    extra = {name: meta[name] for name in ("shape", "layer") if name in signature(make)}
    return make(**meta["kwargs"], **extra)


def signature(function):
    return inspect.signature(function).parameters


# --- the comparison ----------------------------------------------------------------------------


def part(archive, kind):
    return {k.removeprefix(kind): archive[k] for k in archive.files if k.startswith(kind)}


class RecordedDropout(nn.Layer):
    """Dropout with the mask that the original drew."""

    def __init__(self, mask):
        super().__init__()
        self.mask = paddle.to_tensor(mask, dtype="float64")

    def forward(self, x):
        return x * self.mask


def loaded(meta, *states):
    layer = build(meta).to(dtype="float64")
    load_torch_state_dict(layer, {name: array for state in states for name, array in state.items()})
    return layer


def batch_norms(layer):
    return {n: sub for n, sub in layer.named_sublayers() if isinstance(sub, nn.BatchNorm2D)}


def norms(layer):
    return [sub for sub in layer.sublayers() if hasattr(sub, "_epsilon")]


def run(archive, meta, training, epsilon):
    """Forward and backward; every result by name, and the values a channel in each batch norm."""
    layer = loaded(meta, part(archive, "param/"), part(archive, "buffer/"))
    layer.train() if training else layer.eval()
    if "extra/dropout_mask" in archive.files:
        layer.dropout = RecordedDropout(archive["extra/dropout_mask"])
    for norm in norms(layer):
        norm._epsilon = epsilon
    counts = {}
    for name, norm in batch_norms(layer).items():

        def count(_, inputs, name=name):
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


def run_at_exact_epsilon(archive, meta, training):
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


def recorded(archive, meta, training, counts):
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
