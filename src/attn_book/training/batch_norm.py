"""Batch norm over the batch of several processes; Paddle has one for GPUs only."""

from __future__ import annotations

import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer, PyLayerContext


def synchronise_batch_norms(model: nn.Layer) -> nn.Layer:
    """Make every batch norm of ``model`` take its statistics over all processes.

    Names, parameters and running statistics stay the same.
    """
    if paddle.get_device() != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, nn.BatchNorm2D):  # the native one too
            layer.__class__ = SynchronisedBatchNorm2D
    return model


class SynchronisedBatchNorm2D(nn.BatchNorm2D):
    """``nn.BatchNorm2D`` over the batch of all processes, which have equal shares of it."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.training:
            return super().forward(x)
        mean = MeanOfAll.apply(x.mean([0, 2, 3], keepdim=True))
        # Around the common mean: squares of large numbers would cost digits.
        centred = x - mean
        variance = MeanOfAll.apply(centred.square().mean([0, 2, 3], keepdim=True))
        for running, new in ((self._mean, mean), (self._variance, variance)):
            new = new.detach().flatten()
            running.set_value(self._momentum * running + (1 - self._momentum) * new)
        weight, bias = (p.reshape([1, -1, 1, 1]) for p in (self.weight, self.bias))
        return centred * (variance + self._epsilon).rsqrt() * weight + bias


class MeanOfAll(PyLayer):
    """The mean over all processes: of values, and backward of their gradients."""

    @staticmethod
    def forward(ctx: PyLayerContext, values: paddle.Tensor) -> paddle.Tensor:
        return mean_of_all(values)

    @staticmethod
    def backward(ctx: PyLayerContext, gradient: paddle.Tensor) -> paddle.Tensor:
        return mean_of_all(gradient)


def mean_of_all(values: paddle.Tensor) -> paddle.Tensor:
    """The mean of every process's ``values``."""
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
