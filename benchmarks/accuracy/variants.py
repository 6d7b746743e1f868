# SPDX-License-Identifier: Apache-2.0
"""What the fourth search varies about blends and reconstructions, as functions on batches (B, C, *size)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blend_spectra", "with_differences"]


def blend_spectra(target: Tensor, source: Tensor, transparency: Tensor) -> Tensor:
    """The target's phases with a blend of both images' amplitudes; a transparency of 1 gives the target.

    After Yang and Soatto, "FDA: Fourier domain adaptation for semantic segmentation", CVPR 2020, who replace low
    frequencies; here all frequencies are blended, by one number an image, (B,).
    """
    axes = tuple(range(2, target.ndim))
    ours, theirs = torch.fft.rfftn(target, dim=axes), torch.fft.rfftn(source, dim=axes)
    t = transparency.view(-1, *[1] * (target.ndim - 1))
    amplitude = t * ours.abs() + (1 - t) * theirs.abs()
    return torch.fft.irfftn(torch.polar(amplitude, ours.angle()), s=target.shape[2:], dim=axes)


def with_differences(images: Tensor) -> Tensor:
    """The images and, as more channels, the differences of neighbours along every axis (the last one repeated)."""
    parts = [images]
    for axis in range(2, images.ndim):
        last = images.narrow(axis, images.shape[axis] - 1, 1)
        parts.append(images.diff(dim=axis, append=last))
    return torch.cat(parts, dim=1)
