"""Counting: every product counts once, statistics never, and the model stays as it was."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

import attn_blocks as ab
from attn_blocks.models.counting import count_macs, count_params


class Function(nn.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2D(3, 8, 3), 8 * 6 * 10 * 27),
        (nn.Conv2D(3, 8, 3, stride=2, padding=1), 8 * 4 * 6 * 27),
        (nn.Conv2D(3, 6, 3, groups=3, padding=1), 6 * 8 * 12 * 9),
        (nn.Conv2DTranspose(3, 5, 2), 3 * 8 * 12 * 5 * 4),
        (nn.Linear(12, 7), 3 * 8 * 12 * 7),
        (nn.Sequential(nn.Flatten(), nn.Linear(288, 7)), 288 * 7),
        (nn.Sequential(nn.MaxPool2D(2), nn.ReLU(), nn.BatchNorm2D(3), nn.Dropout()), 0),
    ],
)
def test_layers(layer, macs):
    assert count_macs(layer, (3, 8, 12)) == macs


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: x @ paddle.ones([12, 5]), 3 * 8 * 12 * 5),
        (lambda x: paddle.matmul(x, x, transpose_y=True), 3 * 8 * 8 * 12),
        (lambda x: paddle.matmul(x, x, transpose_x=True), 3 * 12 * 12 * 8),
        (lambda x: paddle.bmm(x[0], x[0].transpose([0, 2, 1])), 3 * 8 * 8 * 12),
        (lambda x: paddle.mv(x[0, 0], paddle.ones([12])), 8 * 12),
        (lambda x: paddle.dot(x[0, 0, 0], x[0, 0, 1]), 12),
        (lambda x: paddle.addmm(paddle.ones([8, 5]), x[0, 0], paddle.ones([12, 5])), 8 * 12 * 5),
        (lambda x: paddle.einsum("nchw,wk->nchk", x, paddle.ones([12, 5])), 3 * 8 * 12 * 5),
        (lambda x: paddle.einsum("...hw,...kw->...hk", x, x), 3 * 8 * 8 * 12),
        (lambda x: paddle.einsum("ij,jk", x[0, 0], paddle.ones([12, 5])), 8 * 12 * 5),
        (lambda x: F.linear(x, paddle.ones([12, 5])), 3 * 8 * 12 * 5),
        (lambda x: F.conv2d(x, paddle.ones([4, 3, 1, 1])), 4 * 8 * 12 * 3),
        (lambda x: F.conv1d(x[0], paddle.ones([4, 8, 3])), 3 * 4 * 10 * 8 * 3),
        (lambda x: F.softmax(x * x + x.mean()), 0),
    ],
)
def test_functional_products(function, macs):
    assert count_macs(Function(function), (3, 8, 12)) == macs


def test_statistics_and_frozen_parameters_are_no_parameters():
    model = nn.Sequential(nn.Conv2D(3, 8, 3, bias_attr=False), nn.BatchNorm2D(8))
    assert count_params(model) == 8 * 27 + 16
    model[0].weight.stop_gradient = True
    assert count_params(model) == 16


def test_the_model_is_left_as_it_was():
    model = ab.create_model("bat_resnet18", 3, width=1 / 8, stem="small", image_size=32)
    model.train()
    model.bn1.eval()
    flags = [layer.training for layer in model.sublayers(include_self=True)]
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    attributes = {name: set(layer.__dict__) for name, layer in model.named_sublayers()}
    paddle.seed(0)
    drawn = paddle.rand([3]).numpy()
    paddle.seed(0)

    first = count_macs(model, (3, 32, 32))

    assert first == count_macs(model, (3, 32, 32)) > 0
    assert flags == [layer.training for layer in model.sublayers(include_self=True)]
    assert attributes == {name: set(layer.__dict__) for name, layer in model.named_sublayers()}
    assert np.array_equal(paddle.rand([3]).numpy(), drawn)
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[name]), name
    assert paddle.in_dynamic_mode()


def test_flags_come_back_when_the_model_refuses_the_input():
    model = nn.Sequential(ab.create_attn("se", 16))
    with pytest.raises(ValueError, match="takes \\[N, 16, H, W\\]"):
        count_macs(model, (4, 8, 8))
    assert model.training and model[0].training
    assert paddle.in_dynamic_mode()


def test_bat_counts_whole_kronecker_products_as_its_official_code_does():
    layer = ab.create_attn("bat", 64, size=2).transform  # 32 channels
    matrices = 32 * 8 * 12 * (8 + 12)  # kron(p, I) X kron(q, I)
    convolutions = 8 * 12 * (32 * 4 + 32 * 32) + 2 * 4 * (2 * 2 * 4) * 2
    assert count_macs(layer, (32, 8, 12)) == matrices + convolutions
    assert not layer._forward_pre_hooks


def test_the_map_size_counts():
    model = ab.create_model("nl_resnet18", 3, width=1 / 8, stem="small", image_size=32)
    small, large = count_macs(model, (3, 32, 32)), count_macs(model, (3, 64, 64))
    assert large > 4 * small  # a non-local block grows with the square of the pixels
