# SPDX-License-Identifier: Apache-2.0
"""Random patches that show something."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform, SpatialCrop, SpatialPad
from monai.utils import TransformBackends

from monai_mixssl.data.foreground import FOREGROUND
from monai_mixssl.errors import ConfigError

__all__ = ["RandForegroundCrop", "RandForegroundCropD", "RandForegroundCropDict", "RandForegroundCropd"]


class RandForegroundCrop(RandomizableTransform):
    """Crops a random patch; one with too little foreground is drawn again, at last the best of them is taken.

    Where the image is smaller than the patch, the patch is padded with zeros (air) about the image's middle. Every call
    draws the same number of random values, so that what follows does not depend on how many attempts were needed.

    Nothing but the patches that are tried is looked at, so that a large volume on a memory map (`LoadPrepared` with
    `mapped`) is not read. A patch in float16, as prepared images are stored, becomes float32.

    Args:
        roi_size: size of the patch along each spatial axis.
        min_foreground: least share of the patch above 0.1 (of a range of [0, 1]), in [0, 1].
        attempts: positions that are tried.

    Raises:
        ConfigError: a value is out of its range.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, roi_size: Sequence[int], min_foreground: float = 0.1, attempts: int = 8) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        if not 0 <= min_foreground <= 1:
            raise ConfigError(f"min_foreground is {min_foreground!r}; use a share from 0 to 1.")
        if attempts < 1:
            raise ConfigError(f"attempts is {attempts!r}; use at least 1.")
        self.roi_size = tuple(roi_size)
        self.min_foreground = min_foreground
        self.attempts = attempts
        self.pad = SpatialPad(self.roi_size, mode="constant", value=0)
        self._draws = np.zeros((attempts, len(self.roi_size)))

    def randomize(self, data: Any = None) -> None:
        """Draws the positions to try, as shares of the room that the image leaves."""
        self._draws = self.R.random_sample((self.attempts, len(self.roi_size)))

    def choose(self, img: torch.Tensor) -> tuple[int, ...]:
        """Returns where in an image (C, *spatial) the patch starts: the first good one of the positions drawn.

        0 along an axis that is smaller than the patch.
        """
        values = img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img)
        room = np.maximum(np.asarray(values.shape[1:]) - self.roi_size, 0)
        best, most = (0,) * len(self.roi_size), -1.0
        for draw in self._draws:
            start = tuple(int(position) for position in np.floor(draw * (room + 1)))
            place = tuple(slice(one, one + size) for one, size in zip(start, self.roi_size, strict=True))
            foreground = (values[(slice(None), *place)].float() > FOREGROUND).any(dim=0)
            share = float(foreground.sum() / math.prod(self.roi_size))  # what is padded is no foreground
            if share > most:
                best, most = start, share
            if share >= self.min_foreground:
                break
        return best

    def __call__(self, img: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Takes (C, *spatial) with values in [0, 1] and returns (C, *roi_size)."""
        if randomize:
            self.randomize()
        return self.crop(img, self.choose(img))

    def crop(self, img: torch.Tensor, start: Sequence[int]) -> torch.Tensor:
        """Cuts the patch that begins at `start`, and pads it to its size."""
        end = [one + size for one, size in zip(start, self.roi_size, strict=True)]
        patch: torch.Tensor = SpatialCrop(roi_start=start, roi_end=end)(img)
        padded: torch.Tensor = self.pad(patch.float() if patch.dtype == torch.float16 else patch)
        return padded


class RandForegroundCropd(MapTransform, RandomizableTransform):
    """Dictionary version of `RandForegroundCrop`: one position for all keys, chosen on the first.

    Args:
        keys: images of one spatial shape.
        roi_size, min_foreground, attempts: see `RandForegroundCrop`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = RandForegroundCrop.backend

    def __init__(
        self,
        keys: KeysCollection,
        roi_size: Sequence[int],
        min_foreground: float = 0.1,
        attempts: int = 8,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.cropper = RandForegroundCrop(roi_size, min_foreground, attempts)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Randomizable:
        super().set_random_state(seed, state)
        self.cropper.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.cropper.randomize()
        start: tuple[int, ...] | None = None
        for key in self.key_iterator(d):
            start = self.cropper.choose(d[key]) if start is None else start
            d[key] = self.cropper.crop(d[key], start)
        return d


RandForegroundCropD = RandForegroundCropDict = RandForegroundCropd
