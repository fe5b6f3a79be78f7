"""ResNet-18, -34, -50 and -101, plain or with attention blocks.

He et al. 2016, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385.
Layout, parameter names and initial values are torchvision's (its "v1.5": a bottleneck's stride
sits in the 3x3 convolution), so that checkpoints of the papers' PyTorch code map by name. The
positions of the attention blocks are those of the official repositories:

* ``inside``: in every residual block, after its last normalisation and before the addition, as
  ``layer1.0.attn`` (SE, GE, SRM, SGE, SA).
* ``inside_c3_c5``: the same without the first stage, the placement of the GCNet paper (Cao et al.
  2019, the stages it calls c3 to c5).
* ``between``: modules of their own after every second residual block (1, 3, 5, ...) of the second
  and third stage, as ``layer2.nl1`` (NL, GC, BAT); in ResNet-101 after every seventh (6, 13, 20)
  of the third. Positions and names are the BAT repository's (``nl_mod`` 2 2 and 2 7 of its README,
  BA-Transform/BAT-Image-Classification).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.nn.initializer import Normal, Uniform

from attn_blocks.errors import SettingError, choose
from attn_blocks.layers import create_attn, keywords_of
from attn_blocks.models.scaling import STEMS, block_settings, halve, scale_channels

INSIDE = {"inside": (1, 2, 3, 4), "inside_c3_c5": (2, 3, 4)}  # placement: stages
PLACEMENTS = (*INSIDE, "between")
MODULES = ("nl", "gc", "bat")  # placed between blocks unless told otherwise

MakeAttn = Callable[[int, int], nn.Layer]  # (stage, channels) -> block


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """A convolution without bias that keeps the map's size / stride; He initialised, fan-out."""
    he_fan_out = Normal(std=(2 / (outputs * kernel * kernel)) ** 0.5)
    return nn.Conv2D(
        inputs,
        outputs,
        kernel,
        stride,
        padding=kernel // 2,
        weight_attr=paddle.ParamAttr(initializer=he_fan_out),
        bias_attr=False,
    )


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with PyTorch's initial values, uniform within 1/sqrt(inputs)."""
    uniform = paddle.ParamAttr(initializer=Uniform(-(inputs**-0.5), inputs**-0.5))
    return nn.Linear(inputs, outputs, weight_attr=uniform, bias_attr=uniform)


class Scale(nn.Layer):
    """y = factor * x: what a gate is that has learned nothing; any shape.

    Args:
        channels: not used; blocks are made from it.
        factor: the constant.
    """

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.factor = float(factor)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.factor


def _shortcut(
    inputs: int, outputs: int, stride: int, conv: Callable[..., nn.Conv2D] = conv
) -> nn.Layer:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2D(outputs))


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions; [N, inputs, H, W] -> [N, planes, H/stride, W/stride]."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        attn: nn.Layer,
        conv: Callable[..., nn.Conv2D] = conv,
    ):
        super().__init__()
        self.conv1 = conv(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2D(planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2D(planes)
        self.attn = attn
        self.downsample = _shortcut(inputs, planes, stride, conv)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(self.attn(y) + self.downsample(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolutions; [N, inputs, H, W] -> [N, 4 * planes, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, attn: nn.Layer):
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = conv(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2D(planes)
        self.conv2 = conv(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2D(planes)
        self.conv3 = conv(planes, outputs, 1)
        self.bn3 = nn.BatchNorm2D(outputs)
        self.attn = attn
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(self.attn(y) + self.downsample(x))


@dataclass(frozen=True)
class Depth:
    """Blocks in each stage, and after every how many a module stands between them."""

    block: type[nn.Layer]
    repeats: tuple[int, int, int, int]
    module_every: dict[int, int] = field(default_factory=lambda: {2: 2, 3: 2})


DEPTHS = {
    18: Depth(BasicBlock, (2, 2, 2, 2)),
    34: Depth(BasicBlock, (3, 4, 6, 3)),
    50: Depth(Bottleneck, (3, 4, 6, 3)),
    101: Depth(Bottleneck, (3, 4, 23, 3), {2: 2, 3: 7}),
}


class ResNet(nn.Layer):
    """The residual network; images [N, 3, H, W] -> logits [N, num_classes].

    Args:
        depth: 18, 34, 50 or 101.
        num_classes: outputs of the last layer.
        width: scales every channel count, rounded by ``scaling.scale_channels``.
        stem: ``"imagenet"`` 7x7 convolution of stride 2 and 3x3 max-pooling of stride 2,
            ``"small"`` 3x3 convolution of stride 2, ``"cifar"`` 3x3 convolution of stride 1.
        inside: makes the block ``attn`` of each residual block from (stage, channels); stages
            count from 1. None for no block.
        between: makes the modules between residual blocks, in the same way.

    Raises:
        SettingError: an unknown stem.
    """

    def __init__(
        self,
        depth: int = 50,
        num_classes: int = 1000,
        width: float = 1.0,
        stem: str = "imagenet",
        inside: MakeAttn | None = None,
        between: MakeAttn | None = None,
    ):
        super().__init__()
        choose("stem", stem, STEMS)
        block, every = DEPTHS[depth].block, DEPTHS[depth].module_every
        planes = [scale_channels(channels, width) for channels in (64, 128, 256, 512)]
        channels = planes[0]
        if stem == "imagenet":
            self.conv1 = conv(3, channels, 7, stride=2)
            self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        else:
            self.conv1 = conv(3, channels, 3, stride=2 if stem == "small" else 1)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2D(channels)
        for stage, stage_planes in enumerate(planes, start=1):
            layers = nn.Sequential()
            outputs = stage_planes * block.expansion
            for i in range(DEPTHS[depth].repeats[stage - 1]):
                stride = 2 if stage > 1 and i == 0 else 1
                attn = inside(stage, outputs) if inside else nn.Identity()
                layers.add_sublayer(str(i), block(channels, stage_planes, stride, attn))
                channels = outputs
                if between and stage in every and (i + 1) % every[stage] == 0:
                    layers.add_sublayer(f"nl{i}", between(stage, channels))
            setattr(self, f"layer{stage}", layers)
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc = linear(channels, num_classes)

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Images [N, 3, H, W] -> the map that the first stage sees."""
        return self.maxpool(F.relu(self.bn1(self.conv1(x))))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.stem(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def map_sizes(image_size: int, stem: str) -> dict[int, int]:
    """The side of the map in each stage, pixels, for square images."""
    after_stem = halve(image_size, {"imagenet": 2, "small": 1, "cifar": 0}[stem])
    return {stage: halve(after_stem, stage - 1) for stage in (1, 2, 3, 4)}


def build_resnet(
    depth: int,
    attns: tuple[str, ...],
    num_classes: int,
    width: float,
    stem: str,
    image_size: int,
    placement: str | None = None,
    attn: Callable[[int], nn.Layer] | float | None = None,
    **options: object,
) -> ResNet:
    """A ResNet with the blocks ``attns``, each at its own place, or with one of your own.

    Args:
        attns: names of blocks; ``("bat", "se")`` puts BAT between the residual blocks and SE
            inside them, as the BAT repository's ``use_se`` does.
        placement: of a single block, one of ``PLACEMENTS``; None for ``"between"`` for NL, GC and
            BAT, ``"inside"`` for the others.
        attn: makes a block of your own, [N, C, H, W] -> the same shape, from C; or a float, for
            the constant that an untrained gate is; None for no block beside ``attns``.
        options: keywords of the first block's layer.

    Raises:
        SettingError: a placement that does not exist, or maps that a block cannot work on.
        ValueError: a setting that the block refuses.
    """
    if placement and not attns and attn is None:
        raise SettingError(f"placement={placement!r} needs a block to place; give attn")
    own = _own(attn)
    sizes = map_sizes(image_size, stem)
    makers: dict[str, MakeAttn] = {}
    settings: dict[str, dict] = {}
    for block in attns if own is None else (own,):
        where = choose(
            "placement", placement or ("between" if block in MODULES else "inside"), PLACEMENTS
        )
        stages = INSIDE.get(where, DEPTHS[depth].module_every)
        record = settings[_title(block)] = {"placement": where}
        makers["between" if where == "between" else "inside"] = partial(
            _make_attn,
            block,
            {stage: sizes[stage] for stage in stages},
            width,
            options if block in attns[:1] else {},
            record,
        )
    model = ResNet(depth, num_classes, width, stem, **makers)
    model.settings = {"attn": settings} if settings else {}
    return model


def _own(
    attn: Callable[[int], nn.Layer] | float | None,
) -> Callable[[int], nn.Layer] | None:
    """What makes the reader's own block; None where there is none."""
    if isinstance(attn, nn.Layer):
        kind = type(attn).__name__
        raise SettingError(
            f"attn is a {kind} already made, and each place needs one of its own channel count; "
            f"pass the class, attn={kind}"
        )
    if not isinstance(attn, float):
        return attn
    if not math.isfinite(attn):
        raise SettingError(f"attn={attn} must be a finite number; attn=0.5 works")
    return partial(Scale, factor=attn)


def _title(block: str | Callable[[int], nn.Layer]) -> str:
    if isinstance(block, str):
        return block
    made = block.func if isinstance(block, partial) else block
    return getattr(made, "__name__", type(made).__name__)


def _make_attn(
    block: str | Callable[[int], nn.Layer],
    maps: Mapping[int, int],
    width: float,
    options: Mapping[str, object],
    record: dict,
    stage: int,
    channels: int,
) -> nn.Layer:
    """The block of one stage; writes what it was made with to ``record``."""
    if stage not in maps:
        return nn.Identity()
    placed = {"channels": channels, "map": maps[stage]}
    if isinstance(block, str):
        settings = block_settings(block, channels, maps[stage], maps.values(), width, options)
        record[f"layer{stage}"] = {**placed, **settings}
        return create_attn(block, channels, **settings)
    record[f"layer{stage}"] = placed
    layer = block(channels) if callable(block) else None
    if not isinstance(layer, nn.Layer):
        raise SettingError(
            f"attn={block!r} must be a class or a function that makes a paddle.nn.Layer from the "
            "channel count, such as attn=SqueezeExcite, a registered name, such as attn='se', or "
            "a float, such as attn=0.5"
        )
    return layer


def resnet_options(attns: tuple[str, ...]) -> tuple[str, ...]:
    """The options that ``build_resnet`` takes for these blocks."""
    if not attns:
        return ("attn", "placement")
    placement = ("placement",) if len(attns) == 1 else ()
    return (*placement, *keywords_of(attns[0]))
