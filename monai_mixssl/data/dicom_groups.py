# SPDX-License-Identifier: Apache-2.0
"""Tells apart the volumes of one DICOM series: orientations, pixel sizes, kinds of image, echoes, b-values, times.

Nothing here depends on what the files are called or on the order in which they come; file keys decide only between
files that say the same of themselves in everything that is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from monai_mixssl.data.dicom_header import DicomFrame, DicomHeader
from monai_mixssl.data.dicom_traits import Traits
from monai_mixssl.data.records import Part

__all__ = ["Slice", "Stack", "stacks_of_series"]

SAME_POSITION = 1e-2  # millimetres
SAME_DIRECTION = 1e-2  # difference of direction cosines: about half a degree
SAME_PLACE = 1  # decimals of millimetres, within the plane
SAME_SPACING = 0.01  # share by which pixel spacings may differ: some scanners round those of single slices

Numbers = tuple[float, ...]


class Slice(NamedTuple):
    """One frame of a file, which has an orientation and a position."""

    key: str
    part: Part
    header: DicomHeader
    frame: DicomFrame
    distance: float = 0.0
    """Along the normal, millimetres."""
    level: int = 0
    """Number of its position along the normal."""


class Stack(NamedTuple):
    """Slices of one volume in order along `normal`, each at a position of its own."""

    slices: list[Slice]
    normal: np.ndarray
    by_order: bool
    """Nothing but their order tells these slices from others at the same positions."""


def stacks_of_series(slices: Sequence[Slice]) -> list[Stack]:
    """Splits what is equal in study, series and size into volumes, in an order that depends on their content alone.

    Where a position occurs once, nothing but orientation and pixel spacing tell volumes apart. Where it occurs more
    than once, the first of these does that differs there: kind of image, echo, b-value and its direction, time point,
    acquisition, time after the trigger, time, rescale, place within the plane, any other dimension of an enhanced file.
    A distinction that most positions know only one side of (each slice has a time of its own) is not used. What is left
    goes by time, then by instance number: the k-th image of each position to the k-th volume.
    """
    groups = _by_orientation(slices)
    return [
        stack
        for orientation in sorted(groups)
        for alike in _by_spacing(groups[orientation])
        for stack in _stacks(orientation, alike)
    ]


def _by_orientation(slices: Sequence[Slice]) -> dict[Numbers, list[Slice]]:
    kinds: list[Numbers] = []
    nearest: dict[Numbers | None, Numbers] = {}
    for orientation in sorted({one.frame.orientation or () for one in slices}):
        known = np.abs(np.asarray(kinds).reshape(-1, 6) - orientation).max(axis=1) <= SAME_DIRECTION
        if not known.any():
            kinds.append(orientation)
            nearest[orientation] = orientation
        else:
            nearest[orientation] = kinds[int(known.argmax())]
    groups: dict[Numbers, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[nearest[one.frame.orientation]].append(one)
    return groups


def _by_spacing(slices: list[Slice]) -> list[list[Slice]]:
    groups: list[tuple[Numbers, list[Slice]]] = []
    for one in sorted(slices, key=lambda one: one.frame.pixel_spacing or ()):
        spacing = one.frame.pixel_spacing or ()
        known = groups[-1][0] if groups else None
        if known is None or len(known) != len(spacing) or not np.allclose(known, spacing, rtol=SAME_SPACING, atol=0):
            groups.append((spacing, []))
        groups[-1][1].append(one)
    return [group for _, group in groups]


def _stacks(orientation: Numbers, slices: list[Slice]) -> Iterator[Stack]:
    normal = np.cross(orientation[:3], orientation[3:])
    a, b, c = normal.tolist()
    placed = []
    for one in slices:
        x, y, z = one.frame.position or (0.0, 0.0, 0.0)
        placed.append(one._replace(distance=a * x + b * y + c * z))
    placed.sort(key=lambda one: one.distance)
    level, last = -1, -np.inf
    for number, one in enumerate(placed):
        if one.distance - last > SAME_POSITION:
            level, last = level + 1, one.distance
        placed[number] = one._replace(level=level)
    placed.sort(key=_order)
    for part, by_order in _apart(placed, _distinctions(placed, orientation)):
        yield Stack(sorted(part, key=lambda one: one.level), normal, by_order)


def _order(one: Slice) -> tuple[Any, ...]:
    return (*one.frame.traits.when, one.header.instance, one.header.tie, one.key, one.part.number)


def _distinctions(slices: Sequence[Slice], orientation: Numbers) -> list[Callable[[Slice], Hashable]]:
    across, down = np.asarray(orientation[:3]), np.asarray(orientation[3:])

    def place(one: Slice) -> Hashable:
        position = np.asarray(one.frame.position)
        return round(float(position @ across), SAME_PLACE), round(float(position @ down), SAME_PLACE)

    def trait(number: int) -> Callable[[Slice], Hashable]:
        return lambda one: one.frame.traits[number]

    def dimension(number: int) -> Callable[[Slice], Hashable]:
        return lambda one: one.frame.traits.dimensions[number : number + 1]

    more = max(len(one.frame.traits.dimensions) for one in slices)
    return [
        *(trait(number) for number in range(Traits._fields.index("dimensions"))),
        lambda one: one.frame.rescale,
        place,
        *(dimension(number) for number in range(more)),
    ]


def _apart(slices: list[Slice], distinctions: list[Callable[[Slice], Hashable]]) -> Iterator[tuple[list[Slice], bool]]:
    """Splits slices, in order of acquisition, so that no part knows a position twice."""
    positions = len({one.level for one in slices})
    if positions == len(slices):
        yield slices, False
        return
    best: list[list[Slice]] | None = None
    for distinction in distinctions:
        parts: dict[Hashable, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[distinction(one)].append(one)
        covers = [len({one.level for one in part}) for part in parts.values()]
        if len(parts) == 1 or sum(covers) == positions or 2 * max(covers) <= positions:
            continue  # it says nothing, does not part what lies at one position, or tears volumes apart
        if min(covers) == positions:
            best = _in_order(parts)
            break
        best = best or _in_order(parts)
    if best is not None:
        for part in best:
            yield from _apart(part, distinctions)
        return
    repeats: dict[int, int] = defaultdict(int)
    stacks: dict[int, list[Slice]] = defaultdict(list)
    for one in slices:
        stacks[repeats[one.level]].append(one)
        repeats[one.level] += 1
    for part in stacks.values():
        yield part, True


def _in_order(parts: dict[Hashable, list[Slice]]) -> list[list[Slice]]:
    """By value where the values are numbers, without a value first; else in order of acquisition."""
    if all(value is None or isinstance(value, float) for value in parts):
        values = sorted(parts, key=lambda value: (value is not None, value or 0.0))
        return [parts[value] for value in values]
    return list(parts.values())
