"""The book's networks in PyTorch, to be timed beside them; runs with the peer's interpreter.

ResNets come from timm, as do the blocks that timm has in the same form: SE, NL, GC and BAT. The
other blocks are written here as their papers' code writes them, the classics come from torchvision.
``models.py`` starts this file as a worker and says where which block stands, and how it is set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import common
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import BatNonLocalAttn, GlobalContext, NonLocalAttn, SEModule
from torch import Tensor, nn


class GatherExcite(nn.Module):
    """Global theta: a depth-wise convolution over the whole map, batch norm, sigmoid."""

    def __init__(self, channels: int, size: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, size, groups=channels, bias=bias)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.norm(self.conv(x)))


class StyleRecalibration(nn.Module):
    """Mean and standard deviation of a channel, weighted, normalised, as its gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)
        style = torch.stack([pixels.mean(2), (pixels.var(2) + 1e-5).sqrt()], dim=2)
        z = (style * self.weight).sum(2)[:, :, None, None]
        return x * torch.sigmoid(self.norm(z))


class SpatialGroupEnhance(nn.Module):
    """Each group's pixels gated by their likeness to the group's mean."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.reshape(batch * self.groups, channels // self.groups, height, width)
        alike = (x * x.mean((2, 3), keepdim=True)).sum(1).flatten(1)
        alike = alike - alike.mean(1, keepdim=True)
        alike = alike / (alike.std(1, keepdim=True) + 1e-5)
        gate = alike.view(batch, self.groups, height, width) * self.weight + self.bias
        gate = torch.sigmoid(gate).view(batch * self.groups, 1, height, width)
        return (x * gate).view(batch, channels, height, width)


class ShuffleAttention(nn.Module):
    """Half of each group gated by channel, half by pixel, then shuffled."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        half = channels // (2 * groups)
        self.channel = nn.ParameterList([torch.zeros(1, half, 1, 1), torch.ones(1, half, 1, 1)])
        self.pixel = nn.ParameterList([torch.zeros(1, half, 1, 1), torch.ones(1, half, 1, 1)])
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.reshape(batch * self.groups, channels // self.groups, height, width)
        one, other = x.chunk(2, dim=1)
        weight, bias = self.channel
        one = one * torch.sigmoid(weight * one.mean((2, 3), keepdim=True) + bias)
        weight, bias = self.pixel
        other = other * torch.sigmoid(weight * self.norm(other) + bias)
        x = torch.cat([one, other], dim=1).view(batch, 2, channels // 2, height, width)
        return x.transpose(1, 2).reshape(batch, channels, height, width)


def block(name: str, settings: Mapping) -> nn.Module:
    """The block of one place in a network, set as ``settings`` of the book's network says."""
    channels = settings["channels"]
    if name == "se":
        return SEModule(channels, rd_ratio=1 / settings["reduction"], rd_divisor=1)
    if name == "ge":
        return GatherExcite(channels, settings["feat_size"], settings["conv_bias"])
    if name == "srm":
        return StyleRecalibration(channels)
    if name == "sge":
        return SpatialGroupEnhance(settings["groups"])
    if name == "sa":
        return ShuffleAttention(channels, settings["groups"])
    if name == "nl":
        return NonLocalAttn(channels, rd_ratio=1 / 2)
    if name == "gc":
        return GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_ratio=settings["ratio"])
    if name == "bat":
        return BatNonLocalAttn(
            channels, settings["size"], settings["groups"], rd_ratio=1 / settings["reduction"]
        )
    raise ValueError(f"no PyTorch block is written for {name!r}; add one to {__file__}")


def resnet(
    depth: str, attn: Mapping, between: list[str], width: float = 1.0, stem: str = "imagenet"
) -> nn.Module:
    """timm's ResNet with blocks inside its residual blocks or, ``between``, after some of them.

    Args:
        width: scales all channels, which must be multiples of 8 then.
        stem: "imagenet", or "small" for bottlenecks after a 3x3 convolution of stride 2.
    """
    channels = [round(width * full) for full in (64, 128, 256, 512)]
    model = timm.create_model(depth, num_classes=10, channels=channels)
    if stem == "small":
        _small_stem(model, channels[0])
    # Blocks inside come first, while a stage holds nothing but residual blocks.
    for name, places in sorted(attn.items(), key=lambda item: item[1]["placement"] == "between"):
        for stage in [place for place in places if place.startswith("layer")]:
            layer = getattr(model, stage)
            if places["placement"] != "between":
                for residual in layer:
                    residual.se = block(name, places[stage])
                continue
            modules = []
            for number, residual in enumerate(layer):
                modules.append(residual)
                if f"{stage}.nl{number}" in between:
                    modules.append(block(name, places[stage]))
            setattr(model, stage, nn.Sequential(*modules))
    return model


def _small_stem(model: nn.Module, channels: int) -> None:
    # timm has a single width of stem, so that what reads it is replaced as well.
    model.conv1 = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
    model.bn1, model.maxpool = nn.BatchNorm2d(channels), nn.Identity()
    first, outputs = model.layer1[0], 4 * channels
    first.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
    shortcut = nn.Conv2d(channels, outputs, 1, bias=False)
    first.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class SENetResidual(nn.Module):
    """Two convolutions and a gate and a shift of every pixel, the published SENet's."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = conv3(channels, channels), nn.BatchNorm2d(channels)
        hidden = channels // reduction
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        weight, bias = self.excite(F.relu(self.squeeze(y))).chunk(2, dim=1)
        return F.relu(y * torch.sigmoid(weight) + bias + x)


def senet_cifar(attn: Mapping) -> nn.Module:
    settings = attn["se"]["blocks"]
    channels = settings["channels"]
    residuals = [SENetResidual(channels, settings["reduction"]) for _ in range(9)]
    return nn.Sequential(
        conv3(3, channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        *residuals,
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
        nn.LogSoftmax(1),
    )


class ResidualInception(nn.Module):
    """Four routes, concatenated, and a 1x1 convolution past them."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
            layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            return nn.Sequential(layer, nn.ReLU())

        self.routes = nn.ModuleList(
            [
                conv(channels, 64, 1),
                nn.Sequential(conv(channels, 64, 1), conv(64, 128, 3)),
                nn.Sequential(conv(channels, 16, 1), conv(16, 32, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(channels, 32, 1)),
            ]
        )
        self.shortcut = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.cat([route(x) for route in self.routes], dim=1) + self.shortcut(x))


def sa_inception(attn: Mapping) -> nn.Module:
    settings = attn["sa"]["b3, b4, b5"]
    channels = settings["channels"]

    def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
        layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2))

    def attention() -> nn.Module:
        return ShuffleAttention(channels, settings["groups"])

    residuals = [
        part
        for _ in range(2)
        for part in (ResidualInception(channels), nn.MaxPool2d(2), attention())
    ]
    return nn.Sequential(
        conv(3, 64, 2),
        conv(64, 128),
        conv(128, channels),
        attention(),
        conv(channels, channels),
        attention(),
        *residuals,
        ResidualInception(channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )


def create(
    name: str, attn: Mapping, between: list[str], width: float = 1.0, stem: str = "imagenet"
) -> nn.Module:
    """The twin of the book's network ``name``; width and stem are for ResNets."""
    if "resnet" in name:
        return resnet(name.split("_")[-1], attn, between, width, stem)
    if name in ("vgg19", "mobilenet_v2"):
        return getattr(torchvision.models, name)(num_classes=10)
    return {"senet_cifar": senet_cifar, "sa_inception": sa_inception}[name](attn)


def steps(model: nn.Module, batch: int, size: int, mode: str) -> dict[str, Callable[[], None]]:
    """Training and inference steps on random images.

    Args:
        mode: "eager", "compiled" or "bfloat16" (automatic mixed precision), all channels-last;
            "contiguous" is eager in PyTorch's default layout.
    """
    layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last
    model = model.to(memory_format=layout)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, size, size).to(memory_format=layout)
    labels = torch.randint(10, [batch])
    run = torch.compile(model) if mode == "compiled" else model
    lowered = mode == "bfloat16"
    precision = torch.autocast("cpu", torch.bfloat16) if lowered else contextlib.nullcontext()

    def train() -> None:
        if not model.training:
            model.train()
        with precision:
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()

    @torch.inference_mode()
    def inference() -> None:
        if model.training:
            model.eval()
        with precision:
            run(images)

    return {"train": train, "inference": inference}


def build(
    model: str, batch: int, image_size: int, attn: Mapping, between: list[str], mode: str = "eager"
) -> tuple[common.Steps, dict]:
    torch.manual_seed(0)
    network = create(model, attn, between)
    facts = {
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "threads": torch.get_num_threads(),
        "versions": common.versions(),
    }
    made = steps(network, batch, image_size, mode)
    if mode == "compiled":  # now, so that a failure is one of building
        for step in made.values():
            step()
    return made, facts


if __name__ == "__main__":
    common.serve(build)
