# SPDX-License-Identifier: Apache-2.0
"""NIfTI files of the cases of `readers.py`: whole, misnamed, of two files, and with headers that keep silent or lie."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))
from tiny_scans import blob, write_nifti

__all__ = [
    "STEPS", "VOLUME", "XYZ", "absurd_nifti", "apart", "apart_and_lost", "content", "from_the_first_byte", "metres",
    "misnamed", "nifti", "placeless",
]  # fmt: skip

STEPS = np.diag([-1.5, -2.0, 3.0, 1.0])  # of what `write_series` writes, RAS+
VOLUME = blob((6, 12, 10)) + np.arange(6, dtype=np.int16)[:, None, None]  # slices, rows, columns
XYZ = VOLUME.transpose(2, 1, 0)


def content(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def nifti(array: np.ndarray, name: str = "case.nii.gz") -> Callable[[Path], Path]:
    return lambda folder: write_nifti(folder / name, array, STEPS)


def misnamed(name: str, packed: bool = False) -> Callable[[Path], Path]:
    plain = nib.Nifti1Image(XYZ, STEPS).to_bytes()
    return content(name, gzip.compress(plain) if packed else plain)


def apart(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(XYZ, STEPS), folder / "case.hdr")
    return folder / "case.hdr"


def apart_and_lost(folder: Path) -> Path:
    path = apart(folder)
    path.with_suffix(".img").unlink()
    return path


def metres(folder: Path) -> Path:
    image = nib.Nifti1Image(XYZ, np.diag([0.001, 0.001, 0.001, 1.0]) @ STEPS)
    image.header.set_xyzt_units("meter")
    nib.save(image, folder / "case.nii")
    return folder / "case.nii"


def placeless(folder: Path) -> Path:
    image = nib.Nifti1Image(XYZ, None)
    image.header["pixdim"][1:4] = 0
    image.header["vox_offset"] = 352
    return content("case.nii", image.header.binaryblock + bytes(4) + XYZ.tobytes(order="F"))(folder)


def from_the_first_byte(folder: Path) -> Path:
    data = bytearray(nib.Nifti1Image(XYZ, STEPS).to_bytes())
    data[108:112] = bytes(4)
    return content("case.nii", bytes(data))(folder)


def absurd_nifti(folder: Path) -> Path:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return content("case.nii", header.binaryblock + bytes(4 + 5000))(folder)
