# SPDX-License-Identifier: Apache-2.0
"""The control: another image of the target's own domain in the place of the second domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from monai.utils.type_conversion import convert_to_tensor

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.sources.base import Source

__all__ = ["SameDomain"]


class _Indexable(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...


class SameDomain(Source):
    """Images of a dataset, drawn at random: mixing within the domain, to be compared with mixing across domains.

    An axis longer than asked is cropped at a random place, a shorter one is stretched by linear interpolation. A 3D
    item gives a 2D source by a random slice along a random axis; a 2D item gives a 3D source by extrusion along a
    random axis. If the channels differ in number, one channel gets their mean, more get them in turn. Values outside
    [0, 1] are stretched to it, per item. The id is the item's number in the dataset. The item may be the target
    itself, once in ``len(dataset)`` draws.

    Args:
        dataset: anything with a length whose items are images (C, *spatial), or dictionaries that hold one. Its items
            must not be random themselves, or a seed no longer settles what is drawn.
        key: where the image stands in a dictionary.

    Raises:
        ConfigError: the dataset is empty or has no length.
        DataError: an item is no image of two or three spatial axes.
    """

    name = "same_domain"

    def __init__(self, dataset: _Indexable, key: str = "image") -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or len(dataset) < 1:
            raise ConfigError("The source 'same_domain' needs a dataset with at least one item: give it one.")
        self.dataset = dataset
        self.key = key

    def _draw(self, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
        index = int(self.R.randint(len(self.dataset)))
        image = self._image(index)
        channels, *spatial = shape
        dims = len(spatial)
        if image.ndim - 1 == 3 and dims == 2:
            across = 1 + int(self.R.randint(3))
            image = image.select(across, int(self.R.randint(image.shape[across])))
        along = 1 + int(self.R.randint(3)) if image.ndim - 1 < dims else None
        wanted = [size for axis, size in enumerate(spatial, start=1) if axis != along]

        for axis, size in enumerate(wanted, start=1):
            if image.shape[axis] > size:
                image = image.narrow(axis, int(self.R.randint(image.shape[axis] - size + 1)), size)
        if list(image.shape[1:]) != wanted:
            mode = "bilinear" if len(wanted) == 2 else "trilinear"
            image = torch.nn.functional.interpolate(image[None], size=wanted, mode=mode)[0]
        if len(image) != channels:
            image = image.mean(0, keepdim=True) if channels == 1 else image[torch.arange(channels) % len(image)]
        if along is not None:
            image = image.unsqueeze(along).expand(shape)
        return image.numpy(), f"{self.name}:{index:06d}"

    def _image(self, index: int) -> torch.Tensor:
        """Item ``index`` as a plain float32 tensor (C, *spatial) in [0, 1], on the CPU."""
        item = self.dataset[index]
        if isinstance(item, Mapping):
            item = item.get(self.key)
        if not isinstance(item, (torch.Tensor, np.ndarray)) or item.ndim not in (3, 4):
            raise DataError(
                f"Item {index} of the source 'same_domain' holds no image (C, *spatial) under the key '{self.key}': "
                "give the key under which the images stand."
            )
        tensor = convert_to_tensor(item, dtype=torch.float32, device="cpu", track_meta=False)
        image = torch.nan_to_num(tensor.detach())
        low, high = float(image.min()), float(image.max())
        if low < 0.0 or high > 1.0:
            image = (image - low) / max(high - low, 1e-12)
        return image.clamp(0.0, 1.0)
