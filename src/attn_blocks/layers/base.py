"""What the block files share: the registry, PyTorch's initial values and the checks of inputs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import paddle
from paddle import nn
from paddle.nn.initializer import Uniform

ATTNS: dict[str, type[nn.Layer]] = {}


def register(name: str) -> Callable[[type[nn.Layer]], type[nn.Layer]]:
    """Class decorator: ``create_attn(name, ...)`` makes this class.

    The same class may be registered again, as a notebook's cell that is run twice does.

    Raises:
        ValueError: another class has the name.
    """

    def decorate(cls: type[nn.Layer]) -> type[nn.Layer]:
        known = ATTNS.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"attention block {name!r} is registered already, as {known.__module__}."
                f"{known.__qualname__}; choose another name"
            )
        ATTNS[name] = cls
        return cls

    return decorate


def positive(name: str, value: int) -> int:
    """Return ``value`` if it is a whole number of at least 1; else raise ValueError."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
    return number


def positive_number(name: str, value: float, example: float) -> float:
    """Return ``value`` if it is a finite number above 0; else raise ValueError with an example."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 < value < math.inf):
        raise ValueError(f"{name}={value!r} must be a number above 0; {name}={example:g} works")
    return value


def hidden_width(channels: int, reduction: int, hidden: int | None = None) -> int:
    """``hidden`` if it is given, else ``channels // reduction``, which must not be 0."""
    if hidden is not None:
        return positive("hidden", hidden)
    if channels // positive("reduction", reduction) == 0:
        raise ValueError(
            f"reduction={reduction} leaves none of {channels} channels; choose reduction "
            f"<= {channels}, or give hidden"
        )
    return channels // reduction


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of ``number`` that is not above ``at_most``; at least 1."""
    return max(d for d in range(1, max(1, min(number, at_most)) + 1) if number % d == 0)


def conv2d(
    inputs: int,
    outputs: int,
    kernel_size: int | tuple[int, int] = 1,
    *,
    bias: bool = True,
    weight_init: nn.initializer.Initializer | None = None,
    bias_init: nn.initializer.Initializer | None = None,
    groups: int = 1,
    **geometry: int | tuple[int, int],
) -> nn.Conv2D:
    """A convolution that starts as PyTorch's does: everything uniform in +-1/sqrt(fan_in).

    The papers' code was trained from those values; Paddle's own default is another distribution.
    ``weight_init`` and ``bias_init`` replace it where the paper's code sets its own.
    """
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    bound = (inputs // groups * height * width) ** -0.5
    return nn.Conv2D(
        inputs,
        outputs,
        kernel_size,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=weight_init or Uniform(-bound, bound)),
        bias_attr=paddle.ParamAttr(initializer=bias_init or Uniform(-bound, bound))
        if bias
        else False,
        **geometry,
    )


def kaiming_fan_out(outputs: int, kernel_area: int = 1) -> nn.initializer.Initializer:
    """He et al.'s normal distribution by the fan-out, sigma = sqrt(2 / (outputs * area))."""
    return nn.initializer.KaimingNormal(fan_in=outputs * kernel_area)


def pixels_in_a_row(x: paddle.Tensor) -> paddle.Tensor:
    """[N, C, H, W] -> [N, C, H*W]. Paddle's own ``flatten`` has no second derivative."""
    return x.reshape([0, 0, -1])  # 0: as many as before


def known_shape(x: paddle.Tensor) -> list[int | None]:
    """The shape, None for what a traced program leaves open: only known sizes can be checked."""
    return [size if isinstance(size, int) and size >= 0 else None for size in x.shape]


def check_input(layer: nn.Layer, x: paddle.Tensor) -> None:
    """Raise ValueError unless ``x`` is [N, layer.channels, H, W]."""
    if x.ndim != 4 or x.shape[1] != layer.channels:
        raise ValueError(
            f"{type(layer).__name__}({layer.channels}) takes [N, {layer.channels}, H, W], "
            f"got {list(x.shape)}"
        )


def check_batch_statistics(layer: nn.Layer, x: paddle.Tensor) -> None:
    """Raise ValueError when a batch norm of ``x`` would train on a single value a channel.

    PyTorch raises there too; Paddle would silently give x back as it is.
    """
    if layer.training and known_shape(x) == [1, layer.channels, 1, 1]:
        raise ValueError(
            f"{type(layer).__name__} normalises one value a sample over the batch, and a training "
            "batch of 1 has no variance; use at least 2 samples, or eval()"
        )


def check_pixels(layer: nn.Layer, x: paddle.Tensor) -> None:
    """Raise ValueError for a 1x1 map, over which an unbiased variance is 0/0."""
    if known_shape(x)[2:] == [1, 1]:
        raise ValueError(
            f"{type(layer).__name__} takes the unbiased variance over the pixels, which a 1x1 map "
            "does not have; use maps of at least 2 pixels (a larger image or a smaller stride)"
        )
