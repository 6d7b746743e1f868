# SPDX-License-Identifier: Apache-2.0
"""Turns DICOM headers into volumes: where their slices are, in order, and where they lie in the patient."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monai_mixssl.data.dicom_groups import Slice, Stack, stacks_of_series
from monai_mixssl.data.dicom_header import DicomHeader
from monai_mixssl.data.dicom_rescale import correction
from monai_mixssl.data.records import Part
from monai_mixssl.data.slice_stack import irregularities

__all__ = ["DicomVolume", "group_volumes"]

BY_ORDER = "several slices at one position, told apart by their order alone"
BY_FOLDER = "no series UID, grouped by folder"


@dataclass(frozen=True)
class DicomVolume:
    """Slices of one volume in order.

    Attributes:
        header: header of the first slice's file.
        parts: where the slices are.
        keys: key of each slice's file.
        occurrence: 0 for the first volume of a series and size, 1 for the second …
        shape: (columns, rows, slices), or (columns, rows) without geometry.
        affine: 4×4 voxel-to-world matrix, RAS+ millimetres; None without geometry.
        spacing: millimetres along each axis of `shape`; None where unknown.
        notes: what is unusual.
        positions: of each slice's first pixel, RAS+ millimetres, where `affine` does not say it; else empty.
    """

    header: DicomHeader
    parts: tuple[Part, ...]
    keys: tuple[str, ...]
    occurrence: int
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...] | None
    spacing: tuple[float, ...] | None
    notes: tuple[str, ...]
    positions: tuple[tuple[float, ...], ...] = ()


def group_volumes(headers: Iterable[tuple[str, str, DicomHeader]]) -> list[DicomVolume]:
    """Turns headers into volumes, in the order of their first file's key.

    Args:
        headers: (key, path, header) of every file, no SOP instance twice.
    """
    groups: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    volumes = []
    for key, path, header in headers:
        loose = []
        for number, frame in enumerate(header.frames):
            part = Part(path, number, *correction(frame.rescale, header.decoder_rescale), header.tiles)
            piece = Slice(key, part, header, frame)
            if frame.orientation is None or frame.position is None:
                loose.append(piece)
            else:
                series = header.series or os.path.dirname(key)
                size = (header.rows, header.columns, header.channels)
                groups[header.patient, header.study, bool(header.series), series, *size].append(piece)
        if loose:
            volumes.append(_without_geometry(loose))
    for slices in groups.values():
        stacks = stacks_of_series(slices)
        volumes.extend(_with_geometry(stack, number) for number, stack in enumerate(stacks))
    return sorted(volumes, key=lambda volume: (min(volume.keys), volume.occurrence))


def _with_geometry(found: Stack, occurrence: int) -> DicomVolume:
    stack, normal = found.slices, found.normal
    first, last = stack[0].frame, stack[-1].frame
    notes = _common_notes(stack)
    if found.by_order:
        notes.append(BY_ORDER)
    if not stack[0].header.series and len(stack) > 1:
        notes.append(BY_FOLDER)
    if first.pixel_spacing is None:
        notes.append("no pixel spacing, taken as 1 mm")
    between_rows, between_columns = first.pixel_spacing or (1.0, 1.0)
    orientation = np.asarray(first.orientation, dtype=float)
    places = np.asarray([one.frame.position for one in stack], dtype=float)
    odd: tuple[str, ...] = ()
    if len(stack) > 1:
        step = (np.asarray(last.position) - np.asarray(first.position)) / (len(stack) - 1)
        odd = irregularities(places, normal, [one.frame.thickness for one in stack])
        notes.extend(odd)
    else:
        if first.thickness is None:
            notes.append("no slice thickness, taken as 1 mm")
        step = normal * (first.thickness or 1.0)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * between_columns
    affine[:3, 1] = orientation[3:] * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = np.asarray(first.position)
    affine[:2] *= -1  # DICOM is LPS+, NIfTI and MONAI are RAS+
    places[:, :2] *= -1
    header = stack[0].header
    return DicomVolume(
        header=header,
        parts=tuple(one.part for one in stack),
        keys=tuple(one.key for one in stack),
        occurrence=occurrence,
        shape=(header.columns, header.rows, len(stack)),
        affine=tuple(tuple(float(number) for number in row) for row in affine),
        spacing=(between_columns, between_rows, float(np.linalg.norm(step))),
        notes=tuple(notes),
        positions=tuple(tuple(float(number) for number in place) for place in places) if odd else (),
    )


def _common_notes(stack: list[Slice]) -> list[str]:
    """What the headers say, each once, in the order of the slices."""
    return list(dict.fromkeys(note for one in stack for note in one.header.notes))


def _without_geometry(frames: list[Slice]) -> DicomVolume:
    header, spacing = frames[0].header, frames[0].frame.pixel_spacing
    shape = (header.columns, header.rows, len(frames)) if len(frames) > 1 else (header.columns, header.rows)
    return DicomVolume(
        header=header,
        parts=tuple(one.part for one in frames),
        keys=tuple(one.key for one in frames),
        occurrence=0,
        shape=shape,
        affine=None,
        spacing=None if spacing is None else (spacing[1], spacing[0]),
        notes=(*_common_notes(frames), "no slice positions", *(("no pixel spacing",) if spacing is None else ())),
    )
