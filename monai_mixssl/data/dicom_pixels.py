# SPDX-License-Identifier: Apache-2.0
"""Decodes DICOM pixels with SimpleITK, whose GDCM needs no extra package for any usual transfer syntax.

GDCM applies one rescale slope and intercept a file, inverts MONOCHROME1, and turns palette and YBR colour into RGB.
What it refuses, or gets wrong, pydicom may still decode, if it is not compressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from monai_mixssl.data.dicom_mosaic import cut_tiles
from monai_mixssl.data.dicom_plain import decode_plain
from monai_mixssl.data.dicom_structure import examine_structure
from monai_mixssl.data.quiet import quiet_stderr
from monai_mixssl.data.records import LeftOut, Part
from monai_mixssl.data.voxel_type import smallest_type

__all__ = ["decode_dicom", "read_dicom_parts"]

PHOTOMETRIC, BITS_ALLOCATED = "0028|0004", "0028|0100"
# what decides on the type in which GDCM returns a file: bits, sign, rescale; and whether it holds one grey frame
DECIDING = (PHOTOMETRIC, "0028|0002", "0028|0008", BITS_ALLOCATED, "0028|0101", "0028|0103", "0028|1052", "0028|1053")


def decode_dicom(path: str) -> np.ndarray:
    """Decodes all frames of a file.

    Returns:
        (frames, rows, columns, C) in the type that the decoder chooses; one rescale is applied to all frames, see
        `decoder_rescale`.

    Raises:
        LeftOut: it cannot be decoded.
    """
    if not examine_structure(path).well_formed:  # GDCM would refuse it, too, but not before it has taken gigabytes
        return decode_plain(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    try:
        with quiet_stderr():
            image = reader.Execute()
    except RuntimeError:  # names the path
        return decode_plain(path)  # storage classes that GDCM does not know, palettes that do not begin at 0
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    elif _wide_palette(image):
        return decode_plain(path)  # GDCM cuts the colours of these to the bits of an index
    return array.reshape(-1, *array.shape[-3:])


def _wide_palette(image: sitk.Image) -> bool:
    def says(key: str, wanted: str) -> bool:
        return image.HasMetaDataKey(key) and image.GetMetaData(key).strip() == wanted

    return says(PHOTOMETRIC, "PALETTE COLOR") and says(BITS_ALLOCATED, "16")


def read_dicom_parts(parts: Sequence[Part]) -> np.ndarray:
    """Reads the slices of a volume, in the order given.

    Files of a slice each are read by ITK's series reader, which takes less than half the time that they take one by one
    but puts all slices into the type of the first: only where all agree in what decides on it.

    Returns:
        (C, columns, rows, slices) in the smallest type that holds the values, see `smallest_type`.

    Raises:
        LeftOut: a file cannot be decoded, or the slices differ in size.
    """
    together = _read_together(parts)
    if together is not None:
        return together
    slices = []
    path, frames = "", np.empty(0)
    for part in parts:
        if part.path != path:
            path, frames = part.path, decode_dicom(part.path)
            if part.tiles:
                frames = _tiles(frames, part.tiles)
        if part.number >= len(frames):
            raise LeftOut("fewer frames than the header says")
        piece = frames[part.number]
        if (part.gain, part.offset) != (1.0, 0.0):
            piece = piece * part.gain + part.offset
        slices.append(smallest_type(piece))
    if len({piece.shape for piece in slices}) > 1:
        raise LeftOut("slices differ in size")
    array = np.stack(slices)  # (slices, rows, columns, C)
    if len({piece.dtype for piece in slices}) > 1:
        array = smallest_type(array)
    return array.transpose(3, 2, 1, 0)


def _read_together(parts: Sequence[Part]) -> np.ndarray | None:
    """Reads files of one slice each at once; None where they must be read one by one."""
    paths = [part.path for part in parts]
    plain = all(part[1:] == (0, 1.0, 0.0, 0) for part in parts)
    if len(paths) < 2 or not plain or len(set(paths)) < len(paths):
        return None
    if not all(examine_structure(path).well_formed for path in paths):
        return None
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.MetaDataDictionaryArrayUpdateOn()
    reader.SetFileNames(paths)
    try:
        with quiet_stderr():
            image = reader.Execute()
    except RuntimeError:  # names a path; one by one it comes out what is wrong
        return None
    first = _deciding(reader, 0)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1 or image.GetDepth() != len(paths):
        return None
    if any(_deciding(reader, number) != first for number in range(1, len(paths))):
        return None
    view = sitk.GetArrayViewFromImage(image)  # good as long as the image is there
    array = smallest_type(view)
    return (array.copy() if array is view else array)[None].transpose(0, 3, 2, 1)


def _deciding(reader: sitk.ImageSeriesReader, number: int) -> list[str | None]:
    return [reader.GetMetaData(number, key) if reader.HasMetaDataKey(number, key) else None for key in DECIDING]


def _tiles(frames: np.ndarray, tiles: int) -> np.ndarray:
    if len(frames) != 1 or frames.shape[1] % tiles or frames.shape[2] % tiles:
        raise LeftOut("size differs from what the header says")
    return cut_tiles(frames[0], tiles)
