# SPDX-License-Identifier: Apache-2.0
"""What every source of second-domain images has in common: how it is called, and what it promises."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from monai.transforms.transform import Randomizable

from monai_mixssl.errors import ConfigError, DataError

__all__ = ["ProceduralSource", "Source", "check_shape"]

# A picture whose channels all span less than this (5 grey levels of 256) would show little but rounding once its
# contrast is matched to the target's, so another is drawn in its place.
MIN_CONTRAST = 0.02
MAX_DRAWS = 64


class Source(Randomizable, ABC):
    """A second domain: gives an image of any asked shape, drawn from ``self.R`` and nothing else.

    Calling a source with ``(C, *spatial)``, two or three spatial axes, returns

    - a float32 tensor on the CPU, of exactly that shape, finite, in [0, 1], in which at least one channel varies
      (unless there is but one pixel), and
    - an opaque id such as ``"dead_leaves:9f31c0a2"``: never a path or a file name.

    After ``set_random_state(seed)`` the sequence of images is the same in every process. A subclass gives ``name``
    and ``_draw``; sources are plain picklable objects, so that worker processes started by spawn can have them.

    Raises:
        ConfigError: the shape is not ``(C, H, W)`` or ``(C, D, H, W)`` of positive whole numbers.
        DataError: no image with contrast turned up in 64 draws.
    """

    name: ClassVar[str]

    def __call__(self, shape: Sequence[int]) -> tuple[torch.Tensor, str]:
        size = check_shape(shape)
        one_pixel = math.prod(size[1:]) == 1
        for _ in range(MAX_DRAWS):
            picture, identifier = self._draw(size)
            if one_pixel or _contrast(picture) >= MIN_CONTRAST:
                # a copy, as views that are mirrored, broadcast or another's memory must not reach the caller
                return torch.from_numpy(np.array(picture, dtype=np.float32, order="C")), identifier
        raise DataError(
            f"The source '{self.name}' gave {MAX_DRAWS} images without contrast in a row: "
            "choose another source, or give it images that are not blank."
        )

    @abstractmethod
    def _draw(self, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
        """One image of ``shape`` in [0, 1], constant ones allowed, and its id."""


class ProceduralSource(Source):
    """A source that computes its images: a 32-bit seed is drawn from ``self.R``, and the image follows from it.

    The seed is also the image's id, so ``render(shape, np.random.RandomState(int(id.split(":")[1], 16)))`` gives the
    same image again. ``RandomState`` is used because NumPy keeps its streams the same from version to version.
    """

    def randomize(self, data: object = None) -> None:
        """Draw the seed of the next image."""
        self._seed = int(self.R.randint(0, 2**32, dtype=np.uint32))

    def _draw(self, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
        self.randomize()
        return self.render(shape, np.random.RandomState(self._seed)), f"{self.name}:{self._seed:08x}"

    @abstractmethod
    def render(self, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
        """The image of ``shape`` (C, *spatial), in [0, 1], that follows from the state of ``random``."""


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` as a tuple of whole numbers.

    Raises:
        ConfigError: it is not ``(C, H, W)`` or ``(C, D, H, W)`` of positive whole numbers.
    """
    try:
        size = tuple(operator.index(n) for n in shape)
    except TypeError:
        size = ()
    if len(size) not in (3, 4) or min(size) < 1:
        raise ConfigError(
            f"A source cannot give an image of shape {shape!r}: ask for (C, H, W) or (C, D, H, W), each at least 1."
        )
    return size


def _contrast(picture: np.ndarray) -> float:
    """Largest range (maximum minus minimum) of any channel; 0 where a value is not finite."""
    flat = picture.reshape(len(picture), -1)
    contrast = float((flat.max(axis=1) - flat.min(axis=1)).max())
    return contrast if math.isfinite(contrast) else 0.0
