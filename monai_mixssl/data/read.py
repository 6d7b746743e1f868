# SPDX-License-Identifier: Apache-2.0
"""Reads the pixels of an image that the scan found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_mixssl.data.dicom_pixels import read_dicom_parts
from monai_mixssl.data.itk_file import read_itk
from monai_mixssl.data.nifti_file import read_nifti
from monai_mixssl.data.picture_file import read_picture
from monai_mixssl.data.records import LeftOut, ScanImage
from monai_mixssl.data.slice_stack import settle_geometry
from monai_mixssl.data.volume import Volume

__all__ = ["read_image"]


def read_image(image: ScanImage, geometry: str = "accept") -> Volume:
    """Reads one image or volume.

    Args:
        image: what the scan says.
        geometry: what becomes of DICOM volumes whose slices do not lie on a straight, even grid. "accept": as stored,
            with a sheared affine where the stack is tilted, and the mean distance where distances differ. "resample":
            linearly onto a straight grid. "refuse": none of them.

    Raises:
        LeftOut: it cannot be read, is not what the scan saw any more, or has a geometry that is to be refused.
    """
    part = image.parts[0]
    if image.kind == "dicom":
        volume = _read_dicom(image)
    elif image.kind == "nifti":
        volume = read_nifti(Path(part.path), part.number)
    elif image.kind == "itk":
        volume = read_itk(part.path, part.number)
    else:
        volume = read_picture(Path(part.path))
    if volume.array.shape[1:] != image.shape:
        raise LeftOut("size differs from what the header says")
    notes = image.notes if _finite(volume.array) else (*image.notes, "NaN or infinite values")
    if _constant(volume.array):
        notes = (*notes, "constant image")
    if volume.affine is None:
        return replace(volume, notes=notes)
    array, affine, notes = settle_geometry(volume.array, volume.affine, image.positions, notes, geometry)
    if array is not volume.array:
        spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
        return Volume(array, affine, spacing, volume.modality, notes)
    return replace(volume, notes=notes)


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _constant(array: np.ndarray) -> bool:
    return _even(array[:, array.shape[1] // 2]) and _even(array)  # the middle nearly always says no, and quickly


def _even(array: np.ndarray) -> bool:
    axes = tuple(range(1, array.ndim))  # of each colour by itself
    return bool((array.min(axis=axes) == array.max(axis=axes)).all())


def _read_dicom(image: ScanImage) -> Volume:
    array = read_dicom_parts(image.parts)
    if len(image.shape) == 2:
        array = array[..., 0]
    affine = None if image.affine is None else np.asarray(image.affine, dtype=float)
    return Volume(array, affine, image.spacing, image.modality)
