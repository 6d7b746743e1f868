# SPDX-License-Identifier: Apache-2.0
"""Which items of a data set another one stands in for, since their files can no longer be read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor

from monai_mixssl.data.damage import is_the_files
from monai_mixssl.errors import UnreadableImageError

__all__ = ["REASONS", "StandIn", "StandIns", "finite", "unreadable"]

REASONS = ("", "cannot be read any more", "NaN or infinite values")
GONE, NOT_FINITE = 1, 2

_MOST_DRAWS = 100  # one after another; where half of the images are gone, all fail once in 10^30


class StandIn(NamedTuple):
    """An item of the data set and the one that stands in for it.

    Attributes:
        item: number of the item.
        by: number of the other one; that of the item itself where it was drawn anew, since what its random transforms
            had chosen could not be read.
        image_id: of the image that cannot be read, which is not the item's where random transforms had chosen it; ""
            where it is none of the data set's.
        reason: one of `REASONS`; "" where the file was not tried, since the stand-in was settled before.
    """

    item: int
    by: int
    image_id: str
    reason: str


class StandIns:
    """Who stands in for whom in this epoch, in memory that a loader's workers share.

    Nothing is remembered of a file from one place to the next: one that has come back is used again.

    Args:
        ids: what each item is loaded from.
        views: the list of items repeats itself so many times; a stand-in is drawn within its repetition, and for all
            views of a target it is the same.

    Attributes:
        ids: as given.
        images: number of different ids.
    """

    def __init__(self, ids: Sequence[str], views: int = 1) -> None:
        self.ids = list(ids)
        self._names = list(dict.fromkeys(self.ids))
        self._numbers = {one: number for number, one in enumerate(self._names)}
        self.images = len(self._names)
        self._period = max(1, len(self.ids) // views)

        def shared(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(max(1, len(self.ids)), dtype=dtype).share_memory_()

        # both count from 1; 0 is none
        self._by, self._gone, self._why = shared(torch.int32), shared(torch.int32), shared(torch.uint8)

    def forget(self) -> None:
        """Begin a new epoch: nobody stands in for anybody."""
        for tensor in (self._by, self._gone, self._why):
            tensor.zero_()

    def settle(self, index: int, by: int) -> None:
        """Let another item stand in for this one in this epoch, whatever its own file says."""
        self._by[index] = 1 + by

    def settled(self, index: int) -> int | None:
        """The item that stands in for this one in this epoch, as far as that is known."""
        return int(self._by[index]) - 1 if self._by[index] else None

    def candidates(self, seed: int, epoch: int, index: int, gone: str) -> Iterator[int]:
        """Yields items that may stand in for this one, of other images than `gone`: a function of the arguments."""
        view, target = divmod(index, self._period)
        draws = np.random.RandomState([seed % 2**32, epoch % 2**32, target, 2])
        for number in draws.randint(self._period, size=_MOST_DRAWS):
            by = view * self._period + int(number)
            if by < len(self.ids) and self.ids[by] != gone:
                yield by

    def record(self, index: int, by: int, image_id: str = "", reason: int = 0) -> None:
        """Note that an item stands in for another, and why; 0: that stands already, or was settled before."""
        if reason:
            self._gone[index] = 1 + self._numbers.get(image_id, -1)
            self._why[index] = reason
        self._by[index] = 1 + by

    def of(self, indices: Sequence[int] | None = None) -> list[StandIn]:
        """Who stands in for whom in this epoch, among these items or all."""
        by = self._by.numpy()  # a view: a step without stand-ins costs microseconds
        among = np.arange(len(self.ids)) if indices is None else np.asarray(indices, dtype=np.int64)
        return [self._one(int(index)) for index in among[by[among] > 0]]

    def _one(self, index: int) -> StandIn:
        gone = int(self._gone[index])
        image_id = self._names[gone - 1] if gone else ""
        return StandIn(index, int(self._by[index]) - 1, image_id, REASONS[int(self._why[index])])


def unreadable(error: BaseException) -> str | None:
    """Says whether an error means that a file cannot be read: the id of its image, "" where it is not named, else None.

    MONAI raises its own error from that of a transform: the chain is followed.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UnreadableImageError):
            return link.image_id
        if isinstance(link, EOFError) or (isinstance(link, OSError) and is_the_files(link)):
            return ""
        link = link.__cause__
    return None


def finite(item: Any) -> bool:
    """Whether every floating-point tensor of an item, or of a list of items, is free of NaN and infinity."""
    if isinstance(item, Mapping):
        return all(finite(value) for value in item.values())
    if isinstance(item, list | tuple):
        return all(finite(value) for value in item)
    if isinstance(item, torch.Tensor) and item.is_floating_point():
        plain = item.as_tensor() if isinstance(item, MetaTensor) else item
        # the sum, ten times as fast, is finite only if all are; where it overflows, each has to be looked at
        return math.isfinite(float(plain.sum())) or bool(torch.isfinite(plain).all())
    return True
