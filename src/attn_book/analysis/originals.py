"""Which block here an original PyTorch class is: its arguments -> the same block in Paddle.

Each function has the signature of the original constructor, so that whatever a recording leaves
out takes the original default and whatever it adds is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from paddle import nn

from attn_blocks.layers import create_attn
from attn_blocks.layers.bat import BATransform

BUILDERS: dict[str, Callable[..., nn.Layer]] = {}


def original(*layers: str) -> Callable:
    """Function decorator: ``build`` makes recordings of these classes by this function."""

    def decorate(make: Callable[..., nn.Layer]) -> Callable[..., nn.Layer]:
        BUILDERS.update(dict.fromkeys(layers, make))
        return make

    return decorate


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


def build(meta: Mapping[str, Any]) -> nn.Layer:
    """The block that a recording's ``meta`` describes, with fresh weights."""
    make = BUILDERS[meta["layer"]]
    # Two originals take what they need from elsewhere: SGE from its input, AlexHex7 its file.
    known = inspect.signature(make).parameters
    extra = {name: meta[name] for name in ("shape", "layer") if name in known}
    return make(**meta["kwargs"], **extra)
