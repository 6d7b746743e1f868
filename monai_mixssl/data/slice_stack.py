# SPDX-License-Identifier: Apache-2.0
"""Says what is unusual about where the slices of a volume lie, and puts them onto a straight, even grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from monai_mixssl.data.dicom_header import MAX_VOXELS
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.voxel_type import smallest_type

__all__ = [
    "GEOMETRIES",
    "IRREGULAR",
    "MISSING",
    "SHIFTED",
    "TILTED",
    "UNEVEN",
    "irregularities",
    "settle_geometry",
    "straighten",
]

GEOMETRIES = ("accept", "resample", "refuse")
MISSING, UNEVEN, TILTED = "missing slices", "uneven slice spacing", "tilted gantry"
SHIFTED = "slices shifted within their plane"
IRREGULAR = {  # and what is done about it
    MISSING: {"accept": "taken as even", "resample": "interpolated"},
    UNEVEN: {"accept": "taken as even", "resample": "resampled to a straight grid"},
    SHIFTED: {"accept": "taken as straight", "resample": "resampled to a straight grid"},
    TILTED: {"accept": "kept as a sheared affine", "resample": "resampled to a straight grid"},
}

SHARE = 0.05  # a slice distance may differ from the usual one by this share
SHIFT = 0.1  # millimetres: positions are often rounded
TILT = 1e-2  # sine of the angle between the stack and the slices' normal
WHOLE = 0.1  # a distance this close to twice, three times … the usual one is a gap
THICKER = 1.25  # slices that are thicker by this factor lie further apart on purpose
EXACT = 1e-3  # voxels: a smaller shift is none


def irregularities(
    positions: np.ndarray, normal: np.ndarray, thickness: Sequence[float | None] | None = None
) -> tuple[str, ...]:
    """Names what keeps a stack of parallel slices from being a straight, even grid.

    Args:
        positions: (slices, 3), of the same pixel in each slice, in order along the normal, millimetres.
        normal: unit vector.
        thickness: of each slice in millimetres, None where unknown.

    Returns:
        Some of `MISSING`, `UNEVEN`, `SHIFTED` and `TILTED`. Slices are missing where a distance is a multiple of the
        usual one, and the slices there are no thicker than the others. They are shifted where their first pixels do not
        lie on the line from the first to the last.
    """
    steps = np.diff(np.asarray(positions, dtype=float), axis=0)
    distances = steps @ normal
    if not len(distances):
        return ()
    found = []
    usual = float(np.sort(distances)[(len(distances) - 1) // 2])  # of an even number the lower one: gaps lengthen
    gaps = _gaps(distances, usual, thickness)
    if gaps.any():
        found.append(MISSING)
    if len(rest := distances[~gaps]) and np.ptp(rest) > SHARE * usual:
        found.append(UNEVEN)
    across = steps - distances[:, None] * normal
    heights, drift = np.cumsum(distances), np.cumsum(across, axis=0)
    if np.linalg.norm(drift - drift[-1] * (heights / heights[-1])[:, None], axis=1).max() > max(SHIFT, SHARE * usual):
        found.append(SHIFTED)
    if np.linalg.norm(across.sum(axis=0)) > TILT * distances.sum():
        found.append(TILTED)
    return tuple(found)


def _gaps(distances: np.ndarray, usual: float, thickness: Sequence[float | None] | None) -> np.ndarray:
    ratio = distances / usual
    gaps: np.ndarray = (ratio > 1.5) & (np.abs(ratio - np.round(ratio)) < WHOLE)
    if thickness is None or not gaps.any() or any(one is None for one in thickness):
        return gaps
    thick = np.asarray(thickness, dtype=float)
    beside = np.append(gaps, False) | np.insert(gaps, 0, False)  # slices with a gap before or behind them
    if beside.all():
        return gaps
    most = np.maximum(thick[1:], thick[:-1])
    return gaps & (most <= THICKER * np.median(thick[~beside]))


def settle_geometry(
    array: np.ndarray,
    affine: np.ndarray,
    positions: Sequence[Sequence[float]],
    notes: Sequence[str],
    geometry: str,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Accepts, resamples or refuses a volume whose slices do not lie on a straight, even grid.

    Args:
        array: (C, x, y, slices).
        affine: 4×4, RAS+ millimetres, with the mean step between slices in its third column.
        positions: of each slice's first pixel, RAS+ millimetres; empty where the affine says it all.
        notes: what the scan says about the volume.
        geometry: one of `GEOMETRIES`.

    Returns:
        Array, affine, and the notes with what was done.

    Raises:
        LeftOut: the geometry is irregular, and to be refused.
    """
    odd = [note for note in notes if note in IRREGULAR]
    if odd and geometry == "refuse":
        raise LeftOut(odd[0])
    done = tuple(f"{note}, {IRREGULAR[note][geometry]}" if note in IRREGULAR else note for note in notes)
    if odd and geometry == "resample":
        array, affine = straighten(array, affine, np.asarray(positions, dtype=float))
    return array, affine, done


def straighten(array: np.ndarray, affine: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resamples parallel slices linearly to a grid whose third axis stands upright on them, at their usual distance.

    The grid reaches as far as any slice does. Where no slice lies, it holds the smallest value of the volume.

    Args:
        array: (C, x, y, slices).
        affine: 4×4, RAS+ millimetres; its first two columns are used.
        positions: (slices, 3), of each slice's first pixel, in order along the normal, RAS+ millimetres.

    Returns:
        The resampled array, in its own type where no value had to be computed, else float32, and its affine.

    Raises:
        LeftOut: the grid would be absurdly large.
    """
    across, down = affine[:3, 0], affine[:3, 1]
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    offsets = positions - positions[0]
    heights = offsets @ normal
    if heights[-1] < 0:
        normal, heights = -normal, -heights
    shifts = np.linalg.lstsq(np.stack([across, down], axis=1), offsets.T, rcond=None)[0].T  # voxels along x and y
    step = float(np.sort(np.diff(heights))[(len(heights) - 2) // 2])
    low = np.floor(shifts.min(axis=0) + EXACT).astype(int)
    extent = np.ceil(shifts.max(axis=0) - low - EXACT)
    count = float(np.round(heights[-1] / step)) + 1
    size = [*(np.asarray(array.shape[1:3]) + extent), count]
    if not np.isfinite(size).all() or np.prod(size) * len(array) > MAX_VOXELS:
        raise LeftOut("slices lie too far apart to be resampled")
    shape = (len(array), int(size[0]), int(size[1]), int(count))
    fill = array.min()
    levels = _levels(heights, step, int(count))
    needs_float = any(weight for _, _, weight in levels) or (np.abs(shifts - np.round(shifts)) > EXACT).any()
    out = np.full(shape, fill, dtype=np.float32 if needs_float else array.dtype)
    placed: dict[int, np.ndarray] = {}
    for level, (below, above, weight) in enumerate(levels):
        for number in [number for number in placed if number < below]:
            del placed[number]
        for number in (below, above) if weight else (below,):
            if number not in placed:
                placed[number] = _shifted(array[..., number], shifts[number] - low, shape[1:3], fill, out.dtype)
        out[..., level] = placed[below]
        if weight:
            out[..., level] *= 1 - weight
            out[..., level] += weight * placed[above]
    straight = np.eye(4)
    straight[:3, :3] = np.stack([across, down, normal * step], axis=1)
    straight[:3, 3] = positions[0] + across * low[0] + down * low[1]
    return smallest_type(out) if not needs_float else out, straight


def _levels(heights: np.ndarray, step: float, count: int) -> list[tuple[int, int, float]]:
    """For each level of the grid the slice below it, the slice above it, and the weight of the latter."""
    levels = []
    for level in range(count):
        height = min(level * step, float(heights[-1]))  # the last level may lie half a step beyond the last slice
        below = int(np.searchsorted(heights, height, side="right")) - 1
        above = min(below + 1, len(heights) - 1)
        gap = heights[above] - heights[below]
        weight = (height - heights[below]) / gap if gap > 0 else 0.0
        if weight > 1 - EXACT:
            below, weight = above, 0.0
        levels.append((below, above, 0.0 if weight < EXACT else float(weight)))
    return levels


def _shifted(
    piece: np.ndarray, shift: np.ndarray, shape: tuple[int, int], fill: np.generic, dtype: np.dtype
) -> np.ndarray:
    """Moves a slice (C, x, y) by a shift in voxels into a larger one."""
    start = np.floor(shift + EXACT).astype(int)
    rest = np.where(np.abs(shift - start) < EXACT, 0.0, shift - start)
    out = np.full((len(piece), *shape), fill, dtype=dtype)
    more = (rest > 0).astype(int)
    box = tuple(slice(a, a + size + b) for a, size, b in zip(start, piece.shape[1:], more, strict=True))
    if not more.any():
        out[(slice(None), *box)] = piece
        return out
    for target, plane in zip(out, piece.astype(np.float32), strict=True):
        wide = np.pad(plane, [(0, int(one)) for one in more], constant_values=fill)
        target[box] = ndimage.shift(wide, rest, order=1, mode="grid-constant", cval=float(fill))
    return out
