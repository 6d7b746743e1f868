# SPDX-License-Identifier: Apache-2.0
"""A cache on disk whose entries are neither damaged nor stale."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.data import PersistentDataset
from monai.data.utils import pickle_hashing
from monai.utils import convert_to_tensor

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.prepare import READ_BY

__all__ = ["CheckedPersistentDataset", "chain_hash"]


class CheckedPersistentDataset(PersistentDataset):
    """MONAI's ``PersistentDataset``, in which a damaged entry is made anew and a stale one is not used.

    The original raises for most kinds of damage, and sees none within the values; unless it is given a
    ``hash_transform``, it takes no notice of a changed transform. Here an entry's name says the transforms before the
    first random one, with their arguments, and the versions of this package and of the libraries that read. Several
    processes may share one folder: an entry is moved into place whole, on whatever file system it lies.

    A file that has changed under the same name is not noticed, as in the original.

    Args:
        data: the items, as for ``PersistentDataset``.
        transform: the whole chain.
        cache_dir: the folder; None: nothing is kept.
        hash_transform: another function than ``chain_hash`` that hashes a list of transforms.
        kwargs: further arguments of ``PersistentDataset``.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any],
        cache_dir: Path | str | None,
        *,
        hash_transform: Callable[..., bytes] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data, transform, cache_dir, hash_transform=hash_transform or chain_hash, **kwargs)

    def _cachecheck(self, item_transformed: Any) -> Any:
        if self.cache_dir is None:
            return super()._cachecheck(item_transformed)
        entry = self.cache_dir / f"{self.hash_func(item_transformed).decode()}{self.transform_hash}.pt"
        if (stored := self._stored(entry)) is not None:
            return stored
        computed = self._pre_transform(deepcopy(item_transformed))
        # what is read later has this form; the first reader is not to get another
        value = convert_to_tensor(computed, convert_numeric=False, track_meta=self.track_meta)
        if os.access(self.cache_dir, os.W_OK):  # another's folder may only be read
            write_atomically(entry, lambda file: torch.save(value, file), "the cache")
        return value

    def _stored(self, entry: Path) -> Any:
        """What an entry holds; None where it is not there, or not as it was written."""
        try:
            with zipfile.ZipFile(entry) as archive:  # torch.load does not look at the checksums
                if archive.testzip() is not None:
                    return None
            return torch.load(entry, weights_only=self.weights_only)
        except Exception:  # whatever damage makes these raise
            return None


def chain_hash(transforms: Sequence[Any]) -> bytes:
    """Hashes transforms with their arguments, and the versions of what they read with.

    Args:
        transforms: picklable ones.
    """
    return pickle_hashing([READ_BY, list(transforms)])
