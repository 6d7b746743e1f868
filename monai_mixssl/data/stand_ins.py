# SPDX-License-Identifier: Apache-2.0
"""Which items of a data set another one stands in for, since their files can no longer be read."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_mixssl.errors import UnreadableImageError

__all__ = ["REASONS", "StandIn", "StandIns", "finite", "unreadable"]

REASONS = ("", "cannot be read any more", "NaN or infinite values", "could not be read before")
GONE, NOT_FINITE, BEFORE = 1, 2, 3

_MOST_DRAWS = 100  # one after another; at a share of a half, it happens once in 10^30
# what says something about the machine, not about one file
_NOT_THE_FILE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}


class StandIn(NamedTuple):
    """An item of the data set and the one that stands in for it, by their numbers; `reason` is one of `REASONS`."""

    item: int
    by: int
    reason: str


class StandIns:
    """What is known of the items, in memory that a loader's workers share.

    Args:
        ids: what each item is loaded from; items of one image become unreadable together.
        views: the list of items repeats itself so many times; a stand-in is drawn within its repetition, and all views
            of a target get the same.

    Attributes:
        ids: as given.
        images: number of different ids.
    """

    def __init__(self, ids: Sequence[str], views: int = 1) -> None:
        self.ids = list(ids)
        numbers: dict[str, int] = {}
        self._number = np.fromiter((numbers.setdefault(one, len(numbers)) for one in self.ids), np.int64, len(self.ids))
        self._numbers = numbers
        self.images = len(numbers)
        self._period = max(1, len(self.ids) // views)
        self._why_gone = torch.zeros(max(1, self.images), dtype=torch.uint8).share_memory_()
        self._why = torch.zeros(max(1, len(self.ids)), dtype=torch.uint8).share_memory_()
        # 1 + the number of the stand-in of this epoch; what is to be done whatever the file says: -1 is any stand-in
        self._by = torch.zeros(max(1, len(self.ids)), dtype=torch.int64).share_memory_()
        self._planned = torch.zeros(max(1, len(self.ids)), dtype=torch.int64).share_memory_()

    def begin_epoch(self) -> None:
        """Forget who stood in for whom, and all plans; what cannot be read stays so."""
        for tensor in (self._by, self._why, self._planned):
            tensor.zero_()

    def plan(self, index: int, by: int | None = None) -> None:
        """Let another item stand in for this one in this epoch without trying: `by`, or one drawn as ever."""
        self._planned[index] = -1 if by is None else 1 + by

    def reason(self, index: int) -> int:
        """Why an item is not to be tried, as a number of `REASONS`; 0 where it is."""
        return int(self._why_gone[self._number[index]]) or BEFORE * int(self._planned[index] != 0)

    def give_up(self, index: int, reason: int, image_id: str = "") -> None:
        """Do not try an item's image again, or that of `image_id`, where the error names another one."""
        number = self._numbers.get(image_id, self._number[index]) if image_id else self._number[index]
        self._why_gone[number] = reason

    def candidates(self, seed: int, epoch: int, index: int) -> Iterator[int]:
        """Yields items that may stand in for this one: a function of seed, epoch and index, and of what was planned."""
        if (planned := int(self._planned[index])) > 0:
            yield planned - 1
        view, target = divmod(index, self._period)
        draws = np.random.RandomState([seed % 2**32, epoch % 2**32, target, 2])
        for number in draws.randint(self._period, size=_MOST_DRAWS):
            by = view * self._period + int(number)
            if by != index and by < len(self.ids) and not self.reason(by):
                yield by

    def record(self, index: int, by: int, reason: int) -> None:
        """Note that an item stood in for another."""
        self._why[index] = reason
        self._by[index] = 1 + by

    def of(self, indices: Sequence[int] | None = None) -> list[StandIn]:
        """Who stood in for whom in this epoch, among these items or all."""
        wanted = self._by.nonzero()[:, 0].tolist() if indices is None else indices
        return [
            StandIn(int(i), int(self._by[i]) - 1, REASONS[int(self._why[i])]) for i in wanted if int(self._by[i]) > 0
        ]


def unreadable(error: BaseException) -> str | None:
    """Says whether an error means that a file cannot be read: the id of its image, "" where it is not named, else None.

    MONAI raises its own error from that of a transform: the chain is followed.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UnreadableImageError):
            return link.image_id
        if isinstance(link, EOFError) or (isinstance(link, OSError) and link.errno not in _NOT_THE_FILE):
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
        return bool(torch.isfinite(torch.as_tensor(item.detach())).all())
    return True
