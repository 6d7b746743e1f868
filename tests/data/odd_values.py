# SPDX-License-Identifier: Apache-2.0
"""Values that `mutants` puts where others were, and the places in headers where they do most harm."""

from __future__ import annotations

from fuzz_originals import PIXELS, UNDEFINED

__all__ = ["DECIDING", "FIELDS", "FIELDS_2", "FLOATS", "LENGTHS", "NUMBERS", "SYNTAXES", "TEXTS", "TYPES"]

# tags that decide on what is taken into memory, and on where it lies
DECIDING = {
    (0x0002, 0x0000), (0x0002, 0x0010), (0x0008, 0x0005), (0x0008, 0x0008), (0x0008, 0x0016), (0x0018, 0x0050),
    (0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0006), (0x0028, 0x0008),
    (0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0030), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102),
    (0x0028, 0x0103), (0x0028, 0x1052), (0x0028, 0x1053), (0x0028, 0x1101), (0x0028, 0x1201), (0x0029, 0x1010), PIXELS,
}  # fmt: skip
NUMBERS = (0, 1, 2, 3, 7, 8, 9, 16, 32, 64, 127, 255, 256, 1000, 4096, 30000, 32767, 32768, 65534, 65535)
LENGTHS = (*NUMBERS, 2**16, 2**20, 2**24, 2**30, 2**31 - 2, 2**31, UNDEFINED - 1, UNDEFINED)
TEXTS = (
    b"", b"0 ", b"-1", b"1 ", b"2 ", b"1000", b"999999", b"2000000000", b"99999999999999999999", b"1e308 ", b"-1e-300",
    b"nan ", b"inf ", b"1\\2 ", b"1\\0\\0\\0\\1\\0 ", b"0\\0\\0\\0\\0\\0 ", b"1e7\\1\\-1e7", b"0\\0\\100000", b"\\\\",
    b"\xff\xfe", b"A" * 64, b"0" * 400, b"MONOCHROME1 ", b"PALETTE COLOR ", b"YBR_FULL_422", b"RGB ", b"ISO_IR 192",
    b"ISO 2022 IR 87", b"ORIGINAL\\PRIMARY\\M\\MOSAIC", b"1.2.840.10008.5.1.4.1.1.2.1",
)  # fmt: skip
SYNTAXES = tuple(
    f"1.2.840.10008.1.2{ending}".encode()
    for ending in ("", ".1", ".1.98", ".1.99", ".2", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90",
                   ".4.91", ".4.100", ".4.110", ".4.201", ".5", ".9")
)  # fmt: skip
# of NIfTI-1: place, and how it is stored
FIELDS = [
    *((40 + 2 * axis, "h") for axis in range(8)), (70, "h"), (72, "h"), (108, "f"), (112, "f"), (116, "f"), (0, "i"),
    *((76 + 4 * axis, "f") for axis in range(8)), (123, "b"), (252, "h"), (254, "h"),
    *((256 + 4 * number, "f") for number in range(18)), (344, "4s"), (348, "i"),
]  # fmt: skip
FIELDS_2 = [
    *((16 + 8 * axis, "q") for axis in range(8)), (12, "h"), (14, "h"), (168, "q"), (176, "d"), (184, "d"), (0, "i"),
    *((104 + 8 * axis, "d") for axis in range(8)), (344, "i"), (348, "i"), (4, "8s"), (540, "i"),
]  # fmt: skip
FLOATS = (0.0, 1.0, -1.0, 0.5, 352.0, 353.0, 1e4, 1e9, -1e9, 1e30, 1e-30, float("nan"), float("inf"), float("-inf"))
TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 255)
