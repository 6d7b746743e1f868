# SPDX-License-Identifier: Apache-2.0
"""Reads what is needed of a DICOM header, and refuses what is no image."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.dicom_mosaic import read_mosaic
from monai_mixssl.data.dicom_rescale import (
    BY_FUNCTIONAL_GROUP,
    RESCALE_TAGS,
    Rescale,
    decoder_rescale,
    frame_rescale,
    rescale_notes,
    root_rescale,
)
from monai_mixssl.data.dicom_rules import RULE_TAGS, refuse_by_rule
from monai_mixssl.data.dicom_structure import examine_structure
from monai_mixssl.data.dicom_tags import DEFLATED, DicomTags
from monai_mixssl.data.dicom_traits import NO_TRAITS, TRAIT_TAGS, Traits, file_traits, frame_traits
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut

__all__ = ["MAX_VOXELS", "DicomFrame", "DicomHeader", "read_dicom_header"]

MAX_VOXELS = 2**30  # a header that claims more is refused before memory is taken (4 GiB in float32)

TAGS: tuple[str | int, ...] = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType",
    "BurnedInAnnotation", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated",
    "PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
    *RESCALE_TAGS, *RULE_TAGS, *TRAIT_TAGS, "DirectoryRecordSequence",
)  # fmt: skip
FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]

# native (uncompressed) transfer syntaxes, and none stated: the file cannot be shorter than its pixels
NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
# values that a byte of a compressed file may stand for, if there are more than `FEW`: what is smaller shows nothing
MOST_PER_BYTE, FEW = 1032, 2**25
FRAGMENT = 8  # bytes of a fragment of compressed pixels, at least

SMALLEST = 1e-4  # millimetres between pixels: no scanner that this package is for has smaller ones
UNIT = 0.05  # direction cosines of a plane may be off by so much from unit length and from a right angle

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class DicomFrame:
    """Geometry and rescale of one frame; None where the header is silent.

    Attributes:
        orientation: direction cosines of a row and of a column, 6 numbers, LPS+.
        position: centre of the first pixel in millimetres, 3 numbers, LPS+.
        pixel_spacing: distance of rows, distance of columns, in millimetres.
        thickness: slice thickness in millimetres.
        rescale: slope and intercept that the frame needs.
        traits: what tells it apart from others at its position.
    """

    orientation: Numbers | None
    position: Numbers | None
    pixel_spacing: Numbers | None
    thickness: float | None
    rescale: Rescale = (1.0, 0.0)
    traits: Traits = NO_TRAITS


@dataclass(frozen=True)
class DicomHeader:
    """What the scan needs of a DICOM file.

    UIDs and the patient id are plain here; they are hashed before they leave the scan.

    Attributes:
        rows, columns: size of a slice, which is a tile where the file is a mosaic.
        frames: the slices of the file in the order in which they are stored.
        decoder_rescale: slope and intercept that the decoder applies to all frames.
        tiles: tiles along each side of a Siemens mosaic, 0 for any other file.
        notes: what is unusual about the pixels.
        identifying: keywords of the identifying tags that are filled.
        private_tags: number of private elements.
        tie: 16 bits of the SOP instance, to put in order what nothing else does. Too few to tell who it is.
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
    decoder_rescale: Rescale = (1.0, 0.0)
    tiles: int = 0
    notes: tuple[str, ...] = ()
    identifying: tuple[str, ...] = ()
    private_tags: int = 0
    tie: int = 0


@quiet_libraries()
def read_dicom_header(path: str | Path, file: BinaryIO | None = None, keep: Collection[str] = ()) -> DicomHeader:
    """Reads a header without its pixels.

    Args:
        path: the file.
        file: the same, if it is open already, at its beginning.
        keep: which of `dicom_rules.KEEPABLE` are taken all the same.

    Raises:
        LeftOut: not an image, an image that is left out by rule, a damaged header or an absurd one.
    """
    try:
        if file is None:
            with BoundedFile(path) as opened:
                tags = DicomTags(opened, TAGS)
        else:
            tags = DicomTags(file, TAGS)
        if tags.truncated and not tags.pixels:
            raise LeftOut("truncated file")
        if tags.pixels and not (tags.get("Rows") and tags.get("Columns")):
            raise LeftOut("damaged DICOM header", "no rows or columns")
        refuse_by_rule(tags, keep)
        _refuse_absurd(path, tags)  # before the frames are listed: a header may claim a billion
        if not tags.pixels:
            raise LeftOut("DICOM without pixels")
        return _header(path, tags)
    except LeftOut:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise LeftOut("damaged DICOM header", type(error).__name__) from None


def _header(path: str | Path, dataset: DicomTags) -> DicomHeader:
    count = int(dataset.get("NumberOfFrames") or 1)
    modality = str(dataset.get("Modality", ""))
    # a code of the standard is a few capitals; anything else may be free text, and is not passed on
    modality = modality if re.fullmatch(r"[A-Z]{2,4}", modality) else ""
    applied = root = root_rescale(dataset)
    common = _frame(dataset, root, file_traits(dataset))
    frames: tuple[DicomFrame, ...] = (common,) * count
    rows, columns, tiles = int(dataset.get("Rows")), int(dataset.get("Columns")), 0
    notes: tuple[str, ...] = ()
    in_groups = False
    if count > 1 or str(dataset.get("SOPClassUID", "")) in BY_FUNCTIONAL_GROUP:
        # parsed only where it is needed: the sequence of a long series takes far longer than all the rest
        with BoundedFile(path) as opened:
            full = pydicom.dcmread(opened, force=True, stop_before_pixels=True, specific_tags=FRAME_TAGS)
        per_frame = full.get("PerFrameFunctionalGroupsSequence") or []
        shared = (full.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        first = per_frame[0] if per_frame else Dataset()
        applied = decoder_rescale(str(dataset.get("SOPClassUID", "")), first, shared, root)
        if len(per_frame) == count:
            frames = tuple(_enhanced_frame(item, shared, common) for item in per_frame)
            in_groups = any("PixelValueTransformationSequence" in item for item in (shared, *per_frame))
    elif "MOSAIC" in {text.upper() for text in dataset.texts("ImageType")}:
        with BoundedFile(path) as opened:
            mosaic = read_mosaic(pydicom.dcmread(opened, force=True, stop_before_pixels=True))
        frames = tuple(replace(common, position=position) for position in mosaic.positions)
        rows, columns, tiles, notes = mosaic.rows, mosaic.columns, mosaic.tiles, mosaic.notes
    if dataset.get("ImageOrientationPatient") and common.orientation is None:
        notes += ("orientation that makes no sense, not used",)
    kind = str(dataset.get("PhotometricInterpretation") or "")
    if kind == "MONOCHROME1":
        notes += ("MONOCHROME1, inverted",)
    return DicomHeader(
        patient=str(dataset.get("PatientID") or "").strip(),
        study=str(dataset.get("StudyInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        sop_instance=str(dataset.get("SOPInstanceUID") or ""),
        modality=modality,
        rows=rows,
        columns=columns,
        channels=3 if dataset.get("SamplesPerPixel") == 3 or kind == "PALETTE COLOR" else 1,
        instance=int(dataset.get("InstanceNumber") or 0),
        frames=frames,
        decoder_rescale=applied,
        tiles=tiles,
        notes=(*notes, *rescale_notes(dataset, modality, in_groups)),
        identifying=dataset.identifying(),
        private_tags=dataset.private,
        tie=zlib.crc32(str(dataset.get("SOPInstanceUID", "")).encode()) & 0xFFFF,
    )


def _refuse_absurd(path: str | Path, dataset: DicomTags) -> None:
    samples, frames = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("NumberOfFrames") or 1)
    rows, columns = int(dataset.get("Rows")), int(dataset.get("Columns"))
    if min(rows, columns, samples, frames) < 1:
        raise LeftOut("damaged DICOM header", "a size below 1")
    voxels = rows * columns * samples * frames
    size = os.path.getsize(path) if dataset.unpacked is None else dataset.unpacked
    native = dataset.syntax in NATIVE or dataset.unpacked is not None
    if voxels > MAX_VOXELS or (not native and voxels > max(FEW, MOST_PER_BYTE * size)):
        raise LeftOut("header claims an absurd size", f"{voxels} values")
    # YBR_FULL_422 stores two values where others store three, hence the 2 / 3
    stored = voxels * int(dataset.get("BitsAllocated") or 8) // 8 * (2 if samples == 3 else 3) // 3
    if native and size < stored:
        raise LeftOut("truncated file")
    if frames > 1 and not native and dataset.syntax != DEFLATED:
        # no fragment holds two frames
        most = size // FRAGMENT
        if frames > most or frames > (examine_structure(path).fragments or most):
            raise LeftOut("fewer frames than the header says")


def _frame(item: DicomTags, rescale: Rescale, traits: Traits) -> DicomFrame:
    return DicomFrame(
        orientation=_numbers(item, "ImageOrientationPatient", 6),
        position=_numbers(item, "ImagePositionPatient", 3),
        pixel_spacing=_numbers(item, "PixelSpacing", 2) or _numbers(item, "ImagerPixelSpacing", 2),
        thickness=(_numbers(item, "SliceThickness", 1) or (None,))[0],
        rescale=rescale,
        traits=traits,
    )


def _enhanced_frame(item: Dataset, shared: Dataset, common: DicomFrame) -> DicomFrame:
    def group(sequence: str, keyword: str, length: int) -> Numbers | None:
        for holder in (item, shared):
            content = holder.get(sequence)
            if content:
                return _numbers(content[0], keyword, length)
        return None

    thickness = group("PixelMeasuresSequence", "SliceThickness", 1)
    return DicomFrame(
        orientation=group("PlaneOrientationSequence", "ImageOrientationPatient", 6) or common.orientation,
        position=group("PlanePositionSequence", "ImagePositionPatient", 3) or common.position,
        pixel_spacing=group("PixelMeasuresSequence", "PixelSpacing", 2) or common.pixel_spacing,
        thickness=thickness[0] if thickness else common.thickness,
        rescale=frame_rescale(item, shared, common.rescale),
        traits=frame_traits(item, shared, common.traits),
    )


def _numbers(item: Dataset | DicomTags, keyword: str, length: int) -> Numbers | None:
    value: Any = item.get(keyword)
    if value is None or value == "":
        return None
    values = [float(number) for number in (value if length > 1 else [value])]
    usable = len(values) == length and all(abs(number) < 1e7 for number in values)  # False for NaN too
    if usable and keyword.endswith("Spacing"):
        usable = min(values) > SMALLEST
    if usable and keyword == "ImageOrientationPatient":
        across, down = values[:3], values[3:]
        lengths = [sum(one * one for one in side) for side in (across, down)]
        right = sum(a * b for a, b in zip(across, down, strict=True))
        usable = all(abs(length - 1) < 2 * UNIT for length in lengths) and abs(right) < UNIT
    return tuple(values) if usable else None
