"""How ``width``, ``stem`` and ``image_size`` decide channel counts, map sizes and block settings.

The papers state their blocks for full-width networks on 224-pixel images. A smaller network needs
settings that still divide; the rules are below, one for each block, and what they gave stands in
``model.settings``. A setting that is passed explicitly is never changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from math import gcd

from attn_blocks.errors import SettingError
from attn_blocks.layers import keywords_of
from attn_blocks.layers.base import largest_divisor

STEMS = ("imagenet", "small", "cifar")
LARGEST_BAT_SIZE = 7  # the official network's block size


def scale_channels(channels: int, width: float) -> int:
    """``channels * width`` as the nearest multiple of 8, at least 8 and at least 90% of it.

    The rounding of MobileNet (Howard et al. 2017), used here for every model.
    """
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def halve(size: int, times: int = 1) -> int:
    """The side of a map after ``times`` steps of stride 2 with padding: halved, rounded up."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def block_settings(
    attn: str,
    channels: int,
    map_size: int,
    maps: Iterable[int],
    width: float,
    options: Mapping[str, object],
) -> dict[str, object]:
    """Every keyword of the block ``attn`` at one place of a network: defaults, rules, options.

    Args:
        attn: name of the block, see ``list_attns()``.
        channels: channels of the map that the block sees.
        map_size: side of that map, pixels.
        maps: the sides of all maps that blocks of this kind see in the network, pixels.
        width: the network's width.
        options: what the caller sets; it wins over the rules, and the rules over the defaults.

    Rules, where a default of the official code is meant for a full-width network:

    =================  ===========================================================================
    se, ge theta_plus  ``reduction`` 16, or the channel count where that is less: the hidden layer
                       keeps its share of the channels and has at least one
    gc                 ``ratio`` 1/16, or 2/channels where that is more: the layer norm of a
                       single hidden value would be a constant, and the block dead
    sge                ``groups``: the largest divisor of the channels up to 64 * width, so that a
                       group has as many channels as at full width
    sa                 ``groups``: the same with half the channels, since a group splits in two
    ge                 ``variant`` theta over the whole map with a convolution bias, the SRM
                       repository's GE baseline; without the bias for other variants and extents,
                       as in the official prototxt; ``feat_size`` is the map's side where the
                       gathering convolution covers the whole map
    bat                ``size``: the largest block size up to 7 that divides every map it sees
    =================  ===========================================================================

    Raises:
        SettingError: SGE or SRM would meet 1x1 maps, or no block size of BAT divides the maps.
    """
    if attn in ("sge", "srm") and map_size == 1:
        raise SettingError(
            f"this image size and stem leave maps of 1x1, over which {attn} has no variance; "
            "images of more than 32 pixels work, of more than 16 with stem='small' and of more "
            "than 8 with stem='cifar'"
        )
    rules: dict[str, object] = {}
    if attn == "se":
        rules["reduction"] = min(16, channels)
    elif attn == "gc":
        rules["ratio"] = max(1 / 16, 2 / channels)
    elif attn == "sge":
        rules["groups"] = largest_divisor(channels, round(64 * width))
    elif attn == "sa":
        rules["groups"] = largest_divisor(channels // 2, round(64 * width))
    elif attn == "ge":
        variant = options.get("variant", "theta")
        whole_map = options.get("extent", 0) == 0
        rules["variant"] = variant
        rules["reduction"] = min(16, channels)
        rules["conv_bias"] = variant == "theta" and whole_map
        rules["feat_size"] = map_size if variant != "theta_minus" and whole_map else None
    elif attn == "bat":
        rules["size"] = _bat_size(list(maps), options.get("size"))
    defaults = {k: v for k, v in keywords_of(attn).items() if v is not inspect.Parameter.empty}
    return {**defaults, **rules, **options}


def _bat_size(maps: list[int], size: object) -> int:
    common = gcd(*maps)
    automatic = largest_divisor(common, LARGEST_BAT_SIZE)
    shown = " and ".join(f"{side}x{side}" for side in sorted(set(maps), reverse=True))
    if size is None and automatic == 1:
        raise SettingError(
            f"no block size from 2 to {LARGEST_BAT_SIZE} divides the {shown} maps of this "
            "image size and stem; an image size that is a multiple of 64 always works"
        )
    if isinstance(size, int) and size > 0 and common % size:
        raise SettingError(
            f"size={size} does not divide the {shown} maps of this image size and stem; "
            f"size={automatic} does"
        )
    return automatic
