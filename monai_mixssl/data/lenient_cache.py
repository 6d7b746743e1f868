# SPDX-License-Identifier: Apache-2.0
"""A cache in memory that a file which has gone bad does not keep from being filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.data import CacheDataset

from monai_mixssl.data.stand_ins import unreadable

__all__ = ["LenientCacheDataset"]


class LenientCacheDataset(CacheDataset):
    """MONAI's ``CacheDataset``; a place whose file cannot be read stays empty, and the file is tried again on access.

    What that raises then, a ``SeededDataset`` with ``substitute=True`` around it takes as the sign to let another item
    stand in. The original stops before training where one file of thousands has gone bad since the scan.

    Args:
        args, kwargs: of ``CacheDataset``.
    """

    _filling = False

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        self._filling = True
        try:
            filled = list(super()._fill_cache(indices))
        finally:
            self._filling = False
        if self.hash_as_key:  # there MONAI would fill an empty place with another item: its number is not the place's
            self._hash_keys = [None if item is None else key for item, key in zip(filled, self._hash_keys, strict=True)]
        return filled

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:  # MONAI wraps what a transform raises
            if self._filling and unreadable(error) is not None:
                return None  # which MONAI takes for a place that is still to be filled
            raise
