"""The small SENet: the write-up's count, both of its blocks, and its log-probabilities."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

import attn_blocks as ab


def small(**options):
    paddle.seed(0)
    return ab.create_model("senet_cifar", 10, width=1 / 8, stem="cifar", image_size=8, **options)


def test_published_size():
    published = ab.create_model("senet_cifar", num_classes=10)
    intended = ab.create_model("senet_cifar", num_classes=10, squeeze="avg")
    plain = ab.create_model("senet_cifar", num_classes=10, attn=False)
    assert ab.count_params(published) == ab.count_params(intended) == 2_708_106
    assert ab.count_params(plain) == 2_708_106 - 9 * 3_072
    assert ab.count_macs(published, (3, 32, 32)) == pytest.approx(2_766_537_984, rel=1e-3)
    assert published.settings["stem"] == "cifar"
    assert published.settings["attn"]["se"]["blocks"]["squeeze"] == "none"
    assert plain.settings["attn"] == {}


def test_it_starts_at_pytorchs_initial_values():
    """Uniform within 1/sqrt(fan-in), biases too, as the write-up's code leaves them."""
    model = ab.create_model("senet_cifar", num_classes=10)
    for name, fan_in in {"conv1": 27, "blocks.3.conv2": 9 * 128, "conv2": 128}.items():
        bound = fan_in**-0.5
        weight = dict(model.named_parameters())[f"{name}.weight"].numpy()
        assert 0.99 * bound < np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    for parameter in (model.fc.weight, model.fc.bias):
        assert 0.5 * 128**-0.5 < float(parameter.abs().max()) <= 128**-0.5


def test_as_published_the_gate_is_per_pixel():
    x = paddle.randn([1, 16, 4, 4])
    gates = [small(squeeze=squeeze).blocks[0].attn.gate(x) for squeeze in ("none", "avg")]
    assert [gate.shape for gate in gates] == [[1, 16, 4, 4], [1, 16, 1, 1]]


def test_nothing_is_down_sampled():
    model = small()
    features = model.blocks(F.relu(model.bn1(model.conv1(paddle.randn([1, 3, 8, 8])))))
    assert features.shape == [1, 16, 8, 8]


def test_log_probabilities_give_the_loss_of_logits():
    model = small()
    model.eval()
    y = model(paddle.randn([4, 3, 8, 8]))
    np.testing.assert_allclose(y.exp().sum(axis=1).numpy(), np.ones(4), rtol=1e-5)
    labels = paddle.to_tensor([0, 3, 5, 9])
    loss, likelihood = F.cross_entropy(y, labels), F.nll_loss(y, labels)
    assert float(loss) == pytest.approx(float(likelihood), rel=1e-6)
