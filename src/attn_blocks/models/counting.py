"""Parameters and multiply-accumulate operations (MACs) of a model, the papers' way of counting.

``paddle.summary`` and ``paddle.flops`` count the running statistics of batch normalisation as
parameters and see only layers, so that the matrix products of a non-local block cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import paddle
from paddle import nn

Shape = tuple[int, ...]
Operation = tuple[str, list[Shape], Shape, dict]  # kind, input shapes, output shape, attributes


def count_params(model: nn.Layer) -> int:
    """The number of trainable values; running statistics are left out."""
    return sum(prod(p.shape) for p in model.parameters() if not p.stop_gradient)


def count_macs(model: nn.Layer, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one image in evaluation mode.

    Convolutions, linear layers and matrix products count, functional ones too (``KINDS``);
    element-wise operations, pooling and normalisation do not, nor do ``paddle.baddbmm``, bilinear
    layers and deformable convolutions, which no network of the book has. The model is traced into
    a static program and not run: parameters, statistics and training flags stay as they are.

    One count is the official code's rather than what runs here: BAT multiplies with whole
    Kronecker products there, which its published figure contains (0.4% of bat_resnet50). A layer
    that saves such products has a method ``kronecker_macs(height, width)`` for the difference.

    Args:
        model: takes a tensor [1, C, H, W].
        input_shape: (C, H, W).

    What the model raises for an input of that shape is passed on.
    """
    training = {layer: layer.training for layer in model.sublayers(include_self=True)}
    saved: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: saved.append(layer.kronecker_macs(*inputs[0].shape[2:]))
        )
        for layer in training
        if hasattr(layer, "kronecker_macs")
    ]
    model.eval()
    try:
        operations = list(_operations(model, (1, *input_shape)))
    finally:
        for layer, flag in training.items():
            layer.training = flag
        for hook in hooks:
            hook.remove()
    return sum(_macs(*operation) for operation in operations) + sum(saved)


def _operations(model: nn.Layer, shape: Shape) -> Iterator[Operation]:
    """Every operation that counts, in the order of the program."""

    # Without the conversion of control flow, which would replace the layers' forward methods.
    @paddle.jit.not_to_static
    def forward(x: paddle.Tensor) -> paddle.Tensor:
        return model(x)

    inputs = [paddle.static.InputSpec(list(shape), "float32")]
    program = paddle.jit.to_static(forward, inputs, full_graph=True).concrete_program.main_program
    block = program.global_block()
    read = _read if hasattr(block.ops[0], "operands_source") else _read_paddle2
    for op in block.ops:
        yield from read(op, block)


def _read(op: Any, block: Any) -> Iterator[Operation]:
    kind = KINDS.get(op.name().removeprefix("pd_op."))
    if kind:
        operands = op.operands_source()
        if kind == "einsum":  # its operands come as one list
            operands = operands[0].get_defining_op().operands_source()
        shapes = [tuple(operand.shape) for operand in operands]
        yield kind, shapes, tuple(op.results()[0].shape), op.attrs()


def _read_paddle2(op: Any, block: Any) -> Iterator[Operation]:
    kind = KINDS.get(op.type)
    if kind:
        is_conv = kind.startswith("conv")
        slots = {"einsum": ("Operands",), "addmm": ("Input", "X"), "matmul": ("X",)}
        inputs = ("Input", "Filter") if is_conv else slots[kind]
        names = [name for slot in inputs for name in op.input(slot)]
        result = op.output("Output" if is_conv else "Out")[0]
        attrs = {"equation": op.attr("equation")} if kind == "einsum" else {}
        if op.type == "matmul_v2":
            attrs["transpose_x"] = op.attr("trans_x")
        shapes = [tuple(block.var(name).shape) for name in names]
        yield kind, shapes, tuple(block.var(result).shape), attrs


KINDS = {
    "conv2d": "conv",
    "depthwise_conv2d": "conv",
    "conv3d": "conv",
    "conv2d_transpose": "conv_transpose",
    "depthwise_conv2d_transpose": "conv_transpose",
    "conv3d_transpose": "conv_transpose",
    "matmul": "matmul",
    "matmul_v2": "matmul",  # its name in Paddle 2
    "bmm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "addmm": "addmm",
    "einsum": "einsum",
}


def _macs(kind: str, inputs: list[Shape], output: Shape, attrs: dict) -> int:
    if kind == "conv":  # weight [out, in / groups, ...]
        return prod(output) * prod(inputs[1][1:])
    if kind == "conv_transpose":  # weight [in, out / groups, ...]
        return prod(inputs[0]) * prod(inputs[1][1:])
    if kind == "einsum":
        return prod(output) * _summed(attrs["equation"], inputs)
    left = inputs[1] if kind == "addmm" else inputs[0]
    transposed = attrs.get("transpose_x", False) and len(left) > 1
    return prod(output) * left[-2 if transposed else -1]


def _summed(equation: str, inputs: list[Shape]) -> int:
    """The product of the sizes of the labels that an einsum sums over."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:  # the labels that occur once are the output's
        right = "".join(label for label in left if left.count(label) == 1)
    sizes: dict[str, int] = {}
    for labels, shape in zip(left.split(","), inputs, strict=True):
        before, _, after = labels.partition("...")
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(reversed(after), reversed(shape), strict=False))
    return prod(size for label, size in sizes.items() if label not in right)
