# SPDX-License-Identifier: Apache-2.0
"""Tells copies of a DICOM object from different ones that careless software gave the same SOP instance UID."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from monai_mixssl.data.dicom_header import DicomHeader
from monai_mixssl.data.dicom_pixels import decode_dicom
from monai_mixssl.data.records import LeftOut

__all__ = ["SHARED_UID", "without_copies"]

SHARED_UID = "SOP instance UID that other images have, too"

Entry = tuple[str, str, DicomHeader]
"""Key, path and header of a file."""


def without_copies(files: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Takes each DICOM object once.

    Files of one SOP instance are copies where they agree in size, place, number and time, and, where patient or series
    differ, in their pixels: an anonymised copy beside its original would put one image into training and validation.
    Other files of one SOP instance are all kept, with `SHARED_UID` among their notes: some tools that take names out
    give every file the same UID.

    Args:
        files: (key, path, header) of every file.

    Returns:
        What is kept, in its order, and (key, path) of the copies.
    """
    known: dict[str, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    kept: list[Entry] = []
    copies = []
    for key, path, header in files:
        alike = known[header.sop_instance][_what(header)]
        if header.sop_instance and any(_is_copy(path, header, *kept[number][1:]) for number in alike):
            copies.append((key, path))
            continue
        alike.append(len(kept))
        kept.append((key, path, header))
    for instance, by_what in known.items():
        numbers = [number for alike in by_what.values() for number in alike]
        if instance and len(numbers) > 1:
            for number in numbers:
                key, path, header = kept[number]
                # an instance of its own, or all images of the series would have one id
                own = f"{instance} {(header.patient, header.series, *_what(header))}"
                kept[number] = key, path, replace(header, sop_instance=own, notes=(*header.notes, SHARED_UID))
    return kept, copies


def _what(header: DicomHeader) -> tuple[Hashable, ...]:
    places = tuple((frame.orientation, frame.position, *frame.traits[1:]) for frame in header.frames)
    return header.rows, header.columns, header.instance, places


def _is_copy(path: str, header: DicomHeader, other_path: str, other: DicomHeader) -> bool:
    if (header.patient, header.series) == (other.patient, other.series):
        return True
    try:
        return np.array_equal(decode_dicom(path), decode_dicom(other_path))
    except LeftOut:  # pixels that cannot be read are nobody's copy: each is left out, or not, for its own reason
        return False
