# SPDX-License-Identifier: Apache-2.0
"""Looks at every file once and says what it is: an image, a slice of a volume, or something that is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from monai_mixssl.data.dicom_header import DicomHeader, read_dicom_header
from monai_mixssl.data.dicom_series import DicomVolume, group_volumes
from monai_mixssl.data.find import DatasetDir, FoundFile, find_files
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.nifti_file import NiftiHeader, read_nifti_header
from monai_mixssl.data.picture_file import read_picture_size
from monai_mixssl.data.records import Excluded, LeftOut, Part, ScanImage

__all__ = ["ScanResult", "file_kind", "scan"]

CHUNK = 256  # files per task of a worker: sending tasks one by one would cost more than the headers
NIFTI_ENDINGS = (".nii", ".nii.gz")


@dataclass
class ScanResult:
    """What a scan found.

    Attributes:
        images: in the order of their files' keys, which does not depend on the salt or the file system.
        excluded: what is left out, each with its reason.
        excluded_files: (id, path) of those. Private.
    """

    images: list[ScanImage] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    excluded_files: list[tuple[str, str]] = field(default_factory=list, repr=False)


def file_kind(path: Path) -> str:
    """Returns "dicom", "nifti" or "image", by content first: many DICOM files have no ending, or a wrong one.

    Raises:
        LeftOut: the file is empty, cannot be opened, or is something else.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(352)
    except PermissionError:
        raise LeftOut("no permission to read it") from None
    except OSError:
        raise LeftOut("the file system cannot open it") from None
    if not head:
        raise LeftOut("empty file")
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "image"
    if path.name.lower().endswith(NIFTI_ENDINGS) or head[344:347] in (b"n+1", b"n+2"):
        return "nifti"
    # DICOM of before 1993 has no preamble: it starts with the length of group 8 (or 2), or that group's first element
    if head[:2] in (b"\x08\x00", b"\x02\x00") and head[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00"):
        return "dicom"
    raise LeftOut("not a DICOM, NIfTI, PNG or JPEG file")


def scan(
    dataset_dir: DatasetDir,
    *,
    salt: bytes,
    skip: Collection[Path] = (),
    num_workers: int = 0,
    progress: bool = True,
) -> ScanResult:
    """Finds every image and volume of `dataset_dir`; reads headers only.

    Args:
        dataset_dir: a folder, several (a list, or separated by commas), or a MONAI datalist JSON.
        salt: secret of the ids, see `identity`.
        skip: folders that are not entered.
        num_workers: processes that read headers, for more than a few hundred files.
        progress: show a progress bar on stderr.

    Raises:
        DataError: `dataset_dir` does not exist, or its datalist cannot be used.
    """
    found = find_files(dataset_dir, skip)
    result = ScanResult()

    def leave_out(key: str, path: str, reason: str, detail: str = "") -> None:
        result.excluded.append(Excluded(short_id(salt, "file", key), reason, detail))
        result.excluded_files.append((result.excluded[-1].id, path))

    for key, problem_path, reason in found.problems:
        leave_out(key, str(problem_path), reason)
    dicom: list[tuple[str, str, DicomHeader]] = []
    images: list[tuple[str, ScanImage]] = []
    first_of: set[str] = set()  # SOP instances
    for file, header in tqdm(
        _read_headers(found.files, num_workers), "scanning", len(found.files), disable=not progress, unit="file"
    ):
        if isinstance(header, LeftOut):
            leave_out(file.key, str(file.path), header.reason, header.detail)
        elif isinstance(header, DicomHeader):
            if header.sop_instance and header.sop_instance in first_of:
                leave_out(file.key, str(file.path), "duplicate of another DICOM file")
            else:
                first_of.add(header.sop_instance)
                dicom.append((file.key, str(file.path), header))
        else:
            images.extend((file.key, image) for image in _images_of_file(file, header, salt))
    for volume in group_volumes(dicom):
        images.append((min(volume.keys), _image_of_volume(volume, salt)))
    result.images = [image for _, image in sorted(images, key=lambda pair: pair[0])]
    return result


class _Headers(Dataset):
    def __init__(self, files: list[FoundFile]) -> None:
        self.files = files

    def __len__(self) -> int:
        return -(-len(self.files) // CHUNK)

    def __getitem__(self, index: int) -> list[tuple[FoundFile, Any]]:
        return [(file, _header_of(file.path)) for file in self.files[index * CHUNK : (index + 1) * CHUNK]]


def _header_of(path: Path) -> Any:
    try:
        kind = file_kind(path)
        if kind == "dicom":
            return read_dicom_header(path)
        return read_nifti_header(path) if kind == "nifti" else read_picture_size(path)
    except LeftOut as reason:
        return reason


def _first(batch: list[Any]) -> Any:
    return batch[0]


def _read_headers(files: list[FoundFile], num_workers: int) -> Iterator[tuple[FoundFile, Any]]:
    if len(files) <= 2 * CHUNK or num_workers == 0:
        for file in files:
            yield file, _header_of(file.path)
        return
    # a generator of its own: the loader would otherwise draw its workers' seeds from torch's global one
    loader = DataLoader(
        _Headers(files), batch_size=1, collate_fn=_first, num_workers=num_workers, generator=torch.Generator()
    )
    for chunk in loader:
        yield from chunk


def _images_of_file(file: FoundFile, header: Any, salt: bytes) -> Iterable[ScanImage]:
    series = short_id(salt, "file", file.key)
    if not isinstance(header, NiftiHeader):
        shape, channels = header
        yield ScanImage(series, "", series, "image", "", shape, None, None, channels, (Part(str(file.path)),))
        return
    for number in range(header.volumes):
        yield ScanImage(
            id=series if header.volumes == 1 else short_id(salt, "volume", file.key, str(number)),
            patient="",
            series=series,
            kind="nifti",
            modality="",
            shape=header.shape,
            spacing=header.spacing,
            affine=None,
            channels=header.channels,
            parts=(Part(str(file.path), number),),
        )


def _image_of_volume(volume: DicomVolume, salt: bytes) -> ScanImage:
    header = volume.header
    uids = (header.study, header.series) if header.series else (min(volume.keys),)
    first = volume.parts[0]
    own = "" if volume.affine is not None else min(volume.keys)  # files without positions are an image each
    orientation = "" if volume.affine is None else str([round(number) for number in header.frames[0].orientation or ()])
    return ScanImage(
        id=short_id(
            salt, "dicom", *uids, own, orientation, str(volume.shape[:2]), str(volume.occurrence), min(volume.keys)
        ),
        patient=short_id(salt, "patient", header.patient) if header.patient else "",
        series=short_id(salt, "series", *uids),
        kind="dicom",
        modality=header.modality,
        shape=volume.shape,
        spacing=volume.spacing,
        affine=volume.affine,
        channels=header.channels,
        parts=volume.parts if len(volume.parts) > 1 else (first,),
        notes=volume.notes,
    )
