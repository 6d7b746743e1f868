# SPDX-License-Identifier: Apache-2.0
"""Decodes with pydicom what GDCM refuses: uncompressed and run-length coded pixels alone, and exactly those.

The values are what GDCM would give: see `decode_dicom`.
"""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.dicom_rescale import decoder_rescale, root_rescale
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut

__all__ = ["decode_plain"]

MOST = 2**30  # values: the file may have changed since the scan looked at its header


@quiet_libraries()
def decode_plain(path: str) -> np.ndarray:
    """Decodes all frames of a file.

    Returns:
        (frames, rows, columns, C).

    Raises:
        LeftOut: it cannot be decoded; most compressed files are among these.
    """
    try:
        with BoundedFile(path) as file:
            dataset = pydicom.dcmread(file, force=True)
        count, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
        if count * samples * dataset.Rows * dataset.Columns > MOST:
            raise LeftOut("header claims an absurd size")
        array = dataset.pixel_array  # YBR comes back as RGB
        kind = dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            array = _colours(array, dataset)
        elif samples == 1:
            array = _grey(array, dataset)
        return np.asarray(array).reshape(count, int(dataset.Rows), int(dataset.Columns), -1)
    except LeftOut:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files, and on syntaxes that it cannot decode
        raise LeftOut("pixels cannot be decoded", type(error).__name__) from None


def _colours(array: np.ndarray, dataset: Dataset) -> np.ndarray:
    colours = apply_color_lut(array, dataset)
    wide = int(dataset.RedPaletteColorLookupTableDescriptor[2]) == 16
    return (colours // 257).astype(np.uint8) if wide else colours.astype(np.uint8)


def _grey(array: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        if array.dtype.kind == "f":
            array = array.max() + array.min() - array
        else:
            # the largest stored value becomes the smallest, and the other way round
            top = -1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1
            array = top - array.astype(np.int64)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    first = (dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()])[0]
    slope, intercept = decoder_rescale(str(dataset.get("SOPClassUID", "")), first, shared, root_rescale(dataset))
    if (slope, intercept) == (1.0, 0.0):
        return array
    return array.astype(np.float64) * slope + intercept
