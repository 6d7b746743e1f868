# SPDX-License-Identifier: Apache-2.0
"""Parts of a data set: an even sample of it, and one process's share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from monai_mixssl.errors import DataError

__all__ = ["rank_share", "spread"]

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
