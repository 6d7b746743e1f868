# SPDX-License-Identifier: Apache-2.0
"""Whole files, and where their parts lie: what `mutants` damages."""

from __future__ import annotations

import gzip
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pydicom
from fuzz_kinds import KINDS
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

__all__ = ["Element", "Original", "real_originals", "write_originals"]

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
UNDEFINED = 0xFFFFFFFF
ITEM, PIXELS = (0xFFFE, 0xE000), (0x7FE0, 0x0010)


class Element(NamedTuple):
    """Where a DICOM element, item or delimiter lies; `size` is that of its length field, in bytes."""

    tag: tuple[int, int]
    start: int
    value: int
    length: int
    size: int


@dataclass
class Original:
    """A file that can be read, and where its parts lie.

    Attributes:
        path: in a folder of its own; what else is in there stays whole.
        data: unpacked, where it is packed as a whole: from `meta` on.
        packed: "", "gzip" or "deflate".
        order: "<" or ">", of its numbers.
        elements: of DICOM, those within sequences too; of NIfTI none.
        pixels: where they begin.
        meta: where the DICOM data set begins; 0 for NIfTI.
        explicit: whether elements state their type.
    """

    path: Path
    data: bytes
    packed: str
    order: str
    elements: list[Element]
    pixels: int
    meta: int = 0
    explicit: bool = False

    def pack(self, data: bytes) -> bytes:
        """Turns unpacked content into that of a file."""
        if self.packed == "gzip":
            return gzip.compress(data, mtime=0)
        if self.packed == "deflate":
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            return data[: self.meta] + packer.compress(data[self.meta :]) + packer.flush()
        return data


def write_originals(folder: Path) -> list[Original]:
    """Writes a file of each kind, always the same bytes."""
    paths = []
    for number, write in enumerate(KINDS):
        (folder / f"{number:02d}").mkdir(parents=True)
        paths.append(write(folder / f"{number:02d}"))
    for number, path in enumerate(path for path in paths if not _is_nifti(path)):
        dataset = pydicom.dcmread(path)  # the UID is a new one each time
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.1.{number}"
        dataset.save_as(path)
    return [_original(path) for path in paths]


def real_originals(source: Path, folder: Path, most: int = 2**20) -> list[Original]:
    """Copies files from anywhere below `source`, each into a folder of its own; those that are larger than `most` not.

    Files of which pydicom or the walk through their elements makes nothing are not among them.
    """
    found = []
    for number, path in enumerate(sorted(source.rglob("*"))):
        if path.is_file() and path.stat().st_size <= most:
            copy = folder / f"real{number:04d}" / path.name
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
            try:
                found.append(_original(copy))
            except Exception as error:
                print(f"not used: {path.name} ({type(error).__name__})", file=sys.stderr)
    return found


def _is_nifti(path: Path) -> bool:
    return ".nii" in path.name or path.suffix == ".hdr"


def _original(path: Path) -> Original:
    data = path.read_bytes()
    if _is_nifti(path):
        packed = "gzip" if path.suffix == ".gz" else ""
        data = gzip.decompress(data) if packed else data
        order = "<" if data[0] else ">"  # it begins with the size of the header, four bytes
        size = 544 if data[4:7] in (b"n+2", b"ni2") else 352
        # of two files, that of the header is damaged: its last bytes stand for the voxels
        return Original(path, data, packed, order, [], min(size, len(data) - 8))
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    found = list(takewhile(lambda one: one.tag[0] == 2, _elements(data, 132, True, "<")))
    meta = found[-1].value + found[-1].length
    packed = "deflate" if syntax == DeflatedExplicitVRLittleEndian else ""
    data = data[:meta] + zlib.decompress(data[meta:], -zlib.MAX_WBITS) if packed else data
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    explicit = syntax != ImplicitVRLittleEndian
    found += _elements(data, meta, explicit, order)
    pixels = next(one.value for one in found if one.tag == PIXELS)
    return Original(path, data, packed, order, found, pixels, meta, explicit)


def _elements(data: bytes, place: int, explicit: bool, order: str) -> Iterator[Element]:
    """Goes through elements, into sequences as far as they state that they are some, and from fragment to fragment."""
    in_pixels = False
    while place + 12 <= len(data):
        tag = struct.unpack_from(f"{order}HH", data, place)
        typed = explicit and tag[0] != ITEM[0]
        vr = data[place + 4 : place + 6] if typed else b""
        size = 2 if typed and vr not in LONG else 4
        at = place + (4 if not typed else 6 if size == 2 else 8)
        (length,) = struct.unpack_from(f"{order}{'H' if size == 2 else 'I'}", data, at)
        yield Element(tag, place, at + size, length, size)
        in_pixels = in_pixels or tag == PIXELS
        enter = length == UNDEFINED or vr == b"SQ" or (tag == ITEM and not in_pixels)
        place = at + size + (0 if enter else length)
