"""Batches of a data set, prepared by threads a few steps ahead of training.

NumPy and Pillow let other threads run while they work, and all threads read the same memory map:
nothing is copied for a worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from attn_blocks import device
from attn_blocks.datasets.augment import DRAWS, Transform
from attn_blocks.datasets.images import Images
from attn_blocks.errors import SettingError

Batch = tuple[np.ndarray, np.ndarray]
AHEAD = 2
ORDER, PIXELS = 0, 1


class Loader:
    """Iterates over batches (images float32 [B, 3, S, S], labels int64 [B]).

    What an image looks like in an epoch depends on the seed, the epoch and its place in the
    epoch's order alone: not on the number of workers, nor on how batches are cut, so a run that
    resumes, or that is spread over processes, sees the same images.

    Args:
        images: what to draw from.
        batch_size: images per batch in this process; one batch of every process together is the
            next ``batch_size * world_size`` images of the epoch's order.
        transform: from ``augment.create_transform``.
        seed: of the order and the augmentation.
        shuffle: a new order every epoch; else the stored order.
        drop_last: leave out a last batch that is not full. Kept, it is divided among the
            processes, and with fewer images than processes some get a batch of length 0.
        rank, world_size: this process and their number.
        workers: threads; 0 prepares each batch when it is asked for. None: a thread a core, at
            most 8.

    Raises:
        SettingError: a number that cannot work.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        transform: Transform,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        workers: int | None = None,
    ):
        if batch_size < 1:
            raise SettingError(f"batch_size is {batch_size}; it must be at least 1")
        if world_size < 1:
            raise SettingError(f"world_size is {world_size}; it must be at least 1")
        if not 0 <= rank < world_size:
            raise SettingError(
                f"rank is {rank}; with world_size {world_size} it must be 0 to {world_size - 1}"
            )
        if seed < 0:
            raise SettingError(f"seed is {seed}; it must be 0 or more")
        if workers is not None and workers < 0:
            raise SettingError(f"workers is {workers}; it must be 0 or more, or None")
        if not len(images):
            raise SettingError("there are no images to make batches of")
        self.images, self.transform = images, transform
        self.seed, self.shuffle = seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.step = batch_size * world_size
        self.workers = min(8, device.cores()) if workers is None else workers
        self.length = len(images) // self.step if drop_last else -(-len(images) // self.step)
        if self.length == 0:
            most = len(images) // world_size
            smaller = f"a batch_size of at most {most}, or " if most else ""
            raise SettingError(
                f"{len(images)} images make no batch of {self.step}; choose {smaller}"
                "drop_last=False"
            )

    def __len__(self) -> int:
        """Batches per epoch, the same in every process."""
        return self.length

    def order(self, epoch: int) -> np.ndarray:
        """The order of the images in an epoch, int64 [N]."""
        if not self.shuffle:
            return np.arange(len(self.images))
        return np.random.default_rng((self.seed, epoch, ORDER)).permutation(len(self.images))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch. An error in a worker is raised here, at its batch."""
        order = self.order(epoch)
        if self.workers == 0:
            for number in range(self.length):
                yield self._batch(epoch, order, number)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for number in range(self.length):
                    waiting.append(pool.submit(self._batch, epoch, order, number))
                    if len(waiting) > self.workers + AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def places(self, number: int) -> np.ndarray:
        """The places in an epoch's order that this process has in batch ``number``, int64 [B]."""
        start = number * self.step
        together = np.arange(start, min(start + self.step, len(self.images)))
        return np.array_split(together, self.world_size)[self.rank]

    def _batch(self, epoch: int, order: np.ndarray, number: int) -> Batch:
        places = self.places(number)
        bits = np.random.PCG64((self.seed, epoch, PIXELS))
        # Every image takes DRAWS numbers of the epoch's stream, so its own can be jumped to.
        bits.advance(int(places[0] if len(places) else 0) * DRAWS)
        indices = order[places]
        pixels = self.transform(self.images, indices, np.random.Generator(bits))
        return pixels, self.images.labels[indices]
