"""The order of batches, and that nothing but seed, epoch and place decides what an image is."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from attn_blocks.datasets import Images, Loader, create_transform
from attn_blocks.errors import SettingError

COUNT = 23


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, COUNT * 10 * 10 * 3, dtype=np.uint8)
    return Images(
        pixels,
        np.arange(COUNT, dtype=np.int64) * 300,
        np.full((COUNT, 2), 10, np.int32),
        np.arange(COUNT, dtype=np.int64),
    )


@pytest.fixture(scope="module")
def transform():
    return create_transform("pad_crop", 10, (0, 0, 0), (1, 1, 1), train=True)


def epoch(loader: Loader, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    batches = list(loader.epoch(number))
    assert len(batches) == len(loader)
    return tuple(np.concatenate(column) for column in zip(*batches, strict=True))


def test_batches_in_the_stored_order(images, transform):
    loader = Loader(images, 5, transform)
    batches = list(loader.epoch(0))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3] and len(loader) == 5
    assert batches[0][0].dtype == np.float32 and batches[0][1].dtype == np.int64
    assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(COUNT))


def test_drop_last(images, transform):
    loader = Loader(images, 5, transform, drop_last=True, shuffle=True)
    assert len(loader) == 4 and len(epoch(loader)[1]) == 20


def test_shuffling_changes_with_seed_and_epoch_and_loses_nothing(images, transform):
    orders = [
        epoch(Loader(images, 5, transform, seed, shuffle=True), number)[1]
        for seed in (0, 1)
        for number in (0, 1)
    ]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, COUNT])
def test_pixels_depend_on_neither_workers_nor_batches(images, transform, workers, batch_size):
    pixels, labels = epoch(Loader(images, 5, transform, 7, shuffle=True, workers=2), 3)
    other = Loader(images, batch_size, transform, 7, shuffle=True, workers=workers)
    assert np.array_equal(epoch(other, 3)[0], pixels)
    assert np.array_equal(epoch(other, 3)[1], labels)


def test_epochs_differ_in_their_augmentation(images, transform):
    loader = Loader(images, 5, transform)
    assert not np.array_equal(epoch(loader, 0)[0], epoch(loader, 1)[0])


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_together_see_what_one_sees(images, transform, world_size):
    alone = list(Loader(images, 6, transform, 1, shuffle=True).epoch(2))
    ranks = [
        list(
            Loader(
                images, 6 // world_size, transform, 1, True, rank=rank, world_size=world_size
            ).epoch(2)
        )
        for rank in range(world_size)
    ]
    assert {len(batches) for batches in ranks} == {len(alone)}
    for number, (pixels, labels) in enumerate(alone):
        together = [batches[number] for batches in ranks]
        assert np.array_equal(np.concatenate([part[0] for part in together]), pixels)
        assert np.array_equal(np.concatenate([part[1] for part in together]), labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_raised_at_its_batch(images, transform, workers):
    def failing(some, indices, rng):
        if 11 in indices:
            raise RuntimeError("image 11")
        return transform(some, indices, rng)

    batches = Loader(images, 5, failing, workers=workers).epoch(0)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(RuntimeError, match="image 11"):
        next(batches)


def test_workers_run_only_a_little_ahead_and_stop_with_the_consumer(images, transform):
    done = []

    def counting(some, indices, rng):
        done.append(indices)
        return transform(some, indices, rng)

    batches = Loader(images, 1, counting, workers=2).epoch(0)
    next(batches)
    deadline = time.monotonic() + 60
    while len(done) < 2:  # ahead
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(done) <= 6  # only a little
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
    assert len(done) < COUNT


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"world_size": 0}, "world_size is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"world_size": 24, "drop_last": True}, "no batch of 96; choose drop_last=False"),
        ({"workers": -1}, "workers is -1; it must be 0 or more"),
        ({"batch_size": 24, "drop_last": True}, "make no batch of 24.*at most 23"),
    ],
)
def test_numbers_that_cannot_work(images, transform, arguments, message):
    with pytest.raises(SettingError, match=message):
        Loader(**{"images": images, "batch_size": 4, "transform": transform, **arguments})


def test_a_loader_of_no_images_is_refused(images, transform):
    with pytest.raises(SettingError, match="there are no images"):
        Loader(images.subset([]), 4, transform)
