# SPDX-License-Identifier: Apache-2.0
"""A second domain out of the first: images (B, C, *size) whose texture stays and whose anatomy goes."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

__all__ = ["scrambled_phases", "shuffled_cells"]

CELLS = 4  # along an axis


def scrambled_phases(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image's amplitudes with the phases of white noise; its mean and power spectrum stay.

    Common in vision science; after Oppenheim and Lim, "The importance of phase in signals", Proc. IEEE 1981.
    """
    axes = tuple(range(2, images.ndim))
    noise = torch.rand(images.shape, generator=generator) - 0.5
    spectrum = torch.fft.rfftn(images, dim=axes)
    turned = torch.polar(spectrum.abs(), torch.fft.rfftn(noise, dim=axes).angle())
    turned[(..., *[0] * len(axes))] = spectrum[(..., *[0] * len(axes))]
    return torch.fft.irfftn(turned, s=images.shape[2:], dim=axes)


def shuffled_cells(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image's 4 x 4 (x 4) cells in another order; pixels beyond the last whole cell stay where they are."""
    sides = [size // CELLS for size in images.shape[2:]]
    places = list(product(*[[slice(n * side, (n + 1) * side) for n in range(CELLS)] for side in sides]))
    result = images.clone()
    for image, made in zip(images, result, strict=True):
        for place, other in zip(places, torch.randperm(len(places), generator=generator), strict=True):
            made[(..., *place)] = image[(..., *places[other])]
    return result
