# SPDX-License-Identifier: Apache-2.0
"""Tells copies of a DICOM object from different ones that careless software gave the same SOP instance UID."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from monai_mixssl.data.dicom_header import DicomHeader

__all__ = ["SHARED_UID", "without_copies"]

SHARED_UID = "SOP instance UID that other images have, too"

Entry = tuple[str, str, DicomHeader]
"""Key, path and header of a file."""


def without_copies(files: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Takes each DICOM object once.

    Files of one SOP instance are copies where they agree in size, place, number and time; where they do not, all of
    them are kept, with `SHARED_UID` among their notes: some tools that take names out give every file the same UID.

    Args:
        files: (key, path, header) of every file.

    Returns:
        What is kept, in its order, and (key, path) of the copies.
    """
    known: dict[str, dict[Hashable, int]] = defaultdict(dict)
    kept: list[Entry] = []
    copies = []
    for key, path, header in files:
        same = known[header.sop_instance]
        what = _what(header)
        if header.sop_instance and what in same:
            copies.append((key, path))
            continue
        same[what] = len(kept)
        kept.append((key, path, header))
    for instance, same in known.items():
        if instance and len(same) > 1:
            for what, number in same.items():
                key, path, header = kept[number]
                # an instance of its own, or all images of the series would have one id
                own = replace(header, sop_instance=f"{instance} {what}", notes=(*header.notes, SHARED_UID))
                kept[number] = key, path, own
    return kept, copies


def _what(header: DicomHeader) -> Hashable:
    places = tuple((frame.orientation, frame.position, *frame.traits[1:]) for frame in header.frames)
    return header.patient, header.series, header.rows, header.columns, header.instance, places
