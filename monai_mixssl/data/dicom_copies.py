# SPDX-License-Identifier: Apache-2.0
"""Tells copies of a DICOM object from different ones that careless software gave the same SOP instance UID."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from monai_mixssl.data.content import values_digest
from monai_mixssl.data.dicom_header import DicomHeader
from monai_mixssl.data.dicom_pixels import decode_dicom
from monai_mixssl.data.records import LeftOut

__all__ = ["SHARED_UID", "without_copies"]

SHARED_UID = "SOP instance UID that other images have, too"

Entry = tuple[str, str, DicomHeader]
"""Key, path and header of a file."""
_Series = tuple[Hashable, Hashable]


def without_copies(files: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Takes each DICOM object once.

    Files of one SOP instance are copies where they agree in size, place, number and time, and, where patient or series
    differ or nothing says where an image belongs, in their pixels: an anonymised copy beside its original would put one
    image into training and validation. Of two series that hold copies of one another the one that stands first is kept;
    of the copies within a series the first whose pixels can be read: a download that broke off may lie beside the whole
    file. Other files of one SOP instance are all kept, with `SHARED_UID` among their notes: some tools that take names
    out give every file the same UID.

    Args:
        files: (key, path, header) of every file.

    Returns:
        What is kept, in its order, and (key, path) of the copies.
    """
    rank: dict[_Series, int] = {}
    known: dict[str, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, (_, _, header) in enumerate(files):
        rank.setdefault(_series(header), number)
        if header.sop_instance:
            known[header.sop_instance][_what(header)].append(number)
    dropped: set[int] = set()
    pixels: dict[int, str | None] = {}
    for by_what in known.values():
        for alike in by_what.values():
            originals = _originals(files, alike, rank)
            dropped |= set(alike) - originals.keys()
            pixels |= originals
    kept = {number: file for number, file in enumerate(files) if number not in dropped}
    for instance, by_what in known.items():
        numbers = [number for alike in by_what.values() for number in alike if number in kept]
        if len(numbers) > 1:
            whats = {number: (*_series(kept[number][2]), *_what(kept[number][2])) for number in numbers}
            several = {what for what, count in Counter(whats.values()).items() if count > 1}
            for place, number in enumerate(numbers):
                key, path, header = kept[number]
                # an instance of its own, or all images of the series would have one id; by pixels, not by file names
                what = whats[number]
                own = f"{instance} {(*what, pixels[number] or place) if what in several else what}"
                kept[number] = key, path, replace(header, sop_instance=own, notes=(*header.notes, SHARED_UID))
    return list(kept.values()), [files[number][:2] for number in sorted(dropped)]


def _originals(files: Sequence[Entry], alike: Sequence[int], rank: Mapping[_Series, int]) -> dict[int, str | None]:
    """Of files that agree in all but pixels, those that are kept, and what tells their pixels apart where that counts.

    Within a series that is the first whose pixels can be read, else the first, or, where the files say nothing of their
    place or number, one of each content: they may be images of anything. Of several series it is of the one that stands
    first among all files, so that of two series that are copies of one another one is kept whole, and not some slices
    of each.
    """
    header = files[alike[0]][2]
    anywhere = not header.instance and all(frame.position is None for frame in header.frames)
    of_series: dict[_Series, list[int]] = defaultdict(list)
    for number in alike:
        of_series[_series(files[number][2])].append(number)
    digest = cache(lambda number: _digest(files[number][1]))  # decoding takes long
    kept: dict[int, str | None] = {}
    originals: dict[str, int] = {}
    for series in sorted(of_series, key=lambda series: rank[series]):
        numbers = of_series[series]
        if len(numbers) > 1 and not anywhere:
            numbers = [next((one for one in numbers if digest(one) is not None), numbers[0])]
        for number in numbers:
            pixels = digest(number) if len(of_series) > 1 or len(numbers) > 1 else None
            if pixels is None or originals.setdefault(pixels, number) == number:
                kept[number] = pixels
    return kept


def _digest(path: str) -> str | None:
    """Of the pixels; None where they cannot be read: each such file is left out, or not, for its own reason."""
    try:
        return values_digest(decode_dicom(path))
    except LeftOut:
        return None


def _series(header: DicomHeader) -> _Series:
    return header.patient, header.series


def _what(header: DicomHeader) -> tuple[Hashable, ...]:
    places = tuple((frame.orientation, frame.position, *frame.traits[1:]) for frame in header.frames)
    return header.rows, header.columns, header.instance, places
