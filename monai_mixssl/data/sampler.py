# SPDX-License-Identifier: Apache-2.0
"""The order of the samples, as a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from monai_mixssl.errors import ConfigError

__all__ = ["EpochBatchSampler"]


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of indices that depend on (seed, epoch) alone, so that a run can go on in the middle of an epoch.

    In a run of several processes, the ranks' batches of one step are consecutive pieces of one *global* batch: two
    processes with batch size 4 see the same images a step as one process with batch size 8. (torch's
    ``DistributedSampler`` deals the indices out one by one and cannot start in the middle.)

    Each epoch has an order of its own and leaves its last, smaller batch out, unless that is its only one.

    With several views, the dataset holds all targets so many times, one list of them after the other; a batch then
    holds the first view of each of its targets, after them the second view of each, and so on.

    Args:
        size: number of targets, at least 1; the dataset has ``views`` times as many samples.
        batch_size: targets in one process's batch.
        seed: seed of the order.
        rank: number of this process.
        world_size: number of processes.
        views: samples of each target in a batch.

    Raises:
        ConfigError: for sizes below 1, or fewer samples than one batch for each of several processes.

    Example:
        >>> sampler = EpochBatchSampler(5, batch_size=2)
        >>> batches = list(sampler)
        >>> len(batches)
        2
        >>> sampler.set_position(epoch=1, batch=1)
        >>> list(sampler) == batches[1:]
        True
    """

    def __init__(
        self, size: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1, views: int = 1
    ) -> None:
        if size < 1 or batch_size < 1 or views < 1:
            raise ConfigError(
                f"batches need at least one sample and view each; got {size} samples, batch_size {batch_size} "
                f"and views {views}."
            )
        if world_size > 1 and size < batch_size * world_size:
            raise ConfigError(
                f"{size} training samples do not fill one batch of {batch_size} in each of {world_size} processes; "
                "lower batch_size or raise samples_per_image."
            )
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.views = views
        self._epoch = 1
        self._first_batch = 0

    def __len__(self) -> int:
        """Number of batches of a *whole* epoch, wherever this one starts."""
        return max(1, self.size // (self.batch_size * self.world_size))

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Choose the epoch of the next iteration and the first batch of it to yield."""
        self._epoch = epoch
        self._first_batch = batch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.RandomState([self.seed % 2**32, self._epoch]).permutation(self.size)
        for number in range(self._first_batch, len(self)):
            start = (number * self.world_size + self.rank) * self.batch_size
            chosen = order[start : start + self.batch_size]
            yield [int(view * self.size + index) for view in range(self.views) for index in chosen]
