# SPDX-License-Identifier: Apache-2.0
"""Writes small DICOM and NIfTI files of many kinds, of which `mutants` damages some part."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)
from tiny_scans import write_dicom, write_series

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from reader_cases import (
    COLOUR_TAGS,
    COLOURS,
    FRAMES,
    RESCALE,
    SLOPES,
    STEPS,
    VOLUME,
    WHITE_IS_LOW,
    XYZ,
    compressed,
    enhanced,
    mosaic,
    nifti,
    palette,
    recoded,
    single,
    ybr,
)

__all__ = ["KINDS"]


def slice_of_series(folder: Path) -> Path:
    return write_series(folder, VOLUME[:3], RescaleSlope=2, RescaleIntercept=-7, AcquisitionTime="120000.5")[1]


def recoded_without_types(folder: Path) -> Path:
    path = single(**RESCALE)(folder)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, little_endian=True, implicit_vr=True)
    return path


def with_code(syntax: str, frames: Callable[[Path], list[bytes]], **tags: Any) -> Callable[[Path], Path]:
    """Puts coded pixels into a file of ours: other writers' UIDs and dates are new each time."""

    def write(folder: Path) -> Path:
        coded = frames(folder)
        path = single(**tags)(folder)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate(coded)
        dataset.save_as(path)
        return path

    return write


def by_gdcm(code: str) -> Callable[[Path], list[bytes]]:
    def frames(folder: Path) -> list[bytes]:
        return list(generate_frames(pydicom.dcmread(compressed(code)(folder)).PixelData, number_of_frames=1))

    return frames


def by_pillow(pixels: np.ndarray) -> Callable[[Path], list[bytes]]:
    def frames(folder: Path) -> list[bytes]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
        return [file.getvalue()]

    return frames


def several_frames(folder: Path) -> Path:
    path = write_dicom(folder / "case.dcm", VOLUME, Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1")
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    return path


def other_nifti(kind: Any, array: np.ndarray, name: str, endian: str = "<") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image = kind(array, STEPS)
        image = kind(array, STEPS, image.header.as_byteswapped(endian))
        image.header.set_slope_inter(0.5, -3)
        nib.save(image, folder / name)
        return folder / name

    return write


GREY = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
UNSIGNED = {"PixelRepresentation": 0}
SERIES = np.stack([XYZ * (0.5 + time) for time in range(3)], axis=-1).astype(np.float32)
KINDS: list[Callable[[Path], Path]] = [
    slice_of_series,
    single(**RESCALE),
    recoded_without_types,
    recoded(ExplicitVRBigEndian),
    recoded(DeflatedExplicitVRLittleEndian),
    recoded(RLELossless),
    several_frames,
    with_code(JPEGLosslessSV1, by_gdcm("JPEG"), **UNSIGNED),
    with_code(JPEG2000Lossless, by_gdcm("JPEG2000"), **UNSIGNED),
    with_code(JPEGBaseline8Bit, by_pillow(COLOURS[..., 0]), **GREY),
    with_code(JPEGBaseline8Bit, by_pillow(COLOURS), **COLOUR_TAGS, PhotometricInterpretation="YBR_FULL_422"),
    enhanced(SLOPES, FRAMES),
    mosaic(),
    ybr,
    palette(0),
    palette(20),
    single(**WHITE_IS_LOW, **UNSIGNED),
    nifti(XYZ, "case.nii"),
    nifti(XYZ),
    nifti(SERIES, "case.nii"),
    nifti(SERIES),
    other_nifti(nib.Nifti1Image, XYZ, "case.nii"),
    other_nifti(nib.Nifti1Image, XYZ, "case.nii", ">"),
    other_nifti(nib.Nifti2Image, XYZ, "case.nii.gz"),
    other_nifti(nib.Nifti1Pair, XYZ, "case.hdr"),
    other_nifti(nib.Nifti2Pair, XYZ, "case.hdr", ">"),
]
