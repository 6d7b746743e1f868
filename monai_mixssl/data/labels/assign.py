# SPDX-License-Identifier: Apache-2.0
"""Finds the label of each image that a scan found, and the labels and images that lack each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from monai_mixssl.data.dicom_header import read_dicom_header
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.labels.table import LabelRow, LabelTable
from monai_mixssl.data.records import Excluded, LeftOut, ScanImage
from monai_mixssl.data.scan import ScanResult, scan
from monai_mixssl.errors import DataError

__all__ = ["match_rows", "patient_names", "scan_labelled"]


def scan_labelled(
    table: LabelTable,
    *,
    salt: bytes,
    skip: Iterable[Path] = (),
    num_workers: int = 0,
    progress: bool = True,
    index: Path | None = None,
) -> tuple[ScanResult, dict[str, LabelRow]]:
    """Scans the images of a table, and leaves out what has no label, or no image.

    A path of the table is a file or a folder; a folder's label is that of every image in it, and the nearest of two
    decides. The patient that the table names goes before that of the DICOM header.

    Args:
        table: the labels.
        salt: secret of the ids.
        skip: folders that are not entered.
        num_workers, progress, index: see `scan`.

    Returns:
        What was found, with the patients of the table; and the row of each image, by id.

    Raises:
        DataError: none of the files exists, or a class has no image.
    """
    # os.path, as pathlib raises on names that are longer than the file system allows
    missing = [row for row in table.rows if not os.path.exists(row.path)]
    lacking = {row.path for row in missing}
    roots = [root for root in table.roots if root not in lacking and os.path.exists(root)]
    known = set(roots)
    inside = {root for root in roots if root.is_dir()}
    rest = (row.path for row in table.rows if row.path not in lacking and row.path not in known)
    roots += [path for path in rest if inside.isdisjoint(path.parents)]
    if not roots or len(missing) == len(table.rows):
        raise DataError(
            f"None of the {len(table.rows)} files that the list of labels names exists; paths count from the folder "
            "that the list lies in."
        )
    found = scan(roots, salt=salt, skip=list(skip), num_workers=num_workers, progress=progress, index=index)
    _forget(found, {str(file) for file in table.own_files})
    by_path = {str(row.path): row for row in table.rows}
    rows: dict[str, LabelRow] = {}
    images: list[ScanImage] = []
    for image in found.images:
        row, reason = _row_of(image, by_path)
        if row is None:
            found.excluded.append(Excluded(image.id, reason))
            found.excluded_files.append((image.id, image.parts[0].path))
            continue
        rows[image.id] = row
        patient = short_id(salt, "patient", row.patient) if row.patient else image.patient
        images.append(replace(image, patient=patient))
    found.images = images
    problems = [(row.path, "label without an image: there is no such file") for row in missing] + table.problems
    for number, (path, reason) in enumerate(problems):
        file_id = short_id(salt, "label", str(number), str(path))
        found.excluded.append(Excluded(file_id, reason))
        found.excluded_files.append((file_id, str(path)))
    _refuse_empty_classes(table, rows.values())
    return found, rows


def match_rows(table: LabelTable, images: Iterable[ScanImage]) -> dict[str, LabelRow]:
    """Returns the row of each image that has one, by id."""
    by_path = {str(row.path): row for row in table.rows}
    rows = ((image.id, _row_of(image, by_path)[0]) for image in images)
    return {image_id: row for image_id, row in rows if row is not None}


def patient_names(images: Iterable[ScanImage], rows: dict[str, LabelRow]) -> dict[str, set[str]]:
    """Returns what each image's patient is called, in the table and in the DICOM header; empty where neither says.

    The names are those of the hospital: they are to be hashed at once and never kept.
    """
    names: dict[str, set[str]] = {}
    for image in images:
        own = {rows[image.id].patient} if image.id in rows else set()
        if image.kind == "dicom":
            with contextlib.suppress(LeftOut):  # the file went away since: the table alone can tell
                own.add(read_dicom_header(Path(image.parts[0].path)).patient)
        names[image.id] = own - {""}
    return names


def _row_of(image: ScanImage, by_path: dict[str, LabelRow]) -> tuple[LabelRow | None, str]:
    rows = []
    for path in dict.fromkeys(part.path for part in image.parts):
        row = next((by_path[p] for p in (path, *map(str, Path(path).parents)) if p in by_path), None)
        if row is None:
            return None, "image without a label"
        rows.append(row)
    if len({(row.labels, row.mask, row.patient, row.split) for row in rows}) > 1:
        return None, "volume whose files have different labels"
    return rows[0], ""


def _forget(found: ScanResult, files: set[str]) -> None:
    kept = [(one, file) for one, file in zip(found.excluded, found.excluded_files, strict=True) if file[1] not in files]
    found.excluded = [one for one, _ in kept]
    found.excluded_files = [file for _, file in kept]


def _refuse_empty_classes(table: LabelTable, used: Iterable[LabelRow]) -> None:
    there = {label for row in used for label in row.labels}
    empty = [name for number, name in enumerate(table.classes) if number not in there]
    if table.form == "folders" and empty:
        raise DataError(f"The folder of the class {empty[0]!r} holds no usable image; fill it, or take it away.")
