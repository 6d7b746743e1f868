# SPDX-License-Identifier: Apache-2.0
"""Patches of volumes, drawn anew each time, in the place of a tensor of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["Images", "Patches"]


class Patches:
    """Looks like a tensor (N, 1, size, size, size) of which some are taken by their numbers.

    Args:
        volumes: (1, x, y, z) each, in [0, 1]; smaller ones are padded with 0 at their ends.
        size: voxels along an edge.
        seed: of the places.
    """

    def __init__(self, volumes: Sequence[np.ndarray], size: int, seed: int) -> None:
        self.volumes = [_padded(volume, size) for volume in volumes]
        self.shape = (len(volumes), 1, size, size, size)
        self.random = np.random.RandomState(seed)

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, chosen: Tensor) -> Tensor:
        return torch.stack([self._patch(self.volumes[int(number)]) for number in chosen])

    def _patch(self, volume: np.ndarray) -> Tensor:
        starts = [self.random.randint(0, have - self.shape[2] + 1) for have in volume.shape[1:]]
        place = tuple(slice(start, start + self.shape[2]) for start in starts)
        return torch.from_numpy(volume[(slice(None), *place)].astype(np.float32))


Images = Tensor | Patches


def _padded(volume: np.ndarray, size: int) -> np.ndarray:
    return np.pad(volume, [(0, 0), *((0, max(size - have, 0)) for have in volume.shape[1:])])
