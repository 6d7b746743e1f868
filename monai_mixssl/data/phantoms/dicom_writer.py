# SPDX-License-Identifier: Apache-2.0
"""Writes a phantom as a DICOM series: one MR or CT Image Storage file per slice, explicit little endian.

NIfTI counts millimetres to the right, the front and the head, DICOM to the left, the back and the head. A phantom's
rows are therefore stored from front to back and its columns from right to left, as in any axial scan.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from monai_mixssl.data.phantoms.volume import Phantom

__all__ = ["write_dicom_series"]

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_CT_INTERCEPT = -1024


def _uid(*parts: object) -> UID:
    """A unique identifier that depends on nothing but ``parts`` (a UUID-derived one, root 2.25)."""
    digest = hashlib.sha256("/".join(map(str, ("monai-mixssl phantoms", *parts))).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _add_acquisition(header: Dataset, protocol: str) -> None:
    """What the standard demands of an MR or a CT image besides geometry and pixels."""
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if protocol == "CT" else "OTHER"]
    if protocol == "CT":
        header.KVP, header.AcquisitionNumber = "120", 1
        header.RescaleIntercept, header.RescaleSlope, header.RescaleType = str(_CT_INTERCEPT), "1", "HU"
        return
    header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "SE", "NONE", ""
    header.MRAcquisitionType, header.EchoTrainLength = "2D", 1
    header.RepetitionTime, header.EchoTime = ("500", "12") if protocol == "T1" else ("4000", "95")


def _series_header(phantom: Phantom, patient: str, key: str) -> Dataset:
    """All that the slices of a series share."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = CTImageStorage if phantom.modality == "CT" else MRImageStorage
    header.StudyDate = header.SeriesDate = header.ContentDate = "20200101"
    header.StudyTime = header.SeriesTime = header.ContentTime = "120000"
    header.AccessionNumber = header.ReferringPhysicianName = header.PositionReferenceIndicator = ""
    header.Modality, header.Manufacturer = phantom.modality, "monai-mixssl phantoms"
    header.StudyDescription, header.SeriesDescription = "made-up head", phantom.protocol
    header.PatientName, header.PatientID = f"Phantom^{patient}", patient
    header.PatientBirthDate, header.PatientSex = "19700101", "O"
    header.PatientPosition, header.StudyID, header.SeriesNumber = "HFS", "1", 1
    header.StudyInstanceUID, header.SeriesInstanceUID = _uid(key, "study"), _uid(key, "series")
    header.FrameOfReferenceUID = _uid(key, "frame of reference")
    _add_acquisition(header, phantom.protocol)

    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    return header


def write_dicom_series(phantom: Phantom, folder: Path, *, patient: str, key: str) -> None:
    """Writes ``phantom`` to ``folder`` as 0001.dcm, 0002.dcm, … from feet to head; the same bytes each time.

    Args:
        phantom: the scan.
        folder: an existing folder.
        patient: the made-up patient's identifier; the made-up name is derived from it.
        key: text that tells this series from every other one; the UIDs are derived from it.
    """
    header = _series_header(phantom, patient, key)
    stored = phantom.array.astype(np.int32) - (_CT_INTERCEPT if phantom.modality == "CT" else 0)
    # columns from right to left, rows from front to back
    pixels = np.ascontiguousarray(stored[::-1, ::-1].transpose(2, 1, 0)).astype("<u2")
    steps = phantom.affine[:3, :3].T * _RAS_TO_LPS
    spacing = np.linalg.norm(steps, axis=1)
    directions = steps / spacing[:, None]
    corner = phantom.affine @ [phantom.array.shape[0] - 1, phantom.array.shape[1] - 1, 0, 1]

    header.Rows, header.Columns = pixels.shape[1:]
    header.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
    header.SliceThickness = header.SpacingBetweenSlices = f"{spacing[2]:.6f}"
    header.ImageOrientationPatient = [f"{v:.9f}" for v in (*-directions[0], *-directions[1])]
    for k, plane in enumerate(pixels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = header.SOPClassUID, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = _uid(key, "image", k)
        # pydicom's own would change with its version
        meta.ImplementationClassUID, meta.ImplementationVersionName = _uid("writer"), "MIXSSL_PHANTOMS"
        path = folder / f"{k + 1:04d}.dcm"
        image = FileDataset(path, header, file_meta=meta, preamble=b"\0" * 128)
        image.SOPInstanceUID, image.InstanceNumber = meta.MediaStorageSOPInstanceUID, k + 1
        image.ImagePositionPatient = [f"{v:.6f}" for v in corner[:3] * _RAS_TO_LPS + k * steps[2]]
        image.PixelData = plane.tobytes()
        image.save_as(path, enforce_file_format=True)
