# SPDX-License-Identifier: Apache-2.0
"""Looks at every file once and says what it is: an image, a slice of a volume, or something that is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from monai_mixssl.data.dicom_copies import without_copies
from monai_mixssl.data.dicom_header import DicomHeader
from monai_mixssl.data.dicom_rules import check_keep
from monai_mixssl.data.dicom_series import DicomVolume, group_volumes
from monai_mixssl.data.file_header import PASSING, FileHeader, PlainHeader, file_kind, read_header
from monai_mixssl.data.find import DatasetDir, Found, FoundFile, find_files
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.index import ScanIndex
from monai_mixssl.data.pause_gc import pause_gc
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import Excluded, LeftOut, Part, ScanImage

__all__ = ["ScanResult", "file_kind", "scan"]

COUNTS = ("dicom_files", "identifying", "with_private_tags")
PLAIN_PART = Part("")[1:]
CHUNK = 256  # files per task of a worker: sending tasks one by one would cost more than the headers


@dataclass
class ScanResult:
    """What a scan found.

    Attributes:
        images: in the order of their files' keys, which does not depend on the salt or the file system.
        excluded: what is left out, each with its reason.
        excluded_files: (id, path) of those. Private.
        dicom_files: number of DICOM files that show images.
        identifying: in how many of them each identifying tag is filled, by keyword.
        with_private_tags: in how many of them there are private tags.
        opened: number of files that were opened: 0 where an index knew all of them.
    """

    images: list[ScanImage] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    excluded_files: list[tuple[str, str]] = field(default_factory=list, repr=False)
    dicom_files: int = 0
    identifying: dict[str, int] = field(default_factory=dict)
    with_private_tags: int = 0
    opened: int = 0


def scan(
    dataset_dir: DatasetDir,
    *,
    salt: bytes,
    skip: Collection[Path] = (),
    num_workers: int = 0,
    progress: bool = True,
    index: Path | None = None,
    keep: Collection[str] = (),
) -> ScanResult:
    """Finds every image and volume of `dataset_dir`; reads headers only.

    Args:
        dataset_dir: a folder, several (a list, or separated by commas), or a MONAI datalist JSON.
        salt: secret of the ids, see `identity`.
        skip: folders that are not entered.
        num_workers: processes that read headers, for more than a few hundred files.
        progress: show a progress bar on stderr.
        index: folder that keeps what was seen, below `private/`: files that have not changed since are not opened
            again. None: nothing is kept.
        keep: DICOM images that are left out by rule and are to be taken all the same: "secondary_capture",
            "screenshot", "localizer", "burned_in".

    Raises:
        ConfigError: `keep` holds another word.
        DataError: `dataset_dir` does not exist, or its datalist cannot be used.
        RunFolderError: the index cannot be written.
    """
    kept_rules = check_keep(keep)
    found = find_files(dataset_dir, skip)
    kept = None if index is None else ScanIndex(index, salt, kept_rules)
    if kept is not None and (before := _restored(kept.result(found), found)) is not None:
        return before
    headers = {} if kept is None else kept.headers(found)
    new = [file for file in found.files if file.key not in headers]
    bar = tqdm(desc="scanning", total=len(found.files), initial=len(headers), disable=not progress, unit="file")
    try:
        for files, chunk in _read_headers(_Headers(new, salt, kept_rules), num_workers):
            headers.update(zip((file.key for file in files), chunk, strict=True))
            bar.update(len(files))
    finally:
        bar.close()
        if kept is not None and new:  # also of a scan that was interrupted
            kept.save_headers(found, headers)
    result = _assemble(found, headers, salt)
    result.opened = len(new)
    if kept is not None:
        _keep(kept, found, headers, result)
    return result


@pause_gc()
def _assemble(found: Found, headers: Mapping[str, FileHeader], salt: bytes) -> ScanResult:
    result = ScanResult()

    def leave_out(key: str, path: str, reason: str, detail: str = "") -> None:
        result.excluded.append(Excluded(short_id(salt, "file", key), reason, detail))
        result.excluded_files.append((result.excluded[-1].id, path))

    for key, path, reason in found.problems:
        leave_out(key, path, reason)
    dicom: list[tuple[str, str, DicomHeader]] = []
    images: list[tuple[str, ScanImage]] = []
    identifying: Counter[str] = Counter()
    used = _voxel_files(found.files, headers)
    for file in found.files:
        header = headers[file.key]
        if isinstance(header, LeftOut):
            if not used or os.path.normpath(file.path) not in used:
                leave_out(file.key, file.path, header.reason, header.detail)
        elif isinstance(header, PlainHeader):
            images.extend((file.key, image) for image in _images_of_file(file, header, salt))
        else:
            result.dicom_files += 1
            result.with_private_tags += header.private_tags > 0
            identifying.update(header.identifying)
            dicom.append((file.key, file.path, header))
    dicom, copies = without_copies(dicom)
    for key, path in copies:
        leave_out(key, path, "duplicate of another DICOM file")
    for volume in group_volumes(dicom):
        images.append((min(volume.keys), _image_of_volume(volume, salt)))
    result.images = [image for _, image in sorted(images, key=lambda pair: pair[0])]
    result.identifying = dict(identifying)
    return result


def _voxel_files(files: Iterable[FoundFile], headers: Mapping[str, FileHeader]) -> set[str]:
    """Paths of files that look like nothing, but hold the voxels of a header that lies apart."""
    used = set()
    for file in files:
        header = headers[file.key]
        if isinstance(header, PlainHeader):
            for name in header.voxel_files:
                used.add(os.path.normpath(os.path.join(os.path.dirname(file.path), name)))
    return used


class _Headers(Dataset[Any]):
    def __init__(self, files: list[FoundFile], salt: bytes, keep: Collection[str]) -> None:
        self.files, self.salt, self.keep = files, salt, keep

    def __len__(self) -> int:
        return -(-len(self.files) // CHUNK)

    @quiet_libraries()  # once a chunk: it takes a while
    def __getitem__(self, index: int) -> list[FileHeader]:
        return [read_header(file.path, self.salt, self.keep) for file in self.chunk(index)]

    def chunk(self, index: int) -> list[FoundFile]:
        return self.files[index * CHUNK : (index + 1) * CHUNK]


def _first(batch: list[Any]) -> Any:
    return batch[0]


def _read_headers(work: _Headers, num_workers: int) -> Iterator[tuple[list[FoundFile], list[FileHeader]]]:
    chunks: Iterable[list[FileHeader]] = (work[number] for number in range(len(work)))
    if len(work) > 2 and num_workers > 0:
        # a generator of its own: the loader would otherwise draw its workers' seeds from torch's global one
        chunks = DataLoader(work, batch_size=1, collate_fn=_first, num_workers=num_workers, generator=torch.Generator())
    for number, headers in enumerate(chunks):
        yield work.chunk(number), headers


def _images_of_file(file: FoundFile, header: PlainHeader, salt: bytes) -> Iterable[ScanImage]:
    series = short_id(salt, "file", file.key)
    for number in range(header.volumes):
        yield ScanImage(
            id=series if header.volumes == 1 else short_id(salt, "volume", file.key, str(number)),
            patient="",
            series=series,
            kind=header.kind,
            modality=header.modality,
            shape=header.shape,
            spacing=header.spacing,
            affine=None,
            channels=header.channels,
            parts=(Part(file.path, number),),
            notes=header.notes,
        )


def _image_of_volume(volume: DicomVolume, salt: bytes) -> ScanImage:
    header, first = volume.header, volume.parts[0]
    # nothing about names or order of the files, except where a file has no identity of its own
    instance = header.sop_instance or volume.keys[0]
    return ScanImage(
        id=short_id(salt, "dicom", header.series, instance, str(first.number), str(volume.affine is None)),
        patient=header.patient,
        series=header.series or short_id(salt, "series", min(volume.keys)),
        kind="dicom",
        modality=header.modality,
        shape=volume.shape,
        spacing=volume.spacing,
        affine=volume.affine,
        channels=header.channels,
        parts=volume.parts,
        notes=volume.notes,
        positions=volume.positions,
    )


def _keep(kept: ScanIndex, found: Found, headers: Mapping[str, FileHeader], result: ScanResult) -> None:
    """Saves the result, with files by their number: paths are known from finding them."""
    if any(isinstance(header, LeftOut) and header.reason in PASSING for header in headers.values()):
        kept.forget_result()
        return
    paths = [file.path for file in found.files] + [path for _, path, _ in found.problems]
    numbers = {path: number for number, path in enumerate(paths)}
    images = []
    for image in result.images:
        values = {one.name: getattr(image, one.name) for one in fields(image) if one.name != "parts"}
        plain = all(part[1:] == PLAIN_PART for part in image.parts)
        parts = [numbers[part.path] if plain else [numbers[part.path], *part[1:]] for part in image.parts]
        images.append([values, parts])
    excluded = [
        [*asdict(one).values(), numbers[path]]
        for one, (_, path) in zip(result.excluded, result.excluded_files, strict=True)
    ]
    counts = {name: getattr(result, name) for name in COUNTS}
    kept.save_result(found, {"images": images, "excluded": excluded, **counts})


@pause_gc()
def _restored(saved: Any, found: Found) -> ScanResult | None:
    if saved is None:
        return None
    paths = [file.path for file in found.files] + [path for _, path, _ in found.problems]
    result = ScanResult(**{name: saved[name] for name in COUNTS})
    for values, numbers in saved["images"]:
        parts = [[paths[one]] if isinstance(one, int) else [paths[one[0]], *one[1:]] for one in numbers]
        result.images.append(ScanImage.from_dict({**values, "parts": parts}))
    for file_id, reason, detail, number in saved["excluded"]:
        result.excluded.append(Excluded(file_id, reason, detail))
        result.excluded_files.append((file_id, paths[number]))
    return result
