# SPDX-License-Identifier: Apache-2.0
"""Goes through all elements of a DICOM file before GDCM does, which trusts what they say of their length.

Where a length is damaged, or bytes that are no elements follow the pixels, GDCM takes up to 4 GB and fills them with
zeros, for seconds, until it finds that the file is not as long, and refuses it. It divides by the number of segments
that run-length coded pixels state without asking whether it is 0.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import BinaryIO, NamedTuple

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

__all__ = ["Structure", "examine_structure"]

SHORT = {str(vr).encode() for vr in EXPLICIT_VR_LENGTH_16}  # their length has two bytes
LONG = {str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32}
IMPLICIT = {b"1.2.840.10008.1.2", b"1.2.840.113619.5.2"}
BIG_ENDIAN, DEFLATED, RLE = b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.5"
RLE_HEAD, MOST_SEGMENTS = 64, 15  # bytes with which each frame begins: the number of segments, and where they begin
SYNTAX, PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF
DEEPEST = 32  # sequences within sequences: GDCM goes on until its stack is full
MOST_INFLATED = 2**31  # bytes of a deflated file
HEAD = 8  # bytes; fewer at the end of a file or item do no harm


class Structure(NamedTuple):
    """What a file consists of.

    Attributes:
        well_formed: it is elements from its beginning to its end, each of which fits into what it is in.
        fragments: pieces of compressed pixels, at least one for each frame; 0 where they are not compressed, or the
            way to them is barred.
    """

    well_formed: bool
    fragments: int


def examine_structure(path: str | os.PathLike[str]) -> Structure:
    """Goes through a file from element to element, without reading their values."""
    elements = _Elements()
    try:
        with open(path, "rb") as file:
            elements.whole_file(file)
    except (_Odd, OSError, struct.error, zlib.error):
        return Structure(False, elements.pieces)
    return Structure(True, elements.pieces)


class _Odd(Exception):
    """Something is not as it should be."""


class _Elements:
    """Methods take a place in the file, and mostly return the one behind what they went through.

    Attributes:
        pieces: of compressed pixels, up to now.
        rle: these are run-length coded.
    """

    pieces = 0
    rle = False

    def take(self, file: BinaryIO, order: str = "<") -> None:
        """Goes on in this file, and in this order of bytes."""
        self.file, self.size = file, file.seek(0, io.SEEK_END)
        self.tag, self.short, self.long = (struct.Struct(f"{order}{code}").unpack_from for code in ("HH", "H", "I"))

    def read(self, place: int, count: int) -> bytes:
        """Reads bytes."""
        self.file.seek(place)
        return self.file.read(count)

    def whole_file(self, file: BinaryIO) -> None:
        """Goes through everything."""
        self.take(file)
        place, syntax = self.meta(132 if self.read(128, 4) == b"DICM" else 0)
        self.rle = syntax == RLE
        # of before 1993, where no syntax is stated: told by whether there is a type
        explicit = syntax not in IMPLICIT if syntax else self.read(place + 4, 2) in SHORT | LONG
        if syntax == DEFLATED:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            self.take(io.BytesIO(unpacker.decompress(self.read(place, self.size), MOST_INFLATED)))
            if unpacker.unconsumed_tail:
                raise _Odd
            place = 0
        elif syntax == BIG_ENDIAN:
            self.take(file, ">")
        self.elements(place, self.size, explicit)

    def meta(self, place: int) -> tuple[int, bytes]:
        """Goes through group 2; returns the transfer syntax, too."""
        syntax = b""
        while place <= self.size - HEAD:
            head = self.read(place, 12)
            tag = self.tag(head)
            if tag[0] != SYNTAX[0]:
                break
            value, place = place + HEAD, self.element(place, self.size, True, 0, tag, head)
            if tag == SYNTAX:
                syntax = self.read(value, place - value).rstrip(b" \0")
        return place, syntax

    def elements(self, place: int, end: int, explicit: bool, depth: int = 0, delimited: bool = False) -> int:
        """Goes through elements up to `end`, or up to a mark that must come before."""
        while place <= end - HEAD:
            head = self.read(place, 12)
            tag = self.tag(head)
            if delimited and tag == ITEM_END:
                return place + HEAD
            place = self.element(place, end, explicit, depth, tag, head)
        if delimited:
            raise _Odd
        return place

    def element(self, place: int, end: int, explicit: bool, depth: int, tag: tuple[int, ...], head: bytes) -> int:
        """Goes through one element."""
        vr = head[4:6] if explicit else b""
        if vr in SHORT:
            return _fitting(place + HEAD, self.short(head, 6)[0], end)
        if tag[0] == ITEM[0] or (explicit and vr not in LONG):
            raise _Odd
        value, length = (place + 12, self.long(head, 8)[0]) if explicit else (place + HEAD, self.long(head, 4)[0])
        if length == UNDEFINED and tag == PIXELS:
            return self.fragments(value, end, depth)
        if length == UNDEFINED:  # of elements whose sequence does not state its type, none does
            return self.items(value, end, explicit and vr == b"SQ", depth + 1, True)
        after = _fitting(value, length, end)
        if vr == b"SQ" or (not explicit and length >= HEAD and self.tag(head, 8) == ITEM):
            self.items(value, after, explicit, depth + 1)
        return after

    def items(self, place: int, end: int, explicit: bool, depth: int, delimited: bool = False) -> int:
        """Goes through the items of a sequence up to `end`, or up to a mark that must come before."""
        if depth > DEEPEST:
            raise _Odd
        while place <= end - HEAD:
            head = self.read(place, HEAD)
            tag, (length,) = self.tag(head), self.long(head, 4)
            place += HEAD
            if delimited and tag == SEQUENCE_END:
                return place
            if tag != ITEM:
                raise _Odd
            if length == UNDEFINED:
                place = self.elements(place, end, explicit, depth, True)
            else:
                after = _fitting(place, length, end)
                self.elements(place, after, explicit, depth)
                place = after
        if delimited:
            raise _Odd
        return place

    def fragments(self, place: int, end: int, depth: int) -> int:
        """Goes through compressed pixels: a table, which may be empty, fragments, a mark that GDCM can do without."""
        count, odd = 0, False
        while place <= end - HEAD:
            head = self.read(place, HEAD)
            tag = self.tag(head)
            if tag == SEQUENCE_END:
                place += HEAD
                break
            if tag != ITEM:
                raise _Odd
            value, place = place + HEAD, _fitting(place + HEAD, self.long(head, 4)[0], end)
            if self.rle and count and not depth:
                odd = odd or place - value < RLE_HEAD or not 1 <= self.long(self.read(value, 4))[0] <= MOST_SEGMENTS
            self.pieces, count = self.pieces if depth else count, count + 1  # there may be an icon of it, too
        if odd:
            raise _Odd
        return place


def _fitting(value: int, length: int, end: int) -> int:
    """Goes over a value."""
    if value + length > end:
        raise _Odd
    return value + length
