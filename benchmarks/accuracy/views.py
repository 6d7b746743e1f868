# SPDX-License-Identifier: Apache-2.0
"""Random views of a batch of images, the same policy for all methods."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

__all__ = ["crop_and_flip", "jitter"]

CROP = (0.5, 1.0)  # share of the area, in 3D of the volume
FLIP = 0.5


def crop_and_flip(
    images: Tensor, generator: torch.Generator, area: tuple[float, float] = CROP, flips: float = FLIP
) -> Tensor:
    """A random crop of each image or volume, enlarged to its size, a share ``flips`` mirrored along the last axis."""
    count, axes = len(images), images.ndim - 2
    side = torch.empty(count).uniform_(*area, generator=generator) ** (1 / axes)
    shift = (1 - side)[:, None] * torch.empty(count, axes).uniform_(-1, 1, generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < flips, -1.0, 1.0)
    theta = torch.diag_embed(side[:, None].repeat(1, axes))
    theta[:, 0, 0] *= mirror
    grid = affine_grid(torch.cat([theta, shift[:, :, None]], dim=2), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter(images: Tensor, generator: torch.Generator, strength: float = 0.4) -> Tensor:
    """Random brightness and contrast of each image; values may leave [0, 1] (clamping would lose detail)."""
    each = (len(images), *[1] * (images.ndim - 1))
    gain = torch.empty(each).uniform_(1 - strength, 1 + strength, generator=generator)
    offset = torch.empty(each).uniform_(-strength / 2, strength / 2, generator=generator)
    mean = images.flatten(1).mean(dim=1).view(each)
    return (images - mean) * gain + mean + offset
