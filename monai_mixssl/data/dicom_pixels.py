# SPDX-License-Identifier: Apache-2.0
"""Decodes DICOM pixels with SimpleITK, whose GDCM needs no extra package for any usual transfer syntax.

GDCM applies rescale slope and intercept, inverts MONOCHROME1, and turns palette and YBR colour into RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from monai_mixssl.data.quiet import quiet_stderr
from monai_mixssl.data.records import LeftOut, Part

__all__ = ["decode_dicom", "read_dicom_parts"]


def decode_dicom(path: str) -> np.ndarray:
    """Decodes all frames of a file.

    Returns:
        (frames, rows, columns, C) in the type that GDCM chooses: integers where the rescale keeps them.

    Raises:
        LeftOut: GDCM cannot decode it.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    try:
        with quiet_stderr():
            image = reader.Execute()
    except RuntimeError:
        raise LeftOut("pixels cannot be decoded") from None  # the original names the path
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    return array.reshape(-1, *array.shape[-3:])


def read_dicom_parts(parts: Sequence[Part]) -> np.ndarray:
    """Reads the slices of a volume, in the order given.

    One file at a time: ITK's series reader takes the first file's type for all, and was no faster (128 slices of a real
    series: 0.15 s file by file, 0.23 s with the series reader).

    Returns:
        (C, columns, rows, slices) in the smallest type that holds what was decoded, float32 where a rescale differs.

    Raises:
        LeftOut: a file cannot be decoded, or the slices differ in size.
    """
    slices = []
    path, frames = "", np.empty(0)
    for part in parts:
        if part.path != path:
            path, frames = part.path, decode_dicom(part.path)
        if part.number >= len(frames):
            raise LeftOut("fewer frames than the header says")
        piece = frames[part.number]
        if (part.gain, part.offset) != (1.0, 0.0):
            piece = (piece * part.gain + part.offset).astype(np.float32)
        slices.append(piece)
    if len({piece.shape for piece in slices}) > 1:
        raise LeftOut("slices differ in size")
    array = np.stack(slices)  # (slices, rows, columns, C)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return array.transpose(3, 2, 1, 0)
