"""The part of Paddle that the book's layers and models call, over PyTorch's operators.

Importing this file puts it in the place of ``paddle`` and of those of its modules that
``attn_blocks.layers`` and ``attn_blocks.models`` import; they are then PyTorch modules. Names,
shapes and conventions are Paddle's: a linear weight is [inputs, outputs], a batch norm keeps
``_mean`` and ``_variance``, the biased one. So a state of one side is a state of the other.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import partial
from math import prod
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import attn_book  # noqa: F401  (it imports Paddle, where it finds one, and must not find this one)


def single(value: float) -> float:
    """``value`` as Paddle's kernels take their settings: in float32, for float64 data too."""
    return float(np.float32(value))


# Tensors: where a method takes other arguments than Paddle's, it takes both ----------------------

_transposed, _pieces = Tensor.transpose, Tensor.split
_reshaped, _with_axis = Tensor.reshape, Tensor.unsqueeze


def _transpose(x: Tensor, *axes) -> Tensor:
    return x.permute(axes[0]) if len(axes) == 1 else _transposed(x, *axes)


def _split(x: Tensor, size, dim: int = 0, *, axis: int | None = None):
    """With ``axis``, into so many parts; PyTorch's own call says how long a part is."""
    return _pieces(x, size, dim) if axis is None else x.chunk(size, axis)


def _unsqueeze(x: Tensor, dim) -> Tensor:
    for axis in dim if isinstance(dim, list) else [dim]:
        x = _with_axis(x, axis)
    return x


def _reshape(x: Tensor, *shape) -> Tensor:
    """A size of 0 in a list stands for as many as before."""
    if isinstance(shape[0], list):
        shape = [size or x.shape[axis] for axis, size in enumerate(shape[0])]
    return _reshaped(x, *shape)


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


Tensor.transpose, Tensor.split, Tensor.unsqueeze = _transpose, _split, _unsqueeze
Tensor.reshape, Tensor.astype = _reshape, Tensor.to

# Initial values: a tensor's method and its arguments, kept by the parameter until ``draw`` --------

INITIALIZERS = {
    "Constant": lambda value=0.0: ("fill_", value),
    "KaimingNormal": lambda fan_in: ("normal_", 0.0, (2 / fan_in) ** 0.5),
    "Normal": lambda mean=0.0, std=1.0: ("normal_", mean, std),
    "Uniform": lambda low=-1.0, high=1.0: ("uniform_", low, high),
}
ZEROS, ONES = ("fill_", 0.0), ("fill_", 1.0)


def _parameter(shape: Sequence[int], start: tuple | None, default: tuple) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(*shape))
    made.start = start or default
    return made


@torch.no_grad()
def draw(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every parameter its initial values, by the seed and the parameter's name alone."""
    for name, parameter in model.named_parameters():
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:4], "big"))
        method, *settings = parameter.start
        values = torch.empty(parameter.shape, device="cpu")  # the same numbers on every device
        parameter.copy_(getattr(values, method)(*settings))
    return model


# Layers ------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    def create_parameter(self, shape: Sequence[int], default_initializer: tuple):
        return _parameter(shape, None, default_initializer)


class Sequential(torch.nn.Sequential):
    """Layers, or pairs of a name and a layer."""

    def __init__(self, *layers) -> None:
        super().__init__()
        for number, layer in enumerate(layers):
            self.add_module(*(layer if isinstance(layer, tuple) else (str(number), layer)))

    add_sublayer = torch.nn.Module.add_module


class Conv2D(torch.nn.Conv2d):
    def __init__(self, *sizes, weight_attr=None, bias_attr=None, **geometry) -> None:
        super().__init__(*sizes, bias=bias_attr is not False, **geometry)
        he = INITIALIZERS["KaimingNormal"](self.in_channels * prod(self.kernel_size))
        self.weight = _parameter(self.weight.shape, weight_attr, he)
        if self.bias is not None:
            self.bias = _parameter(self.bias.shape, bias_attr, ZEROS)


class Linear(Layer):
    def __init__(self, inputs: int, outputs: int, weight_attr=None, bias_attr=None) -> None:
        super().__init__()
        glorot = (6 / (inputs + outputs)) ** 0.5
        self.weight = _parameter([inputs, outputs], weight_attr, ("uniform_", -glorot, glorot))
        self.bias = _parameter([outputs], bias_attr, ZEROS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.T, self.bias)


class Norm(Layer):
    """What the norms share: weight, bias and epsilon."""

    def __init__(self, size: int, epsilon: float = 1e-5, weight_attr=None) -> None:
        super().__init__()
        self.weight = _parameter([size], weight_attr, ONES)
        self.bias = _parameter([size], None, ZEROS)
        self._epsilon = single(epsilon)


class BatchNorm2D(Norm):
    KEPT = 1 - single(0.9)  # share of a batch in the running statistics

    def __init__(self, channels: int, **settings) -> None:
        super().__init__(channels, **settings)
        self.register_buffer("_mean", torch.zeros(channels))
        self.register_buffer("_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        learned = {"weight": self.weight, "bias": self.bias, "eps": self._epsilon}
        norm = partial(functional.batch_norm, x, self._mean, self._variance, **learned)
        if not self.training:
            return norm()
        # PyTorch adds the batch's variance by n - 1, Paddle the one by n. Without ``data`` the
        # backward pass would take the change for one of what it needs.
        count = x.numel() // x.shape[1]
        self._variance.data *= count / (count - 1)
        y = norm(training=True, momentum=self.KEPT)
        self._variance.data *= (count - 1) / count
        return y


class GroupNorm(Norm):
    """Holds what shuffle attention's instance norm takes; it is never called itself."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(channels)


class LayerNorm(Norm):
    def __init__(self, shape: Sequence[int], epsilon: float = 1e-5) -> None:
        super().__init__(prod(shape), epsilon)
        self.shape = list(shape)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.reshape(self.shape), self.bias.reshape(self.shape)
        return functional.layer_norm(x, self.shape, weight, bias, self._epsilon)


# Parts of paddle.vision's networks, under its names ----------------------------------------------


class ConvNormActivation(Sequential):
    def __init__(
        self, inputs, outputs, kernel_size=3, stride=1, groups=1, activation_layer=torch.nn.ReLU
    ) -> None:
        geometry = {"stride": stride, "padding": kernel_size // 2, "groups": groups}
        conv = Conv2D(inputs, outputs, kernel_size, bias_attr=False, **geometry)
        super().__init__(conv, BatchNorm2D(outputs), activation_layer())


class InvertedResidual(Layer):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner, relu6 = inputs * expansion, {"activation_layer": torch.nn.ReLU6}
        widen = [ConvNormActivation(inputs, inner, 1, **relu6)] if expansion > 1 else []
        mix = ConvNormActivation(inner, inner, stride=stride, groups=inner, **relu6)
        narrow = Conv2D(inner, outputs, 1, bias_attr=False)
        self.conv = Sequential(*widen, mix, narrow, BatchNorm2D(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class VGG(Layer):
    def __init__(self, features: torch.nn.Module, num_classes: int) -> None:
        super().__init__()
        self.features, self.avgpool = features, torch.nn.AdaptiveAvgPool2d(7)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def make_layers(channels: Sequence[int | str]) -> Sequential:
    """VGG's 3x3 convolutions of so many channels, each with a ReLU; "M" is a max-pool."""
    layers, inputs = [], 3
    for outputs in channels:
        if outputs == "M":
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers += [Conv2D(inputs, outputs, 3, padding=1), torch.nn.ReLU()]
            inputs = outputs
    return Sequential(*layers)


# In the place of Paddle --------------------------------------------------------------------------

OWN = (Layer, Sequential, Conv2D, Linear, BatchNorm2D, GroupNorm, LayerNorm)
LAYERS = ("AdaptiveAvgPool2d", "Dropout", "Dropout2d", "Identity", "MaxPool2d", "ReLU", "ReLU6")
FUNCTIONS = ("adaptive_max_pool2d", "conv2d", "instance_norm", "interpolate", "max_pool2d", "relu")
MODULES = {
    "paddle": {
        "ParamAttr": lambda initializer: initializer,
        "arange": torch.arange,
        "concat": lambda tensors, axis: torch.cat(tensors, axis),
        "matmul": _matmul,
    },
    "paddle.nn": {kind.__name__: kind for kind in OWN}
    | {name.replace("2d", "2D"): getattr(torch.nn, name) for name in LAYERS},
    "paddle.nn.functional": {name: getattr(functional, name) for name in FUNCTIONS}
    | {
        "log_softmax": lambda x, axis=-1: x.log_softmax(axis),
        "sigmoid": torch.sigmoid,
        "softmax": lambda x, axis=-1: x.softmax(axis),
    },
    "paddle.nn.initializer": INITIALIZERS,
    "paddle.vision": {},
    "paddle.vision.models": {"VGG": VGG},
    "paddle.vision.models.mobilenetv2": {"InvertedResidual": InvertedResidual},
    "paddle.vision.models.vgg": {"make_layers": make_layers},
    "paddle.vision.ops": {"ConvNormActivation": ConvNormActivation},
}
for _name, _contents in MODULES.items():
    sys.modules[_name] = _module = ModuleType(_name)
    vars(_module).update(_contents)
    _parent, _, _child = _name.rpartition(".")
    if _parent:
        setattr(sys.modules[_parent], _child, _module)
