# SPDX-License-Identifier: Apache-2.0
"""Damages files as disks, networks and careless programs do, and as someone would who means it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from fuzz_originals import ITEM, UNDEFINED, Element, Original
from odd_values import DECIDING, FIELDS, FIELDS_2, FLOATS, LENGTHS, NUMBERS, SYNTAXES, TEXTS, TYPES

__all__ = ["mutate"]


@dataclass
class Target:
    """What is being damaged, and by which numbers."""

    original: Original
    data: bytearray
    draw: Random

    def place(self, first: int = 0, last: int | None = None) -> int:
        """Somewhere in the data."""
        last = len(self.data) if last is None else min(last, len(self.data))
        return self.draw.randrange(first, last) if first < last else 0

    def element(self) -> Element:
        """One of those that decide, or any; where it was before any damage, but not beyond the end."""
        elements = [one for one in self.original.elements if one.value <= len(self.data)] or self.original.elements[:1]
        deciding = [one for one in elements if one.tag in DECIDING]
        return self.draw.choice(deciding if deciding and self.draw.random() < 0.6 else elements)


def flip(target: Target, first: int, last: int | None) -> None:
    """Flips up to eight bits."""
    for _ in range(target.draw.choice((1, 1, 1, 2, 4, 8))):
        if target.data:
            target.data[target.place(first, last)] ^= 1 << target.draw.randrange(8)


def flip_in_header(target: Target) -> None:
    flip(target, 0, target.original.pixels)


def flip_in_pixels(target: Target) -> None:
    flip(target, target.original.pixels, None)


def flip_in_code(target: Target) -> None:
    """Where a frame's code begins, and says how the rest is to be read; of plain pixels, their beginning."""
    elements = target.original.elements
    starts = [one.value for one in elements if one.tag == ITEM and one.start > target.original.pixels and one.length]
    start = target.draw.choice(starts or [target.original.pixels])
    flip(target, start, start + target.draw.choice((8, 64, 200)))


def flip_anywhere(target: Target) -> None:
    flip(target, 0, None)


def cut(target: Target) -> None:
    del target.data[target.place() :]


def block(target: Target) -> slice:
    start = target.place()
    return slice(start, start + target.draw.choice((1, 2, 4, 16, 100, 1000)))


def insert(target: Target) -> None:
    start = target.place()
    target.data[start:start] = target.draw.randbytes(target.draw.choice((1, 2, 4, 16, 100, 5000)))


def delete(target: Target) -> None:
    del target.data[block(target)]


def double(target: Target) -> None:
    where = block(target)
    target.data[where.start : where.start] = target.data[where] * target.draw.choice((1, 1, 1, 50))


def blank(target: Target) -> None:
    where = block(target)
    target.data[where] = target.draw.choice((b"\0", b"\xff")) * len(target.data[where])


def scramble(target: Target) -> None:
    where = block(target)
    target.data[where] = target.draw.randbytes(len(target.data[where]))


def element_length(target: Target) -> None:
    """Another length than the value has, or the same with its bytes swapped."""
    one = target.element()
    place, code = one.value - one.size, "H" if one.size == 2 else "I"
    length = target.draw.choice((*LENGTHS, one.length + 1, one.length + 2, one.length * 2, one.length // 2))
    stored = struct.pack(f"{target.original.order}{code}", length % 2 ** (8 * one.size))
    if target.draw.random() < 0.2:
        stored = target.data[place : one.value][::-1]
    target.data[place : one.value] = stored


def element_value(target: Target) -> None:
    """A value that is odd, or right for another file; with the length that it has."""
    one = target.element()
    end = one.value + (0 if one.length == UNDEFINED else one.length)
    order, old = target.original.order, bytes(target.data[one.value : end])
    if one.tag == (0x0002, 0x0010):
        value = target.draw.choice(SYNTAXES)
    elif one.length in (2, 6) and one.tag[0] == 0x0028:
        value = b"".join(struct.pack(f"{order}H", number_near(target, old)) for _ in range(one.length // 2))
    else:
        value = target.draw.choice((*TEXTS, old[::-1], old * 3))
    value += b"\0" * (len(value) % 2)
    length = struct.pack(f"{order}{'H' if one.size == 2 else 'I'}", len(value) % 2 ** (8 * one.size))
    target.data[one.value - one.size : end] = length + value


def number_near(target: Target, old: bytes) -> int:
    before = int.from_bytes(old[:2], "little" if target.original.order == "<" else "big")
    near = (before + 1, before - 1, before * 2, before // 2, before * 8, target.draw.randrange(2**16))
    return target.draw.choice((*NUMBERS, *near)) % 2**16


def element_tag(target: Target) -> None:
    """One element poses as another."""
    one = target.element()
    tag = target.draw.choice(sorted({*DECIDING, (0x0010, 0x0020), (0x5200, 0x9230), (0xFFFE, 0xE00D)}))
    target.data[one.start : one.start + 4] = struct.pack(f"{target.original.order}HH", *tag)


def element_type(target: Target) -> None:
    place = target.element().start + 4
    target.data[place : place + 2] = target.draw.choice(
        (b"UN", b"SQ", b"OB", b"US", b"DS", b"UI", b"LT", b"FD", b"\0\0")
    )


def nest(target: Target) -> None:
    """Private sequences within sequences, which state their lengths, or end by marks."""
    start = target.element().start
    order, explicit = target.original.order, target.original.explicit
    depth = target.draw.choice((1, 3, 100, 40_000))
    head, form = struct.pack(f"{order}HH", 0x0029, 0x1010), f"{order}{'2sHI' if explicit else 'I'}HHI"
    size = struct.calcsize(form) + 4
    marks = target.draw.random() < 0.5
    parts = []
    for level in range(depth, 0, -1):
        lengths = (UNDEFINED, UNDEFINED) if marks else (level * size - size + 8, level * size - size)
        parts += [head, struct.pack(form, *((b"SQ", 0) if explicit else ()), lengths[0], 0xFFFE, 0xE000, lengths[1])]
    parts += [struct.pack(f"{order}HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)] * (depth if marks else 0)
    target.data[start:start] = b"".join(parts)


def field_value(target: Target) -> None:
    """A NIfTI header's number."""
    wide = target.original.pixels > 400
    place, code = target.draw.choice(FIELDS_2 if wide else FIELDS)
    if code in "fd":
        value = target.draw.choice(FLOATS)
    elif code.endswith("s"):
        value = target.draw.choice((b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+9\0"))
    elif place in (70, 12):
        value = target.draw.choice(TYPES)
    else:
        value = target.draw.choice((*NUMBERS, *LENGTHS, -1, -2, -32768))
        half = 2 ** (8 * struct.calcsize(code) - 1)
        value = (value + half) % (2 * half) - half
    if place + struct.calcsize(code) <= len(target.data):
        struct.pack_into(f"{target.original.order}{code}", target.data, place, value)


ANY: list[Callable[[Target], None]] = [
    flip_in_header, flip_in_header, flip_in_pixels, flip_in_code, flip_anywhere, cut, insert, delete, double, blank,
    scramble,
]  # fmt: skip
DICOM = [element_length, element_length, element_value, element_value, element_value, element_tag, element_type,
         nest]  # fmt: skip
NIFTI = [field_value] * 7


def mutate(originals: list[Original], seed: int) -> tuple[Original, bytes, list[str]]:
    """Damages one of the files in one to three ways; the same seed always gives the same bytes.

    Returns:
        Which one, the damaged file, and what was done.
    """
    draw = Random(seed)
    original = draw.choice(originals)
    # half of the packed files are damaged as they lie on the disk
    unpacked = draw.random() < 0.5
    data = original.data if unpacked else original.path.read_bytes()
    target = Target(original, bytearray(data), draw)
    ways = [*ANY, *(DICOM if original.elements else NIFTI)] if unpacked or not original.packed else ANY
    chosen = [draw.choice(ways) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    for way in chosen:
        way(target)
    damaged = bytes(target.data)
    return original, original.pack(damaged) if unpacked else damaged, [way.__name__ for way in chosen]
