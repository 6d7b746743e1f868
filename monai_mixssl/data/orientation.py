# SPDX-License-Identifier: Apache-2.0
"""Puts volumes into one orientation, and slices upright.

Volumes are stored as RAS+: indices grow to the patient's right, front and top. 2D images are (rows, columns) as a
viewer shows them: a slice of a RAS+ volume has the front (axial) or the top (else) in row 0, and the patient's right
(axial, coronal) or front (sagittal) in column 0.
"""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

from monai_mixssl.data.records import LeftOut

__all__ = ["slice_axis", "to_ras", "upright"]


def to_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Permutes and flips axes so that they run closest to right, front and top; no voxel is computed anew.

    Args:
        array: (C, x, y, z).
        affine: 4×4 voxel-to-world matrix, RAS+ millimetres.

    Returns:
        The turned array, its affine, and for each axis its new number.

    Raises:
        LeftOut: the affine is singular.
    """
    orientation: Any = nib.orientations.io_orientation(affine)
    if not np.isfinite(orientation).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise LeftOut("affine that cannot be used")
    turned = nib.orientations.apply_orientation(np.moveaxis(array, 0, -1), orientation)
    new_affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape[1:])
    return np.moveaxis(turned, -1, 0), new_affine, tuple(int(axis) for axis in orientation[:, 0])


def slice_axis(shape: tuple[int, ...], affine: np.ndarray) -> int:
    """Guesses along which axis the slices of a volume were acquired, where the file does not say.

    Args:
        shape: spatial shape, 3 sizes.
        affine: 4×4 voxel-to-world matrix.

    Returns:
        The axis of a single voxel if there is one, else the axis of the largest spacing, else (spacings within 10 % of
        the largest count as equal) the last of them.
    """
    single = [axis for axis, size in enumerate(shape) if size == 1]
    if len(single) == 1:
        return single[0]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return int(np.flatnonzero(spacing > 0.9 * spacing.max())[-1])


def upright(array: np.ndarray, axis: int) -> np.ndarray:
    """Cuts a RAS+ volume into slices as a viewer shows them.

    Args:
        array: (C, x, y, z), RAS+.
        axis: 0 (sagittal), 1 (coronal) or 2 (axial).

    Returns:
        (slices, C, rows, columns).
    """
    slices = np.moveaxis(array, axis + 1, 0)  # (slices, C, first, second)
    return slices[:, :, ::-1, ::-1].swapaxes(2, 3)
