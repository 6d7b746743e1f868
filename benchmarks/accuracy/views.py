# SPDX-License-Identifier: Apache-2.0
"""Random views of a batch of images, the same policy for all methods."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

__all__ = ["crop_and_flip", "jitter"]

CROP = (0.5, 1.0)  # share of the area
FLIP = 0.5


def crop_and_flip(images: Tensor, generator: torch.Generator, area: tuple[float, float] = CROP) -> Tensor:
    """A random crop of each image, enlarged to its size, mirrored left to right half of the time."""
    count = len(images)
    side = torch.empty(count).uniform_(*area, generator=generator).sqrt()
    shift = (1 - side)[:, None] * torch.empty(count, 2).uniform_(-1, 1, generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < FLIP, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, :, 2] = shift
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter(images: Tensor, generator: torch.Generator, strength: float = 0.4) -> Tensor:
    """Random brightness and contrast of each image; values may leave [0, 1] (clamping would lose detail)."""
    count = len(images)
    gain = torch.empty(count, 1, 1, 1).uniform_(1 - strength, 1 + strength, generator=generator)
    offset = torch.empty(count, 1, 1, 1).uniform_(-strength / 2, strength / 2, generator=generator)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * gain + mean + offset
