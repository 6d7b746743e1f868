# SPDX-License-Identifier: Apache-2.0
"""Parts of a data set: an even sample of it, one process's share, and that share in batches of several views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from monai_mixssl.errors import DataError

__all__ = ["rank_batches", "rank_share", "spread"]

T = TypeVar("T")


def spread(items: Sequence[T], most: int, least: int = 0) -> list[T]:
    """At most so many of the items, evenly spread over them, first and last included; at least so many by repetition.

    Repeated, an item of a :py:class:`~monai_mixssl.data.seeded_dataset.SeededDataset` gives another patch and blend.
    """
    if len(items) <= most:
        return [*items] * min(-(-least // len(items)), most // len(items)) if 0 < len(items) < least else [*items]
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def rank_share(count: int, rank: int, world_size: int) -> range:
    """The indices of one process, none twice, so that a sum over processes counts each item once.

    Raises:
        DataError: where there are fewer items than processes: a process without any would keep the others waiting.
    """
    if count < world_size:
        raise DataError(
            f"{count} validation images cannot be shared by {world_size} processes; raise val_fraction or start fewer."
        )
    return range(rank, count, world_size)


def rank_batches(count: int, batch_size: int, rank: int, world_size: int, views: int = 1) -> list[list[int]]:
    """The batches of one process, in order, each target once, with all its views in one batch.

    Args:
        count: number of targets; the dataset holds ``views`` times as many samples, all targets once, then again.
        batch_size: targets in a batch; a last target that would be alone joins the batch before it where there are
            several views, since views are compared with those of other targets.
        rank: number of this process.
        world_size: number of processes.
        views: samples of each target.

    Raises:
        DataError: see `rank_share`.
    """
    share = rank_share(count, rank, world_size)
    pieces = [list(share[start : start + batch_size]) for start in range(0, len(share), batch_size)]
    if views > 1 and len(pieces) > 1 and len(pieces[-1]) == 1:
        alone = pieces.pop()
        pieces[-1] += alone
    return [[view * count + index for view in range(views) for index in piece] for piece in pieces]
