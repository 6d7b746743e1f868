# SPDX-License-Identifier: Apache-2.0
"""Reads what is needed of a DICOM header, and refuses what is no image."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut

__all__ = ["MAX_VOXELS", "DicomFrame", "DicomHeader", "read_dicom_header"]

MAX_VOXELS = 2**30  # a header that claims more is refused before memory is taken (4 GiB in float32)

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType",
    "BurnedInAnnotation", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated",
    "PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
]  # fmt: skip
FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]

NO_IMAGE_MODALITIES = {"SR", "KO", "PR", "SEG", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "DOC", "PLAN", "AU"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds .7.1 to .7.4
# native (uncompressed) transfer syntaxes: the file cannot be shorter than its pixels
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class DicomFrame:
    """Geometry and rescale of one frame; None where the header is silent.

    Attributes:
        orientation: direction cosines of a row and of a column, 6 numbers, LPS+.
        position: centre of the first pixel in millimetres, 3 numbers, LPS+.
        pixel_spacing: distance of rows, distance of columns, in millimetres.
        thickness: slice thickness in millimetres.
        rescale: slope and intercept of an enhanced frame; classic files are rescaled by the decoder.
    """

    orientation: Numbers | None
    position: Numbers | None
    pixel_spacing: Numbers | None
    thickness: float | None
    rescale: Numbers | None = None


@dataclass(frozen=True)
class DicomHeader:
    """What the scan needs of a DICOM file.

    UIDs and the patient id are plain here; they are hashed before they leave the scan.
    """

    patient: str
    study: str
    series: str
    sop_instance: str
    modality: str
    rows: int
    columns: int
    channels: int
    instance: int
    frames: tuple[DicomFrame, ...]


@quiet_libraries()
def read_dicom_header(path: Path) -> DicomHeader:
    """Reads a header without its pixels.

    Raises:
        LeftOut: not an image, an image that is left out by rule, a damaged header or an absurd one.
    """
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(TAGS))
        _refuse_by_rule(dataset)
        _refuse_absurd(path, dataset)  # before the frames are listed: a header may claim a billion
        return _header(path, dataset)
    except LeftOut:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise LeftOut("damaged DICOM header", type(error).__name__) from None


def _refuse_by_rule(dataset: Dataset) -> None:
    sop_class = str(dataset.get("SOPClassUID", ""))
    image_type = {str(value).strip().upper() for value in (dataset.get("ImageType") or [])}
    if sop_class == "1.2.840.10008.1.3.10" or "DirectoryRecordSequence" in dataset:
        raise LeftOut("DICOM directory, no image")
    if str(dataset.get("Modality", "")) in NO_IMAGE_MODALITIES:
        raise LeftOut("DICOM object that is no image", str(dataset.Modality))
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise LeftOut("DICOM without pixels")
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        raise LeftOut("DICOM with burned-in annotation")
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(SECONDARY_CAPTURE + "."):
        raise LeftOut("DICOM secondary capture")
    if "LOCALIZER" in image_type:
        raise LeftOut("DICOM localizer")


def _header(path: Path, dataset: Dataset) -> DicomHeader:
    count = int(dataset.get("NumberOfFrames") or 1)
    common = _frame(dataset)
    frames: tuple[DicomFrame, ...] = (common,)
    if count > 1:
        frames = (common,) * count
        # parsed only where it is needed: the sequence of a long series takes far longer than all the rest
        full = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=[*TAGS, *FRAME_TAGS])
        per_frame = full.get("PerFrameFunctionalGroupsSequence") or []
        shared = (full.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        if len(per_frame) == count:
            frames = tuple(_enhanced_frame(item, shared, common) for item in per_frame)
    modality = str(dataset.get("Modality", ""))
    colour = dataset.get("SamplesPerPixel") == 3 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    return DicomHeader(
        patient=str(dataset.get("PatientID") or "").strip(),
        study=str(dataset.get("StudyInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        sop_instance=str(dataset.get("SOPInstanceUID") or ""),
        # a code of the standard is a few capitals; anything else may be free text, and is not passed on
        modality=modality if re.fullmatch(r"[A-Z]{2,4}", modality) else "",
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        channels=3 if colour else 1,
        instance=int(dataset.get("InstanceNumber") or 0),
        frames=frames,
    )


def _refuse_absurd(path: Path, dataset: Dataset) -> None:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    voxels = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.get("NumberOfFrames") or 1)
    if voxels > MAX_VOXELS:
        raise LeftOut("header claims an absurd size", f"{voxels} values")
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""))
    # YBR_FULL_422 stores two values where others store three, hence the 2 / 3
    stored = voxels * int(dataset.get("BitsAllocated") or 8) // 8 * (2 if samples == 3 else 3) // 3
    if syntax in NATIVE and os.path.getsize(path) < stored:
        raise LeftOut("truncated file")


def _frame(item: Dataset) -> DicomFrame:
    return DicomFrame(
        orientation=_numbers(item, "ImageOrientationPatient", 6),
        position=_numbers(item, "ImagePositionPatient", 3),
        pixel_spacing=_numbers(item, "PixelSpacing", 2) or _numbers(item, "ImagerPixelSpacing", 2),
        thickness=(_numbers(item, "SliceThickness", 1) or (None,))[0],
    )


def _enhanced_frame(item: Dataset, shared: Dataset, common: DicomFrame) -> DicomFrame:
    def group(sequence: str, keyword: str, length: int) -> Numbers | None:
        for holder in (item, shared):
            content = holder.get(sequence)
            if content:
                return _numbers(content[0], keyword, length)
        return None

    slope = group("PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = group("PixelValueTransformationSequence", "RescaleIntercept", 1)
    thickness = group("PixelMeasuresSequence", "SliceThickness", 1)
    return DicomFrame(
        orientation=group("PlaneOrientationSequence", "ImageOrientationPatient", 6) or common.orientation,
        position=group("PlanePositionSequence", "ImagePositionPatient", 3) or common.position,
        pixel_spacing=group("PixelMeasuresSequence", "PixelSpacing", 2) or common.pixel_spacing,
        thickness=thickness[0] if thickness else common.thickness,
        rescale=(slope[0], intercept[0]) if slope and slope[0] and intercept else None,
    )


def _numbers(item: Dataset, keyword: str, length: int) -> Numbers | None:
    value: Any = item.get(keyword)
    if value is None or value == "":
        return None
    values = [float(number) for number in (value if length > 1 else [value])]
    usable = len(values) == length and all(abs(number) < 1e7 for number in values)  # False for NaN too
    if usable and keyword.endswith("Spacing"):
        usable = min(values) > 0
    return tuple(values) if usable else None
