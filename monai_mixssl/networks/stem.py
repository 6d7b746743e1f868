# SPDX-License-Identifier: Apache-2.0
"""Convolutions for another number of image channels, or from 2D for 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["adapt_channels", "inflate"]


def adapt_channels(weight: torch.Tensor, in_channels: int) -> torch.Tensor | None:
    """Turn a first convolution for another number of image channels, grey to colour or colour to grey.

    A grey image, repeated in every channel of the one network, gives the response of the other: from 1 to C channels
    the weights are repeated and divided by C, from C to 1 they are added up.

    Args:
        weight: (O, I, *kernel).
        in_channels: channels asked for.

    Returns:
        (O, in_channels, *kernel), or None where neither number is 1: which channel is which is then not known.
    """
    channels = weight.shape[1]
    if channels == in_channels:
        return weight
    if 1 not in (channels, in_channels):
        return None
    together = weight.sum(dim=1, keepdim=True) / in_channels
    return together.repeat(1, in_channels, *[1] * (weight.ndim - 2))


def inflate(weight: torch.Tensor, kernel: Sequence[int]) -> torch.Tensor | None:
    """Turn a 2D convolution into a 3D one that answers alike where the volume is constant from slice to slice.

    2D images are axial slices as a viewer shows them, rows from the front backwards and columns from the patient's
    right to the left; volumes run to the patient's right, front and top. So the kernel is turned to these axes, and
    repeated along the third, divided by its length (Carreira and Zisserman, CVPR 2017).

    Args:
        weight: (O, I, rows, columns).
        kernel: size of the 3D kernel, (x, y, z).

    Returns:
        (O, I, x, y, z), or None where the kernel has another size in the plane.
    """
    turned = weight.flip(2, 3).transpose(2, 3)
    if weight.ndim != 4 or tuple(turned.shape[2:]) != tuple(kernel[:2]):
        return None
    depth = kernel[2]
    return (turned / depth).unsqueeze(-1).repeat(1, 1, 1, 1, depth)
