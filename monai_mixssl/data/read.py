# SPDX-License-Identifier: Apache-2.0
"""Reads the pixels of an image that the scan found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_mixssl.data.dicom_pixels import read_dicom_parts
from monai_mixssl.data.nifti_file import read_nifti
from monai_mixssl.data.picture_file import read_picture
from monai_mixssl.data.records import LeftOut, ScanImage
from monai_mixssl.data.volume import Volume

__all__ = ["read_image"]


def read_image(image: ScanImage) -> Volume:
    """Reads one image or volume.

    Raises:
        LeftOut: it cannot be read, or is not what the scan saw any more.
    """
    part = image.parts[0]
    if image.kind == "dicom":
        array = read_dicom_parts(image.parts)
        if len(image.shape) == 2:
            array = array[..., 0]
        affine = None if image.affine is None else np.asarray(image.affine, dtype=float)
        volume = Volume(array, affine, image.spacing, image.modality)
    elif image.kind == "nifti":
        volume = read_nifti(Path(part.path), part.number)
    else:
        volume = read_picture(Path(part.path))
    if volume.array.shape[1:] != image.shape:
        raise LeftOut("size differs from what the header says")
    return volume
