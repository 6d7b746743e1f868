# SPDX-License-Identifier: Apache-2.0
"""Writes NIfTI headers byte by byte from the standard's tables: nothing in common with the library that reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

__all__ = ["METRE", "MICROMETRE", "MILLIMETRE", "header", "single"]

METRE, MILLIMETRE, MICROMETRE = 1, 2, 3
INT16 = 4


def header(
    array: np.ndarray,
    *,
    version: int = 1,
    order: str = "<",
    text: bytes = b"n+",
    steps: Sequence[float] = (1.0, 1.0, 1.0),
    rows: Sequence[Sequence[float]] | None = None,
    units: int = MILLIMETRE,
    start: float | None = None,
) -> bytes:
    """A header for int16.

    Args:
        array: x, y, z[, t].
        version: 1 or 2.
        order: "<" little-endian, ">" big-endian.
        text: "n+" where the voxels follow, "ni" where they lie in another file.
        steps: pixdim along x, y, z.
        rows: the affine's first three rows; None: the header states no position.
        units: of lengths.
        start: byte at which the voxels begin; None: right behind the header, 0 in another file.
    """
    size = 348 if version == 1 else 540
    if start is None:
        start = size + 4 if text == b"n+" else 0
    dimensions = [array.ndim, *array.shape, *[1] * (7 - array.ndim)]
    spacings = [1.0, *steps, *[1.0] * 4]
    flat = [0.0] * 12 if rows is None else [value for row in rows for value in row]
    placed = int(rows is not None)
    if version == 1:
        fields = {
            0: ("i", size), 40: ("8h", *dimensions), 70: ("2h", INT16, 16), 76: ("8f", *spacings), 108: ("f", start),
            112: ("2f", 1, 0), 123: ("B", units), 254: ("h", placed), 280: ("12f", *flat),
            344: ("4s", text + b"1\0"),
        }  # fmt: skip
    else:
        fields = {
            0: ("i", size), 4: ("8s", text + b"2\0\r\n\x1a\n"), 12: ("2h", INT16, 16), 16: ("8q", *dimensions),
            104: ("8d", *spacings), 168: ("q", int(start)), 176: ("2d", 1, 0), 348: ("i", placed),
            400: ("12d", *flat), 500: ("i", units),
        }  # fmt: skip
    content = bytearray(size)
    for place, (form, *values) in fields.items():
        struct.pack_into(order + form, content, place, *values)
    return bytes(content)


def single(array: np.ndarray, *, order: str = "<", **choices: object) -> bytes:
    """A file of header and int16 voxels; the choices are those of `header`."""
    voxels = array.astype(f"{order}i2").tobytes(order="F")
    return header(array, order=order, **choices) + bytes(4) + voxels
