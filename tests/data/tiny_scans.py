# SPDX-License-Identifier: Apache-2.0
"""Writes the small DICOM, NIfTI and PNG files that the tests of `monai_mixssl.data` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def blob(shape: tuple[int, ...], seed: int = 0, top: float = 1000.0) -> np.ndarray:
    """A noisy ball on black, different in every direction, as whole numbers."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    ball = sum(axis**2 for axis in grid) < 0.8
    noise = np.random.RandomState(seed).rand(*shape)
    ramp = sum((number + 1) * axis for number, axis in enumerate(grid))
    return np.round(ball * top * (0.5 + 0.1 * noise + 0.05 * ramp)).astype(np.int16)


def write_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Writes rows × columns (or frames × rows × columns) of int16 uncompressed; `tags` overrides any keyword."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", MR)
    meta.MediaStorageSOPInstanceUID = tags.get("SOPInstanceUID") or generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientID = "MR", "p1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    for keyword, value in tags.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    if "PixelData" not in tags:
        unsigned = dataset.PixelRepresentation == 0
        dataset.PixelData = pixels.astype("<u2" if unsigned else "<i2").tobytes()
    dataset.save_as(path)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    step: float = 3.0,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    order: list[int] | None = None,
    **tags: Any,
) -> list[Path]:
    """Writes (slices, rows, columns); file number n holds slice order[n], so that names do not give the order away."""
    normal = np.cross(orientation[:3], orientation[3:])
    files = []
    for number, index in enumerate(order or range(len(volume))):
        geometry = {
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [float(value) for value in normal * step * index],
            "PixelSpacing": [2.0, 1.5],
            "InstanceNumber": number + 1,
        }
        files.append(write_dicom(folder / f"IM{number:03d}", volume[index], **{**geometry, **tags}))
    return files


def write_enhanced(path: Path, frames: np.ndarray, positions: list[float], rescales: list[tuple[float, float]]) -> Path:
    """Writes one enhanced MR file whose frames have their own position along z and their own rescale."""
    per_frame = []
    for position, (slope, intercept) in zip(positions, rescales, strict=True):
        item = Dataset()
        for sequence, content in {
            "PlanePositionSequence": {"ImagePositionPatient": [0.0, 0.0, position]},
            "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            "PixelMeasuresSequence": {"PixelSpacing": [1.0, 1.0], "SliceThickness": 2.0},
            "PixelValueTransformationSequence": {
                "RescaleSlope": slope,
                "RescaleIntercept": intercept,
                "RescaleType": "US",
            },
        }.items():
            inner = Dataset()
            for keyword, value in content.items():
                setattr(inner, keyword, value)
            setattr(item, sequence, Sequence([inner]))
        per_frame.append(item)
    return write_dicom(
        path,
        frames,
        SOPClassUID=ENHANCED_MR,
        SharedFunctionalGroupsSequence=Sequence([Dataset()]),
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
    )


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Writes an array with an affine (default: 1 mm, RAS+)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write_png(path: Path, array: np.ndarray) -> Path:
    """Writes rows × columns (× 3) of uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path, format="PNG")
    return path


def read_pixels(path: Path) -> np.ndarray:
    """The stored values as pydicom reads them: the reference that shares nothing with SimpleITK."""
    return pydicom.dcmread(path).pixel_array
