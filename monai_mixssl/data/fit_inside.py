# SPDX-License-Identifier: Apache-2.0
"""Makes images that are too large smaller, without changing their proportions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Resize, Transform
from monai.utils import TransformBackends

__all__ = ["FitInside", "FitInsideD", "FitInsideDict", "FitInsided"]


class FitInside(Transform):
    """Shrinks an image by one factor along all axes until it fits into a size; one that fits is left as it is.

    (MONAI's ``Resize`` with ``size_mode="longest"`` also enlarges.) Pixels are averaged over areas, so that fine
    structures do not alias.

    Args:
        spatial_size: largest size along each spatial axis, in pixels or voxels.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, spatial_size: Sequence[int]) -> None:
        self.spatial_size = tuple(int(size) for size in spatial_size)

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Takes (C, *spatial) and returns (C, *smaller); a `MetaTensor` keeps its metadata, its affine adapted."""
        sizes = img.shape[1:]
        factor = min(most / size for most, size in zip(self.spatial_size, sizes, strict=True))
        if factor >= 1:
            return img
        smaller = [max(1, min(most, round(size * factor))) for most, size in zip(self.spatial_size, sizes, strict=True)]
        resized: torch.Tensor = Resize(smaller, mode="area")(img)
        return resized


class FitInsided(MapTransform):
    """Dictionary version of `FitInside`."""

    backend = FitInside.backend

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fit = FitInside(spatial_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.fit(d[key])
        return d


FitInsideD = FitInsideDict = FitInsided
