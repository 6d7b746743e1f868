# SPDX-License-Identifier: Apache-2.0
"""Reads a mask onto its image's grid, and refuses one that does not belong there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import LeftOut, ScanImage
from monai_mixssl.data.scan import scan
from monai_mixssl.data.volume import Volume

__all__ = ["Grid", "Source", "class_numbers", "grid_of", "mask_on_grid", "read_mask", "read_one"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ScanImage
"""A file, a folder of the slices of one DICOM volume, a list of such slices, or what a scan has found."""

# corners of the two grids may be this share of a voxel apart: headers round, but half a voxel shifts every border
TOLERANCE = 0.25
MOST_CLASSES = 255  # class numbers are kept in one byte


class Grid(NamedTuple):
    """Where the voxels of an image lie.

    Attributes:
        shape: three sizes; a single image is a volume of one slice.
        affine: 4×4 voxel-to-world matrix, RAS+ millimetres; None where the file has no position in a patient.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None


def read_one(source: Source) -> tuple[ScanImage, Volume]:
    """Reads the one image or volume that a path stands for.

    Returns:
        What the scan says of it, and its values.

    Raises:
        LeftOut: nothing is there, more than one image is, or it cannot be read.
    """
    image = source if isinstance(source, ScanImage) else _find_one(source)
    return image, read_image(image)


def grid_of(volume: Volume) -> Grid:
    """The grid of what was read."""
    return Grid((*volume.array.shape[1:], 1)[:3], volume.affine)


def read_mask(mask: Source, grid: Grid) -> np.ndarray:
    """Reads a mask in its image's voxel order.

    A mask whose axes are stored in another order or direction is turned. One of another size, or that lies elsewhere,
    is refused rather than resampled: it belongs to another image, or to this one in another form. Where one of the two
    has no position in a patient, equal sizes must do.

    Args:
        mask: where it is.
        grid: of its image.

    Returns:
        The values as they are stored, whole numbers, int64 of the grid's shape.

    Raises:
        LeftOut: the mask cannot be read, has another size or place, or holds something other than whole numbers.
    """
    try:
        return mask_on_grid(read_one(mask)[1], grid)
    except LeftOut as reason:
        text = reason.reason if reason.reason.startswith("mask ") else f"mask cannot be used: {reason.reason}"
        raise LeftOut(text, reason.detail) from None


def mask_on_grid(volume: Volume, grid: Grid) -> np.ndarray:
    """Turns a mask that was read into its image's voxel order; see `read_mask`."""
    array = volume.array
    if not np.isfinite(array).all():
        raise LeftOut("mask with NaN or infinite values")
    if (array != array[:1]).any():
        raise LeftOut("mask in colour")
    array = array[0].reshape((*array.shape[1:], 1)[:3])
    if volume.affine is not None and grid.affine is not None:
        array, affine = _turned(array, volume.affine, grid.affine)
        _refuse_other_shape(array.shape, grid.shape)
        if _apart(affine, grid) > TOLERANCE:
            raise LeftOut("mask lies elsewhere than its image")
    else:
        _refuse_other_shape(array.shape, grid.shape)
    whole = np.rint(array).astype(np.int64)
    if (np.abs(array - whole) > 1e-4).any():  # the rounding of a float mask's scale, no more
        raise LeftOut("mask whose values are not whole numbers")
    return whole


def class_numbers(mask: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Replaces the values of a mask by the numbers of the classes that they stand for.

    Args:
        mask: whole numbers of any shape.
        values: the value of each class, background first.

    Returns:
        Class numbers from 0, uint8 of the same shape.

    Raises:
        LeftOut: a value stands for no class.
    """
    if len(values) > MOST_CLASSES:
        raise LeftOut("mask of more than 255 classes")
    order = np.argsort(values)
    ordered = np.asarray(values, dtype=np.int64)[order]
    found = np.searchsorted(ordered, mask).clip(max=len(values) - 1)
    strange = np.unique(mask[ordered[found] != mask])
    if strange.size:
        shown = ", ".join(str(value) for value in strange[:5])
        raise LeftOut("mask values that are no class", shown)
    return order.astype(np.uint8)[found]


def _find_one(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> ScanImage:
    paths = [source] if isinstance(source, str | os.PathLike) else [*source]
    if not all(os.path.exists(path) for path in paths):
        raise LeftOut("the file does not exist")
    # the ids are thrown away, so that any salt will do; a list, since a comma in a name separates nothing here
    found = scan([str(Path(path)) for path in paths], salt=b"", progress=False)
    if len(found.images) == 1:
        return found.images[0]
    if not found.images and found.excluded:
        raise LeftOut(found.excluded[0].reason, found.excluded[0].detail)
    raise LeftOut("several images where one was expected" if found.images else "no image")


def _turned(array: np.ndarray, affine: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permutes and flips axes so that they run as those of another affine."""
    old, new = (nib.orientations.io_orientation(matrix) for matrix in (affine, wanted))
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise LeftOut("affine that cannot be used")
    turn = nib.orientations.ornt_transform(old, new)
    turned = nib.orientations.apply_orientation(array, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, array.shape)


def _refuse_other_shape(mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    if tuple(mask) != tuple(image):
        sizes = [" x ".join(str(size) for size in shape) for shape in (mask, image)]
        raise LeftOut("mask of another size than its image", f"{sizes[0]} voxels, not {sizes[1]}")


def _apart(affine: np.ndarray, grid: Grid) -> float:
    """How far the corners of two grids of one shape are apart at most, in voxels of the smallest side."""
    assert grid.affine is not None  # the caller compares two affines
    corners = np.stack(np.meshgrid(*([0, size - 1] for size in grid.shape), [1], indexing="ij"), axis=-1).reshape(-1, 4)
    distance = np.linalg.norm((corners @ (affine - grid.affine).T)[:, :3], axis=1).max()
    return float(distance / np.linalg.norm(grid.affine[:3, :3], axis=0).min())
