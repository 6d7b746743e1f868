# SPDX-License-Identifier: Apache-2.0
"""Says what a file is, by its content, and reads of its header what the scan needs; no name or UID in plain text."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.dicom_header import DicomFrame, DicomHeader, read_dicom_header
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.itk_file import VOXELS_MISSING, VOXELS_SHORT, is_itk, read_itk_header
from monai_mixssl.data.nifti_file import GZIP, begins_nifti, read_nifti_header, unpacked_head
from monai_mixssl.data.picture_file import read_picture_size
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut

__all__ = ["PASSING", "FileHeader", "PlainHeader", "file_kind", "read_header", "sealed"]

NIFTI_ENDINGS = (".nii", ".nii.gz")
NIFTI_SIZES = tuple(struct.pack(f"{order}i", size) for order in "<>" for size in (348, 540))  # how its headers begin
# names that say that this is a file for us; others may be anything
ENDINGS = (*NIFTI_ENDINGS, ".dcm", ".dicom", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg")
APPLE_DOUBLE = b"\0\5\x16\7"  # `._scan.dcm` beside each `scan.dcm` of an archive: nothing is broken
HEAD = 352  # bytes that tell the kind
# what may be otherwise next time though the file has not changed
PASSING = {"no permission to read it", "the file system cannot open it", VOXELS_MISSING, VOXELS_SHORT}


class PlainHeader(NamedTuple):
    """What the scan needs of a file other than DICOM.

    Attributes:
        kind: "nifti", "itk" or "image".
        shape: spatial shape.
        spacing: millimetres along each of `shape`, None where the file states none.
        channels: values per voxel that belong together.
        volumes: in the file.
        modality: "" where unknown.
        voxel_files: other files that hold the voxels, seen from the folder of this one. Private.
        notes: what is unusual.
    """

    kind: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    channels: int
    volumes: int = 1
    modality: str = ""
    voxel_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


FileHeader = DicomHeader | PlainHeader | LeftOut
"""Of a file that is left out, the reason."""


def file_kind(path: str) -> str:
    """Returns "dicom", "nifti", "itk" or "image", by content first: many DICOM files have no ending, or a wrong one.

    Raises:
        LeftOut: the file is empty, cannot be opened, or is something else.
    """
    with _opened(path) as file:
        return _kind(file, path)


@quiet_libraries()
def read_header(path: str, salt: bytes, keep: Collection[str] = ()) -> FileHeader:
    """Reads what the scan needs of a file; UIDs and the patient's id are hashed.

    Args:
        path: the file.
        salt: secret of the ids.
        keep: which of `dicom_rules.KEEPABLE` are taken all the same.
    """
    try:
        with _opened(path) as file:
            kind = _kind(file, path)
            if kind == "dicom":
                file.seek(0)
                return sealed(read_dicom_header(path, file, keep), salt)
        if kind == "nifti":
            nifti = read_nifti_header(Path(path))
            one = nifti.shape, nifti.spacing, nifti.channels, nifti.volumes
            return PlainHeader(kind, *one, voxel_files=nifti.voxel_files, notes=nifti.notes)
        if kind == "itk":
            itk = read_itk_header(path)
            return PlainHeader(kind, *itk)
        shape, channels = read_picture_size(Path(path))
        return PlainHeader(kind, shape, None, channels)
    except LeftOut as left_out:
        return LeftOut(left_out.reason, left_out.detail)  # without the trace, which holds on to the whole header
    except OSError:  # the disk fails while the file is read: of this file, and perhaps for the moment
        return LeftOut("the file system cannot open it")


def sealed(header: DicomHeader, salt: bytes) -> DicomHeader:
    """Replaces the patient's id, the UIDs and the kind of image (codes, but who knows) by hashes.

    Those of patient and series are the ones that stand in manifests.
    """
    uids = (header.study, header.series)
    return replace(
        header,
        patient=short_id(salt, "patient", header.patient) if header.patient else "",
        study="",
        series=short_id(salt, "series", *uids) if header.series else "",
        # a longer one: millions of files may be compared
        sop_instance=short_id(salt, "instance", header.sop_instance, length=24) if header.sop_instance else "",
        frames=tuple(_sealed_frame(frame, salt) for frame in header.frames),
    )


def _sealed_frame(frame: DicomFrame, salt: bytes) -> DicomFrame:
    if frame.traits.kind is None:
        return frame
    return replace(frame, traits=frame.traits._replace(kind=short_id(salt, "kind", frame.traits.kind)))


def _opened(path: str) -> BinaryIO:
    try:
        return BoundedFile(path)
    except PermissionError:
        raise LeftOut("no permission to read it") from None
    except (OSError, ValueError):
        raise LeftOut("the file system cannot open it") from None


def _kind(file: BinaryIO, path: str) -> str:
    head = file.read(HEAD)
    if not head:
        raise LeftOut("empty file")
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "image"
    packed = head.startswith(GZIP)
    unpacked = unpacked_head(file, HEAD) if packed else head
    if unpacked is not None and begins_nifti(unpacked):
        return "nifti"
    name = path.lower()
    if is_itk(head) or (name.endswith((".mha", ".mhd")) and b"=" in head.split(b"\n")[0]):
        return "itk"
    # DICOM of before 1993 has no preamble: it starts with the length of group 8 (or 2), or that group's first element
    if head[:2] in (b"\x08\x00", b"\x02\x00") and head[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00"):
        return "dicom"
    if name.endswith(NIFTI_ENDINGS) and (unpacked is None or unpacked.startswith(NIFTI_SIZES)):
        raise LeftOut("damaged NIfTI header")
    if head.startswith(APPLE_DOUBLE):
        raise LeftOut("what macOS knows about another file")
    if name.endswith(ENDINGS):
        raise LeftOut("damaged: content is not what the name says")
    raise LeftOut("not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file")
