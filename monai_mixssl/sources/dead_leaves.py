# SPDX-License-Identifier: Apache-2.0
"""Dead leaves: flat discs and boxes (balls and cuboids in 3D) of many sizes that hide one another."""

from __future__ import annotations

import math

import numpy as np

from monai_mixssl.sources.base import ProceduralSource

__all__ = ["DeadLeaves", "leaf_radii"]

# Radii as parts of the image's mean side. As both ends scale with the image, so does every picture, and the number of
# leaves stays the same: about 100 in 2D, 1300 in 3D.
SMALLEST, LARGEST = 1 / 32, 1 / 2
# The leaves' volumes add up to this many times the image's; a pixel stays bare with probability of about exp(-2).
COVER = 2.0
MAX_LEAVES = 5000


class DeadLeaves(ProceduralSource):
    r"""Opaque leaves thrown one on another: piecewise constant, with edges and occlusions as in natural images.

    Half of the leaves are discs (balls in 3D), half are boxes along the axes; places are uniform, and radii
    (half-sides) follow the density :math:`p(r) \propto r^{-(d+1)}`, *d* the number of spatial axes, between 1/32 and
    1/2 of the image's mean side. That exponent gives every octave of sizes the same share of the volume, which makes
    the picture scale-invariant (Lee, Mumford and Huang, Int. J. Comput. Vis. 41, 2001). Each leaf has one value per
    channel, uniform in [0, 1]; so has what stays bare. Built natively in two and three dimensions.

    Example:
        >>> picture, identifier = DeadLeaves().set_random_state(0)((3, 32, 32))
        >>> picture.shape, identifier.split(":")[0]
        (torch.Size([3, 32, 32]), 'dead_leaves')
    """

    name = "dead_leaves"

    def render(self, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
        channels, *spatial = shape
        dims = len(spatial)
        side = math.prod(spatial) ** (1 / dims)
        low, high = SMALLEST * side, LARGEST * side
        count = _number_of_leaves(math.prod(spatial), low, high, dims)

        radii = leaf_radii(random, count, low, high, dims)
        centres = random.uniform(size=(dims, count)) * np.array(spatial)[:, None] - 0.5
        is_box = random.uniform(size=count) < 0.5
        values = random.uniform(size=(channels, count + 1)).astype(np.float32)

        # every pixel's topmost leaf; 0 is the bare ground
        top = np.zeros(spatial, dtype=np.int16)
        # the pixels that each leaf's bounding box holds, from start to before stop, per axis
        starts = np.maximum(np.ceil(centres - radii), 0).astype(int).T.tolist()
        stops = (np.floor(centres + radii) + 1).clip(min=0).astype(int).T.tolist()
        squared = [
            ((np.arange(n) - centres[axis, :, None]) ** 2).astype(np.float32).reshape(count, *_along(axis, dims))
            for axis, n in enumerate(spatial)
        ]
        limits = (radii**2).astype(np.float32)
        for leaf, box in enumerate(is_box.tolist()):
            window = tuple(slice(a, b) for a, b in zip(starts[leaf], stops[leaf], strict=True))
            if box:
                top[window] = leaf + 1
                continue
            distance = squared[0][leaf][window[0]]
            for axis in range(1, dims):
                lead = (slice(None),) * axis
                distance = distance + squared[axis][leaf][(*lead, window[axis])]
            np.copyto(top[window], leaf + 1, where=distance <= limits[leaf])
        return values[:, top]


def leaf_radii(random: np.random.RandomState, count: int, low: float, high: float, dims: int) -> np.ndarray:
    r"""``count`` radii in [low, high], in pixels, of density :math:`p(r) \propto r^{-(dims+1)}`, by inversion."""
    share = random.uniform(size=count)
    radii: np.ndarray = (low**-dims - share * (low**-dims - high**-dims)) ** (-1 / dims)
    return radii


def _along(axis: int, dims: int) -> tuple[int, ...]:
    """The shape that lays a vector along ``axis`` of ``dims``."""
    return tuple(-1 if a == axis else 1 for a in range(dims))


def _number_of_leaves(volume: int, low: float, high: float, dims: int) -> int:
    """How many leaves cover the image ``COVER`` times over (both in pixels)."""
    ball = math.pi ** (dims / 2) / math.gamma(dims / 2 + 1)
    # mean of r^dims under p(r): dims * log(high / low) / (low^-dims - high^-dims)
    mean_power = dims * math.log(high / low) / (low**-dims - high**-dims)
    mean_leaf = (ball + 2**dims) / 2 * mean_power
    return min(MAX_LEAVES, math.ceil(COVER * volume / mean_leaf))
