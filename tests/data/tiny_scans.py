# SPDX-License-Identifier: Apache-2.0
"""Writes the small DICOM, NIfTI and PNG files that the tests of `monai_mixssl.data` read."""

from __future__ import annotations

import struct
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


def csa_header(**values: list[Any]) -> bytes:
    """Siemens' private header of an image: named lists of numbers."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(values), 77)]
    for name, content in values.items():
        kind = b"US" if isinstance(content[0], int) else b"FD"
        parts.append(struct.pack("<64si4s3i", name.encode(), len(content), kind, 0, len(content), 77))
        for value in content:
            text = str(value).encode() + b"\0"
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)))
            parts.append(text + bytes(-len(text) % 4))
    return b"".join(parts)


def write_mosaic(
    path: Path,
    volume: np.ndarray,
    *,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    start: tuple[float, ...] = (0, 0, 0),
    step: float = 3.0,
    sign: int = 1,
    private: bytes | None = None,
    **tags: Any,
) -> Path:
    """Writes (slices, rows, columns) as the tiles of one picture, as Siemens does.

    The first slice's first pixel lies at `start`, the next slices `sign` × `step` along the normal. The header places
    the picture as if its middle were the middle of a slice.
    """
    slices, rows, columns = volume.shape
    tiles = int(np.ceil(np.sqrt(slices)))
    picture = np.zeros((tiles * rows, tiles * columns))
    for number, plane in enumerate(volume):
        down, across = divmod(number, tiles)
        picture[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns] = plane
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    between_rows, between_columns = 2.0, 1.5
    middle = start + along_row * between_columns * (columns - 1) / 2 + along_column * between_rows * (rows - 1) / 2
    corner = middle - along_row * between_columns * (tiles * columns - 1) / 2
    corner = corner - along_column * between_rows * (tiles * rows - 1) / 2
    normal = sign * np.cross(along_row, along_column)
    if private is None:
        private = csa_header(NumberOfImagesInMosaic=[slices], SliceNormalVector=[float(one) for one in normal])
    write_dicom(
        path, picture, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], Manufacturer="SIEMENS",
        ImageOrientationPatient=list(orientation), ImagePositionPatient=[float(one) for one in corner],
        PixelSpacing=[between_rows, between_columns], **{"SpacingBetweenSlices": step, "SliceThickness": step, **tags},
    )  # fmt: skip
    if private:
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", private)
        dataset.save_as(path)
    return path


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
