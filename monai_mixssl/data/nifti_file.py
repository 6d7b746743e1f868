# SPDX-License-Identifier: Apache-2.0
"""NIfTI files: what the header says, and the voxels. What a file is, and whether it is packed, its content says."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nibabel as nib
import numpy as np

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.dicom_header import MAX_VOXELS
from monai_mixssl.data.itk_file import VOXELS_MISSING, VOXELS_SHORT
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.volume import Volume
from monai_mixssl.data.voxel_type import smallest_type

__all__ = ["GZIP", "NiftiHeader", "begins_nifti", "read_nifti", "read_nifti_header", "unpacked_head"]

LARGEST_HEADER = 540  # of NIfTI-2
GZIP = b"\x1f\x8b"
GZIP_MOST = 1032  # times that deflate makes data smaller at most (zlib's technical notes)
# nibabel's classes by the text that tells them; "ni" is a header whose voxels lie in another file
FIRST = {b"n+1": nib.Nifti1Image, b"ni1": nib.Nifti1Pair}
SECOND = {b"n+2": nib.Nifti2Image, b"ni2": nib.Nifti2Pair}
SECOND_SIZES = (struct.pack("<i", LARGEST_HEADER), struct.pack(">i", LARGEST_HEADER))
SINGLE = {nib.Nifti1Pair: nib.Nifti1Image, nib.Nifti2Pair: nib.Nifti2Image}
VOXEL_ENDINGS = (".img", ".img.gz", ".IMG", ".IMG.gz", ".IMG.GZ")
# by the code in the header: 2 is the millimetre, and 0, which says nothing, is taken for it as everybody does
UNITS = {1: (1000.0, "units of metres, converted"), 3: (0.001, "units of micrometres, converted")}


class NiftiHeader:
    """What the scan needs of a file.

    Attributes:
        shape: spatial, (x, y, z).
        affine: 4×4, RAS+ millimetres.
        spacing: millimetres.
        channels: values per voxel that belong together.
        volumes: in the file.
        notes: what is unusual.
        voxel_files: the file that holds the voxels where that is another one, seen from this one's folder. Private.
    """

    def __init__(self, opened: _Opened) -> None:
        image = opened.image
        shape = tuple(int(size) for size in image.shape)
        if len(shape) < 2 or min(shape) < 1:
            raise LeftOut("NIfTI file that holds no image")
        if len(shape) > 4 and int(np.prod(shape[4:])) > 1:
            raise LeftOut("NIfTI file of more than four dimensions")
        count = math.prod(shape[:3])  # volumes are read one by one: only the size of one matters for the memory
        if count > MAX_VOXELS:
            raise LeftOut("header claims an absurd size", f"{count} values")
        if opened.most < math.prod(shape) * image.get_data_dtype().itemsize:
            raise LeftOut(VOXELS_SHORT if opened.voxel_file else "truncated file")
        self.channels = 3 if image.get_data_dtype().names else 1
        self.volumes = shape[3] if len(shape) > 3 else 1
        self.shape = (*shape[:3], 1)[:3]
        self.affine, self.notes = _place(image, opened.raw)
        self.spacing = tuple(float(size) for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        self.voxel_files = (opened.voxel_file,) if opened.voxel_file else ()
        if not all(0 < size < 1e6 for size in self.spacing):
            raise LeftOut("affine that cannot be used")


def _place(image: Any, raw: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The affine in millimetres, and what of it the header does not say; nibabel fills gaps without a word."""
    affine = np.array(image.affine, dtype=float)
    factor, unit = UNITS.get(int(raw["xyzt_units"]) & 7, (1.0, ""))
    notes = []
    if int(raw["sform_code"]) <= 0:  # else the affine is there as it is
        steps = raw["pixdim"][1 : 1 + min(max(int(raw["dim"][0]), 1), 3)]
        if not steps.any():
            factor, unit = 1.0, ""
            notes.append("no voxel spacing, taken as 1 mm")
        elif not steps.all():
            notes.append("no voxel spacing along an axis, taken as 1")
        if int(raw["qform_code"]) <= 0:
            notes.append("no position in the header, place and orientation made up")
    affine[:3] *= factor
    return affine, (*([unit] if unit else []), *notes)


class _Opened(NamedTuple):
    """A file as nibabel sees it, and what nibabel does not tell.

    Attributes:
        image: of nibabel; its voxels are read when they are asked for.
        raw: the header as it is stored, before nibabel mends it.
        most: the number of bytes that the voxels may take once they are unpacked, at most.
        voxel_file: the name of the file that holds the voxels, "" where it is the same.
    """

    image: Any
    raw: Any
    most: int
    voxel_file: str


def begins_nifti(head: bytes) -> bool:
    """Returns whether a file whose unpacked content begins with these (at least 348) bytes is NIfTI."""
    return _class_of(head) is not None


def unpacked_head(file: BinaryIO, size: int) -> bytes | None:
    """Returns the first bytes of what a gzip file holds; None where it cannot be unpacked."""
    file.seek(0)
    try:
        return gzip.GzipFile(fileobj=file).read(size)
    except (OSError, EOFError, zlib.error):
        return None


def _class_of(head: bytes) -> Any:
    if head[:4] in SECOND_SIZES and head[4:7] in SECOND:
        return SECOND[head[4:7]]
    return FIRST.get(head[344:347])


def _content(path: str | os.PathLike[str], files: ExitStack) -> tuple[io.BufferedIOBase, int]:
    """Opens a file, unpacked if its content is packed; and how many bytes may come out of it, at most."""
    file = files.enter_context(BoundedFile(path))
    size = os.fstat(file.fileno()).st_size
    packed = file.read(2) == GZIP
    file.seek(0)
    if not packed:
        return file, size
    return files.enter_context(gzip.GzipFile(fileobj=file)), size * GZIP_MOST


def _voxel_file(path: Path) -> str | None:
    """The name of the file with the voxels of a header that lies apart."""
    found = re.fullmatch(r"(.*)\.hdr(\.gz)?", path.name, re.IGNORECASE | re.DOTALL)
    names = [found[1] + ending for ending in VOXEL_ENDINGS] if found else []
    return next((name for name in names if (path.parent / name).is_file()), None)


def _refuse_long_extensions(file: io.BufferedIOBase, raw: Any, most: int) -> None:
    """Refuses what says that an extension of the header is longer than the file: nibabel takes memory for all of it."""
    size = raw.sizeof_hdr
    file.seek(size)
    if not file.read(1).strip(b"\0"):
        return
    place = size + 4
    end = float(raw["vox_offset"]) if raw.is_single else math.inf
    while place + 16 <= end:
        file.seek(place)
        stated = file.read(4)
        if not stated and not raw.is_single:  # of two files, the one of the header ends with its extensions
            return
        (length,) = struct.unpack(f"{raw.endianness}i", stated)
        if not 8 <= length <= most:
            raise LeftOut("damaged NIfTI header", "length of an extension")
        place += length


def _opened(path: Path, files: ExitStack) -> _Opened:
    try:
        file, most = _content(path, files)
        head = file.read(LARGEST_HEADER)
        kind = _class_of(head)
        if kind is None:
            raise LeftOut("damaged NIfTI header")
        name = ""
        if kind in SINGLE:
            found = _voxel_file(path)
            if found is None and not path.name.lower().endswith((".nii", ".nii.gz")):
                raise LeftOut(VOXELS_MISSING)
            # some programs write the text of the one kind into a file of the other
            name, kind = (found, kind) if found is not None else ("", SINGLE[kind])
        raw = kind.header_class(head[: kind.header_class.sizeof_hdr], check=False)
        start = float(raw["vox_offset"])
        if not start >= (raw.single_vox_offset if raw.is_single else 0):  # nibabel would read the header as voxels
            raise LeftOut("damaged NIfTI header", "place of the voxels")
        _refuse_long_extensions(file, raw, most)
        voxels = file
        if name:
            voxels, most = _content(path.parent / name, files)
        holders = {"header": nib.FileHolder(fileobj=file), "image": nib.FileHolder(fileobj=voxels)}
        return _Opened(kind.from_file_map(holders), raw, most - int(start), name)
    except LeftOut:
        raise
    except PermissionError:
        raise LeftOut("no permission to read it") from None
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise LeftOut("damaged NIfTI header", type(error).__name__) from None


@quiet_libraries()
def read_nifti_header(path: Path) -> NiftiHeader:
    """Reads a header without its voxels.

    Raises:
        LeftOut: damaged, truncated, absurdly large, or of a shape that is no image.
    """
    with ExitStack() as files:
        return NiftiHeader(_opened(path, files))


@quiet_libraries()
def read_nifti(path: Path, number: int = 0) -> Volume:
    """Reads one volume of a file, scaled as its header says, in the smallest type that holds the values.

    Args:
        path: the file; of two, that of the header.
        number: which volume of a 4D file, from 0.

    Raises:
        LeftOut: the file cannot be read.
    """
    with ExitStack() as files:
        opened = _opened(path, files)
        header = NiftiHeader(opened)
        image = opened.image
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
        return Volume(smallest_type(array), header.affine, header.spacing, notes=header.notes)
