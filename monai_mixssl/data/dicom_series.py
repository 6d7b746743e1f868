# SPDX-License-Identifier: Apache-2.0
"""Groups DICOM frames into volumes and puts their slices in order.

Frames belong together when study, series, orientation and size agree. Along the normal they are sorted by position;
where a position occurs more than once (time points, echoes, magnitude and phase), its k-th occurrence goes to the k-th
volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monai_mixssl.data.dicom_header import DicomFrame, DicomHeader
from monai_mixssl.data.records import Part

__all__ = ["DicomVolume", "group_volumes"]

SAME_POSITION = 1e-2  # millimetres
SAME_DIRECTION = 1e-2  # difference of direction cosines: about half a degree
UNEVEN = 0.05  # a slice distance may differ from the median by this share
TILT = 1e-2  # sine of the angle between the stack and the slices' normal


@dataclass(frozen=True)
class DicomVolume:
    """Slices of one volume in order.

    Attributes:
        header: header of the first slice's file.
        parts: where the slices are.
        keys: key of each slice's file.
        occurrence: 0 for the first volume of a series, 1 for the second …
        shape: (columns, rows, slices), or (columns, rows) without geometry.
        affine: 4×4 voxel-to-world matrix, RAS+ millimetres; None without geometry.
        spacing: millimetres along each axis of `shape`; None where unknown.
        notes: what is unusual.
    """

    header: DicomHeader
    parts: tuple[Part, ...]
    keys: tuple[str, ...]
    occurrence: int
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...] | None
    spacing: tuple[float, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Slice:
    key: str
    part: Part
    header: DicomHeader
    frame: DicomFrame
    distance: float = 0.0  # along the normal, millimetres


def group_volumes(headers: Iterable[tuple[str, str, DicomHeader]]) -> list[DicomVolume]:
    """Turns headers into volumes, in the order of their first file's key.

    Args:
        headers: (key, path, header) of every file, no SOP instance twice.
    """
    groups: dict[tuple[object, ...], list[list[_Slice]]] = defaultdict(list)
    volumes = []
    for key, path, header in headers:
        first = header.frames[0].rescale
        loose = []
        for number, frame in enumerate(header.frames):
            piece = _Slice(key, Part(path, number, *_correction(frame.rescale, first)), header, frame)
            if frame.orientation is None or frame.position is None or not header.series:
                loose.append(piece)
                continue
            series = groups[(header.study, header.series, header.rows, header.columns, header.channels)]
            for group in series:
                if np.allclose(group[0].frame.orientation or (), frame.orientation, atol=SAME_DIRECTION):
                    group.append(piece)
                    break
            else:
                series.append([piece])
        if loose:
            volumes.append(_without_geometry(loose))
    for series in groups.values():
        for group in series:
            volumes.extend(_volumes_of_group(group))
    return sorted(volumes, key=lambda volume: (min(volume.keys), volume.occurrence))


def _correction(rescale: tuple[float, ...] | None, first: tuple[float, ...] | None) -> tuple[float, float]:
    # the decoder applies the first frame's rescale to every frame of a file: undo it, then apply the frame's own
    if rescale is None or first is None or rescale == first:
        return 1.0, 0.0
    gain = rescale[0] / first[0]
    return gain, rescale[1] - first[1] * gain


def _volumes_of_group(slices: list[_Slice]) -> list[DicomVolume]:
    orientation = np.asarray(slices[0].frame.orientation, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    placed = [
        _Slice(one.key, one.part, one.header, one.frame, float(np.dot(normal, np.asarray(one.frame.position))))
        for one in slices
    ]
    # equal positions stay in the order of acquisition, so that the k-th occurrence means the same at every position
    placed.sort(key=lambda one: (one.header.instance, one.key, one.part.number))
    placed.sort(key=lambda one: one.distance)
    stacks: list[list[_Slice]] = []
    occurrence, last = 0, -np.inf
    for one in placed:
        if one.distance - last > SAME_POSITION:
            occurrence, last = 0, one.distance
        if occurrence == len(stacks):
            stacks.append([])
        stacks[occurrence].append(one)
        occurrence += 1
    return [_with_geometry(stack, number, normal) for number, stack in enumerate(stacks)]


def _with_geometry(stack: list[_Slice], occurrence: int, normal: np.ndarray) -> DicomVolume:
    first, last = stack[0].frame, stack[-1].frame
    notes = []
    if first.pixel_spacing is None:
        notes.append("no pixel spacing, taken as 1 mm")
    between_rows, between_columns = first.pixel_spacing or (1.0, 1.0)
    orientation = np.asarray(first.orientation, dtype=float)
    if len(stack) > 1:
        step = (np.asarray(last.position) - np.asarray(first.position)) / (len(stack) - 1)
        distances = np.diff([one.distance for one in stack])
        if np.ptp(distances) > UNEVEN * np.median(distances):
            notes.append("uneven slice spacing, taken as even")
        along = abs(float(np.dot(step, normal)))
        if np.linalg.norm(step - normal * np.dot(step, normal)) > TILT * along:
            notes.append("tilted gantry, kept as a sheared affine")
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
    )


def _without_geometry(frames: list[_Slice]) -> DicomVolume:
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
        notes=("no slice positions",) + (("no pixel spacing",) if spacing is None else ()),
    )
