# SPDX-License-Identifier: Apache-2.0
"""NIfTI files: what the header says, and the voxels."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_mixssl.data.dicom_header import MAX_VOXELS
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.volume import Volume
from monai_mixssl.data.voxel_type import smallest_type

__all__ = ["NiftiHeader", "read_nifti", "read_nifti_header"]

LARGEST_HEADER = 540  # of NIfTI-2
GZIP_MOST = 1032  # times that deflate makes data smaller at most (zlib's technical notes)


class NiftiHeader:
    """Spatial shape (x, y[, z]), spacing in millimetres, and number of volumes in the file."""

    def __init__(self, image: Any, path: Path) -> None:
        shape = tuple(int(size) for size in image.shape)
        if len(shape) < 2 or min(shape) < 1:
            raise LeftOut("NIfTI file that holds no image")
        if len(shape) > 4 and int(np.prod(shape[4:])) > 1:
            raise LeftOut("NIfTI file of more than four dimensions")
        count = math.prod(shape[:3])  # volumes are read one by one: only the size of one matters for the memory
        if count > MAX_VOXELS:
            raise LeftOut("header claims an absurd size", f"{count} values")
        if _most_bytes(path) < math.prod(shape) * image.get_data_dtype().itemsize:
            raise LeftOut("truncated file")
        self.channels = 3 if image.get_data_dtype().names else 1
        self.volumes = shape[3] if len(shape) > 3 else 1
        self.shape = (*shape[:3], 1)[:3]
        self.spacing = tuple(float(size) for size in np.linalg.norm(image.affine[:3, :3], axis=0))
        if not all(0 < size < 1e6 for size in self.spacing):
            raise LeftOut("affine that cannot be used")


def _most_bytes(path: Path) -> int:
    """The number of bytes that are in the file once it is unpacked, at most."""
    return os.path.getsize(path) * (GZIP_MOST if path.suffix.lower() == ".gz" else 1)


def _refuse_long_extensions(path: Path) -> None:
    """Refuses what says that an extension of the header is longer than the file: nibabel takes memory for all of it."""
    most = _most_bytes(path)
    with nib.openers.ImageOpener(str(path)) as file:
        head = file.read(LARGEST_HEADER + 4)
        order = "<" if head[1:2] in (b"\1", b"\2") else ">"  # it begins with its size, 348 or 540
        second = struct.unpack_from(f"{order}i", head)[0] == LARGEST_HEADER
        size = LARGEST_HEADER if second else 348
        if len(head) < size + 4 or not head[size]:
            return
        place = size + 4
        (end,) = struct.unpack_from(f"{order}q", head, 168) if second else struct.unpack_from(f"{order}f", head, 108)
        while place + 16 <= end:
            file.seek(place)
            (length,) = struct.unpack(f"{order}i", file.read(4))
            if not 8 <= length <= most:
                raise LeftOut("damaged NIfTI header", "length of an extension")
            place += length


def _load(path: Path) -> Any:
    try:
        _refuse_long_extensions(path)
        return nib.load(path)
    except LeftOut:
        raise
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise LeftOut("damaged NIfTI header", type(error).__name__) from None


@quiet_libraries()
def read_nifti_header(path: Path) -> NiftiHeader:
    """Reads a header without its voxels.

    Raises:
        LeftOut: damaged, truncated, absurdly large, or of a shape that is no image.
    """
    return NiftiHeader(_load(path), path)


@quiet_libraries()
def read_nifti(path: Path, number: int = 0) -> Volume:
    """Reads one volume of a file, scaled as its header says, in the smallest type that holds the values.

    Args:
        path: the file.
        number: which volume of a 4D file, from 0.

    Raises:
        LeftOut: the file cannot be read.
    """
    image = _load(path)
    NiftiHeader(image, path)
    try:
        more = len(image.shape) - 4  # axes of length 1 behind the volumes
        array = np.asanyarray(image.dataobj[(..., number, *[0] * more)] if more >= 0 else image.dataobj)
    except Exception as error:  # damaged gzip streams and short files, each with an error of its own
        raise LeftOut("voxels cannot be read", type(error).__name__) from None
    colours = array.dtype.names  # RGB is stored as a structure
    array = np.stack([array[name] for name in colours[:3]]) if colours else array[None]
    array = array.reshape(array.shape[0], *(*array.shape[1:], 1)[:3])
    if array.dtype.kind not in "biuf":
        raise LeftOut("NIfTI file of complex numbers")
    array = smallest_type(array)
    spacing = tuple(float(size) for size in np.linalg.norm(image.affine[:3, :3], axis=0))
    return Volume(array, np.asarray(image.affine, dtype=float), spacing)
