"""Faults of evaluation: each changes what the network sees as its name says, and nothing else."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from attn_blocks.datasets.images import Images
from attn_blocks.errors import SettingError
from attn_book.analysis import faults as measuring
from attn_book.records import faults
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import build, compute, loop

RECIPE = replace(PROFILES["smoke"].recipes["animals10"], width=1 / 8, validation_images=20)


@pytest.fixture(scope="module")
def images(data_dir):
    """Drawn images of different sizes, wide ones among them."""
    found = load_images("shapes", RECIPE, data_dir)
    wide = [found.val[i][: 64 - 2 * i] for i in range(len(found.val))]
    return replace(found, val=stored(wide, found.val.labels))


@pytest.fixture(scope="module")
def network(images):
    """A small network whose running statistics are not those that it began with."""
    experiment = Experiment("shapes", images.fingerprint, "resnet18", RECIPE, seed=0)
    training = build.prepare(
        build.build_model(experiment, len(images.classes)),
        *(images, RECIPE, 0, compute.Compute()),
    )
    next(loop.train(training))
    training.model.eval()
    return training.model


def stored(pictures, labels):
    """Images from a list of [H, W, 3] arrays."""
    sizes = np.array([picture.shape[:2] for picture in pictures], np.int32)
    lengths = 3 * sizes.astype(np.int64).prod(axis=1)
    flat = np.concatenate([np.ascontiguousarray(picture).ravel() for picture in pictures])
    return Images(flat, np.cumsum(lengths) - lengths, sizes, np.asarray(labels))


def logits(fault, network, images, recipe=RECIPE):
    return measuring.logits_under(fault, network, images, recipe, compute.Compute())


def batch(images, recipe=RECIPE):
    """The validation images as the network is to see them."""
    _, loader = build.build_loaders(images, recipe, 0)
    return np.concatenate([pixels for pixels, _ in loader.epoch(0)])


def test_without_a_fault_it_is_the_loops_own_evaluation(network, images):
    expected = loop.evaluate(build.prepare(network, images, RECIPE, 0, compute.Compute()))[1]
    np.testing.assert_array_equal(logits(faults.AS_TRAINED, network, images), expected)
    for fault in faults.FAULTS:
        assert np.abs(logits(fault, network, images) - expected).max() > 1e-3, fault


def test_images_that_are_not_normalised_are_raw_pixels(network, images):
    raw = [np.asarray(measured) for measured in batch(images)]
    source = build.datasets.DATASETS["shapes"]
    mean, std = (np.array(v, "float32").reshape(3, 1, 1) for v in (source.mean, source.std))
    raw = np.stack(raw) * std + mean
    assert raw.min() >= -1e-6 and raw.max() <= 1 + 1e-6
    expected = network(paddle.to_tensor(raw.astype("float32"))).numpy()
    np.testing.assert_allclose(logits(faults.NOT_NORMALISED, network, images), expected, atol=1e-4)


def test_channels_reversed_twice_are_no_fault(network, images):
    turned = [images.val[i][:, :, ::-1] for i in range(len(images.val))]
    backwards = replace(images, val=stored(turned, images.val.labels))
    plain = logits(faults.AS_TRAINED, network, images)
    np.testing.assert_array_equal(logits(faults.REVERSED, network, backwards), plain)
    np.testing.assert_array_equal(
        logits(faults.REVERSED, network, images), logits(faults.AS_TRAINED, network, backwards)
    )


def test_a_squeezed_image_is_whole(network, images):
    squeezed = batch(images, replace(RECIPE, augmentation="rotate"))
    with paddle.no_grad():
        expected = network(paddle.to_tensor(squeezed)).numpy()
    found = logits(faults.SQUEEZED, network, images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # A dark left and right half stay halves, which cutting out the middle square does too; a dark
    # left quarter is seen by the one that squeezes alone.
    picture = np.full((56, 112, 3), 255, np.uint8)
    picture[:, :28] = 0
    one = replace(images, val=stored([picture], [0]))
    crop, whole = (batch(one, replace(RECIPE, augmentation=a)) for a in ("resized_crop", "rotate"))
    assert np.ptp(crop[0, 0]) < 1e-6 < np.ptp(whole[0, 0])


def test_batch_norms_in_training_mode_take_the_statistics_of_the_one_image(images):
    norm = paddle.nn.BatchNorm2D(3)
    norm.weight.set_value(np.array([1, 2, 3], "float32"))
    norm._mean.set_value(np.array([5, 6, 7], "float32"))
    network = paddle.nn.Sequential(
        norm, paddle.nn.Dropout(0.5), paddle.nn.Flatten(), paddle.nn.Linear(3 * 56 * 56, 10)
    )
    pixels = batch(images).astype(float)
    mean, variance = (f(pixels, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
    by_hand = (pixels - mean) / np.sqrt(variance + norm._epsilon)
    by_hand *= np.array([1, 2, 3]).reshape(3, 1, 1)
    linear = network[3]
    by_hand = by_hand.reshape(len(pixels), -1) @ linear.weight.numpy() + linear.bias.numpy()
    found = logits(faults.BATCH_OF_ONE, network, images)
    np.testing.assert_allclose(found, by_hand, atol=1e-3)
    np.testing.assert_array_equal(network[0]._mean.numpy(), [5, 6, 7])  # left as it was
    assert not network[0].training


def test_what_is_measured_are_the_images_that_are_right(network, images):
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    found = measuring.measure(network, images, RECIPE, compute.Compute())
    assert list(found) == [faults.AS_TRAINED, *faults.FAULTS]
    for fault, count in found.items():
        predicted = logits(fault, network, images).argmax(axis=1)
        assert count == (predicted == images.val.labels).sum()
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(SettingError, match="upside down"):
        logits("upside down", network, images)
