# SPDX-License-Identifier: Apache-2.0
"""What counts as foreground, and the box around it: patches of air teach nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["FOREGROUND", "TOO_LITTLE", "foreground_box", "foreground_share"]

# of the normalised range: above the noise of MR air, and −800 HU in CT
FOREGROUND = 0.1
TOO_LITTLE = "too little foreground"  # why images and slices are left out


def foreground_share(array: np.ndarray) -> float:
    """Returns the share of positions of (C, *spatial), values in [0, 1], that some channel shows as foreground."""
    return float((array > FOREGROUND).any(axis=0).mean())


def foreground_box(array: np.ndarray, smallest: Sequence[int]) -> tuple[slice, ...]:
    """Finds the box around the foreground, grown about its middle to at least `smallest` as far as the image reaches.

    Args:
        array: (C, *spatial), values in [0, 1].
        smallest: least size along each spatial axis, usually the patch: cropping below it would mean padding later.

    Returns:
        One slice per spatial axis; the whole image where nothing is foreground.
    """
    mask: np.ndarray = np.asarray((array > FOREGROUND).any(axis=0))
    box = []
    for axis, (size, least) in enumerate(zip(mask.shape, smallest, strict=True)):
        hit = np.flatnonzero(np.moveaxis(mask, axis, 0).reshape(size, -1).any(axis=1))
        if not len(hit):
            return tuple(slice(0, size) for size in mask.shape)
        start, stop = int(hit[0]), int(hit[-1]) + 1
        missing = max(0, min(least, size) - (stop - start))
        start = min(max(0, start - missing // 2), size - min(least, size))
        stop = max(stop, min(size, start + least))
        box.append(slice(start, stop))
    return tuple(box)
