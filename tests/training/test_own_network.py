"""A network of the reader's own, trained with a recipe in three lines."""

import numpy as np
import paddle
import pytest
from paddle import nn

import attn_blocks as ab
import attn_book
from attn_book import Recipe
from attn_book.study.plan import load_images

RECIPE = Recipe(
    width=1.0,
    stem="cifar",
    image_size=32,
    augmentation="pad_crop",
    epochs=5,
    batch_size=20,
    learning_rate=0.05,
    train_images=200,
    validation_images=50,
)


class Small(nn.Layer):
    """Two convolutions with an SRM block between them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2D(3, 16, 3, stride=2, padding=1), nn.BatchNorm2D(16), nn.ReLU()),
            ab.StyleRecalibration(16),
            *(nn.Conv2D(16, 32, 3, stride=2, padding=1), nn.BatchNorm2D(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2D(1), nn.Flatten()),
        )
        self.classifier = nn.Linear(32, classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.features(x))


@pytest.fixture(scope="module")
def images(data_dir):
    return load_images("shapes", RECIPE, data_dir)


def trained(images, seed=0):
    paddle.seed(seed)
    network = Small(len(images.classes))
    training = attn_book.prepare(network, images, RECIPE, seed)
    return network, list(attn_book.train(training))


def test_it_learns(images):
    network, epochs = trained(images)
    assert [each.epoch for each in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].train_loss < 0.9 * epochs[0].train_loss
    assert epochs[-1].train_acc > 1.5 / len(images.classes)
    right = epochs[-1].logits.argmax(axis=1) == images.val.labels
    assert len(right) == 50 and epochs[-1].val_acc == pytest.approx(right.mean())
    assert float(network.features[3].cfc.abs().max()) > 0  # the block learns with it


def test_the_seed_decides(images):
    curves = [[epoch.train_loss for epoch in trained(images, seed)[1]] for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


def test_a_resnet_with_a_block_of_the_readers_own(images):
    network = ab.create_model(
        "resnet18",
        len(images.classes),
        1 / 16,
        "cifar",
        32,
        attn=lambda c: ab.SpatialGroupEnhance(c, 2),
    )
    training = attn_book.prepare(network, images, RECIPE)
    first = next(iter(attn_book.train(training)))
    assert np.isfinite([first.train_loss, first.val_loss]).all()
    assert float(network.layer1[0].attn.weight.abs().max()) > 0
