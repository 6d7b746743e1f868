# SPDX-License-Identifier: Apache-2.0
"""Fractals: the attractors of random iterated function systems, drawn as clouds of points."""

from __future__ import annotations

import math

import numpy as np

from monai_mixssl.sources.base import ProceduralSource

__all__ = ["Fractal", "attractor_points", "random_maps"]

MAPS = (2, 6)  # fewest and most maps of one system
SINGULAR_VALUES = (0.3, 0.9)  # how much a map shrinks along each of its axes; below 1, so every map is contractive
POINTS_PER_PIXEL = {2: 4.0, 3: 1.0}
FEWEST_POINTS, MOST_POINTS = 256, 1_000_000
# A system is degenerate, and another is drawn, where its attractor is a few clumps or a thin line: where a pilot of
# few points, stretched over a coarse grid, touches less than the given part of the cells. The pilot costs the same at
# every size. After ``ATTEMPTS`` the fullest system so far is taken.
PILOT_GRID = {2: 32, 3: 12}
LEAST_FILLED = {2: 0.2, 3: 0.1}
PILOT_POINTS = 2048
ATTEMPTS = 8


class Fractal(ProceduralSource):
    r"""The attractor of two to six random contractive affine maps :math:`x \mapsto A_k x + b_k`, in 2D or 3D.

    Each :math:`A_k` is a rotation or reflection, times singular values uniform in (0.3, 0.9), times another rotation;
    each :math:`b_k` is uniform in (-1, 1)^d. All words of equal length in the maps are applied to one map's fixed
    point, so that every point lies on the attractor; their density, on a logarithmic scale, is the brightness. Every
    map has a value per channel that tints the part of the attractor which it makes, and the attractor is stretched to
    fill the image. Systems that fill too few pixels are rejected. After FractalDB (Kataoka and others, ACCV 2020);
    singular values instead of free matrices, as in Anderson and Farrell (WACV 2022), spare most rejections.

    Example:
        >>> picture, identifier = Fractal().set_random_state(0)((1, 16, 16, 16))
        >>> picture.shape, identifier.split(":")[0]
        (torch.Size([1, 16, 16, 16]), 'fractal')
    """

    name = "fractal"

    def render(self, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
        channels, *spatial = shape
        dims, pixels = len(spatial), math.prod(spatial)
        maps, offsets = _drawn_until_full(random, dims)
        number = len(maps)
        wanted = np.clip(POINTS_PER_PIXEL[dims] * pixels, FEWEST_POINTS, MOST_POINTS)
        points = attractor_points(maps, offsets, int(wanted))
        cells = _cells(points, spatial)
        counts = np.bincount(cells, minlength=pixels)
        tints = random.uniform(0.2, 1.0, size=(channels, number)).astype(np.float32)
        shade = np.log1p(counts) / math.log1p(counts.max()) / np.maximum(counts, 1)
        picture = np.empty((channels, pixels), dtype=np.float32)
        for channel, tint in enumerate(tints):
            # the maps take turns along the list of points, see attractor_points
            weights = np.tile(tint, len(cells) // number)
            picture[channel] = shade * np.bincount(cells, weights=weights, minlength=pixels)
        return picture.clip(0.0, 1.0).reshape(shape)


def _drawn_until_full(random: np.random.RandomState, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """The first of up to ``ATTEMPTS`` random systems that is not degenerate, else the fullest."""
    grid = [PILOT_GRID[dims]] * dims
    fullest = -1.0
    for _ in range(ATTEMPTS):
        system = random_maps(random, dims)
        touched = np.zeros(math.prod(grid), dtype=bool)
        touched[_cells(attractor_points(*system, PILOT_POINTS), grid)] = True
        filled = float(touched.mean())
        if filled > fullest:
            fullest, best = filled, system
        if filled >= LEAST_FILLED[dims]:
            break
    return best


def random_maps(random: np.random.RandomState, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """A system of random contractive maps: matrices (K, dims, dims) of spectral norm below 0.9, offsets (K, dims)."""
    number = random.randint(MAPS[0], MAPS[1] + 1)
    turns, _ = np.linalg.qr(random.standard_normal((2, number, dims, dims)))
    shrink = random.uniform(*SINGULAR_VALUES, size=(number, 1, dims))
    return (turns[0] * shrink) @ turns[1], random.uniform(-1.0, 1.0, size=(number, dims))


def attractor_points(maps: np.ndarray, offsets: np.ndarray, wanted: int) -> np.ndarray:
    """Points of the attractor, float32 (N, dims): the last map applied to point n is map ``n % K``.

    Args:
        maps: (K, dims, dims), each of spectral norm below 1.
        offsets: (K, dims).
        wanted: N is the largest power of K that is at most twice this number.
    """
    number, dims = offsets.shape
    # the fixed point of the first map lies on the attractor, and so does all that the maps make of it
    points = np.linalg.solve(np.eye(dims) - maps[0], offsets[0])[None].astype(np.float32)
    side_by_side = maps.reshape(number * dims, dims).T.astype(np.float32)
    shifts = offsets.reshape(number * dims).astype(np.float32)
    while len(points) * number <= 2 * wanted:
        points = (points @ side_by_side + shifts).reshape(-1, dims)
    return points


def _cells(points: np.ndarray, spatial: list[int]) -> np.ndarray:
    """The flat index of the pixel that each point falls into once the cloud is stretched to fill the image."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    cells = np.zeros(len(points), dtype=np.intp)
    for axis, size in enumerate(spatial):
        position = (points[:, axis] - low[axis]) * np.float32(size / extent[axis])
        cells *= size
        cells += np.minimum(position.astype(np.intp), size - 1)
    return cells
