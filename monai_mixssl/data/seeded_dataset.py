# SPDX-License-Identifier: Apache-2.0
"""A dataset wrapper that makes random transforms independent of how many workers load the data."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from monai_mixssl.data.stand_ins import GONE, NOT_FINITE, StandIns, finite, unreadable
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["SeededDataset"]


class SeededDataset(Dataset[Any]):
    """Seeds a dataset's whole chain of transforms from (seed, epoch, index) before each item.

    What an item looks like then depends on these three numbers alone: not on the number of workers, how they are
    started, the order of the items, or what was drawn before (which is what makes a resumed run exact). Works around
    any dataset whose randomness sits in MONAI ``Randomizable`` objects: ``Dataset``, ``CacheDataset``,
    ``PersistentDataset``, ``ZipDataset``, and PyTorch's ``Subset`` and ``ConcatDataset`` of these.

    The random objects are looked for once, so hand over the finished dataset. A random transform hidden inside one that
    is not itself ``Randomizable`` is not found (MONAI's own seeding does not find it either).

    Args:
        dataset: a map-style dataset with a length.
        seed: any integer from 0 up.
        substitute: where an item's file cannot be read any more (``UnreadableImageError`` or ``OSError``, also behind
            MONAI's own), or holds NaN, let another item of the dataset stand in, drawn from (seed, epoch, index) too.
            Which did, `stand_ins` says; the handler ``Substitutions`` records it. False: such an error is raised.
        views: the dataset repeats its targets so many times; for all views of a target the stand-in is the same.

    Attributes:
        stand_ins: who stands in for whom; None without ``substitute``.

    Raises:
        ConfigError: when the seed is negative.
        DataError: on access, when nothing can stand in.

    Examples:
        >>> from monai.data import CacheDataset
        >>> from monai.transforms import RandGaussianNoise
        >>> cached = CacheDataset([torch.zeros(1, 4)] * 2, RandGaussianNoise(prob=1.0), progress=False)
        >>> dataset = SeededDataset(cached, seed=0)
        >>> first = dataset[0]
        >>> torch.equal(dataset[0], first), torch.equal(dataset[1], first)
        (True, False)
        >>> dataset.set_epoch(1)
        >>> torch.equal(dataset[0], first)
        False
    """

    def __init__(self, dataset: Dataset[Any], seed: int = 0, *, substitute: bool = False, views: int = 1) -> None:
        if seed < 0:
            raise ConfigError(f"seed is {seed} but must be 0 or more.")
        self.dataset = dataset
        self.seed = seed
        self.stand_ins = StandIns(_ids(dataset), views) if substitute else None
        self._random_parts = list(_random_parts(dataset, set()))
        # in shared memory, so that workers that outlive an epoch (`persistent_workers=True`) see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch that the next item is drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, before each pass over the data loader and not during one.

        Args:
            epoch: any integer from 0 up.

        Raises:
            ConfigError: when it is negative.
        """
        if epoch < 0:
            raise ConfigError(f"epoch is {epoch} but must be 0 or more.")
        self._epoch.fill_(epoch)
        if self.stand_ins is not None:
            self.stand_ins.forget()

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch types no length

    def __getitem__(self, index: SupportsIndex) -> Any:
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"Index {i} is out of range for a dataset of {len(self)} items.")
        i %= len(self)  # an item counted from the end is the same item
        return self._draw(i, i) if self.stand_ins is None else self._draw_readable(i, self.stand_ins)

    def _draw(self, i: int, *place: int) -> Any:
        """Item ``i`` with the random state of a place."""
        seeds = np.random.SeedSequence([self.seed, self.epoch, *place]).generate_state(len(self._random_parts))
        for part, seed in zip(self._random_parts, seeds, strict=True):
            part.set_random_state(seed=int(seed))
        return self.dataset[i]

    def _draw_readable(self, i: int, stand_ins: StandIns) -> Any:
        settled, gone, why = stand_ins.settled(i), stand_ins.ids[i], 0
        first = settled
        if settled is None:
            item, named, why = self._try(i, i)
            if not why:
                return item
            if named not in ("", gone):  # a source, say, that random transforms chose: the item itself, drawn anew
                gone, first = named, i
        candidates = stand_ins.candidates(self.seed, self.epoch, i, gone)
        for by in candidates if first is None else itertools.chain([first], candidates):
            # a random state of its own: with that of `i`, random transforms would choose what could not be read again
            item, _, problem = self._try(by, i, 1 + by)
            if not problem:
                stand_ins.record(i, by, gone, why)
                return item
        raise DataError(
            f"The image {gone} cannot be read any more, nor can those that could take its place; put the "
            "data back (private/files.csv in output_dir says which files they are) and go on with --resume True."
        )

    def _try(self, i: int, *place: int) -> tuple[Any, str, int]:
        """The item, "" and 0; or None, the id of what cannot be read, if it is named, and the number of the reason."""
        try:
            item = self._draw(i, *place)
        except Exception as error:  # MONAI wraps what a transform raises
            image_id = unreadable(error)
            if image_id is None:
                raise
            return None, image_id, GONE
        return (item, "", 0) if finite(item) else (None, "", NOT_FINITE)


def _ids(dataset: Dataset[Any]) -> list[str]:
    """What each item is loaded from: its "id", else its number."""
    data = getattr(dataset, "data", None)
    if data is None:
        return [str(i) for i in range(len(dataset))]  # type: ignore[arg-type]  # torch types no length
    return [str(one.get("id", i)) if isinstance(one, dict) else str(i) for i, one in enumerate(data)]


def _random_parts(dataset: object, seen: set[int]) -> Iterator[Randomizable]:
    """The outermost ``Randomizable`` objects of a dataset and of the datasets it is made of, in a fixed order.

    Each dataset is looked through once, however often and from wherever it is referred to.
    """
    seen.add(id(dataset))
    if isinstance(dataset, Randomizable):
        yield dataset
    for value in vars(dataset).values():
        # a list can hold datasets (ZipDataset, ConcatDataset) or transforms, a dict a transform for each key; but
        # mostly they hold the plain items
        for part in _members(value):
            if isinstance(part, Dataset):
                if id(part) not in seen:
                    yield from _random_parts(part, seen)
            elif isinstance(part, Randomizable):
                yield part


def _members(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else [value]
