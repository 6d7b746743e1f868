# SPDX-License-Identifier: Apache-2.0
"""NRRD and MetaImage files (`.nrrd`, `.nhdr`, `.mha`, `.mhd`), through SimpleITK: the header alone, and the voxels."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from monai_mixssl.data.dicom_header import MAX_VOXELS
from monai_mixssl.data.quiet import quiet_stderr
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.volume import Volume
from monai_mixssl.data.voxel_type import smallest_type

__all__ = ["VOXELS_MISSING", "VOXELS_SHORT", "ItkHeader", "is_itk", "read_itk", "read_itk_header"]

MOST_HEADER = 2**18  # bytes
MOST_FILES = 10_000  # of voxels, for one header
DEFLATE_MOST = 1032  # times that it makes data smaller at most
MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_US": "US", "MET_MOD_NM": "NM"}
VOXELS_MISSING = "header whose voxels are in a file that is missing"
VOXELS_SHORT = "header whose voxels are in a file that is too short"
_NRRD_END, _META_END = re.compile(rb"\r?\n\r?\n"), re.compile(rb"ElementDataFile\s*=[^\n]*\n")
_META = re.compile(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=\s*\d)")


class ItkHeader(NamedTuple):
    """What the header says.

    Attributes:
        shape: (x, y) or (x, y, z).
        spacing: millimetres along each of `shape`.
        channels: 1, or 3 for colour.
        volumes: in a file of four dimensions, or of several values a voxel that are no colours.
        modality: "" where unknown.
        voxel_files: files that hold the voxels, seen from the folder of this one, where that does not hold them itself.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int
    volumes: int
    modality: str
    voxel_files: tuple[str, ...]


def is_itk(head: bytes) -> bool:
    """Tells from the first bytes whether a file is NRRD or MetaImage."""
    return head.startswith(b"NRRD000") or _META.match(head) is not None


def read_itk_header(path: str | Path) -> ItkHeader:
    """Reads a header without its voxels.

    Raises:
        LeftOut: damaged, truncated, absurdly large, or of a shape that is no image; or its voxels are missing.
    """
    reader = _information(str(path))
    size = tuple(int(one) for one in reader.GetSize())
    if len(size) not in (2, 3, 4) or min(size) < 1:
        raise LeftOut("NRRD or MetaImage file that holds no image")
    components = int(reader.GetNumberOfComponents())
    count = math.prod(size[:3])
    if count > MAX_VOXELS:
        raise LeftOut("header claims an absurd size", f"{count} values")
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind or "label" in kind:
        raise LeftOut("NRRD or MetaImage file of complex numbers")
    colour = components in (3, 4) and "8-bit unsigned" in kind
    if components > 1 and not colour and len(size) == 4:
        raise LeftOut("NRRD or MetaImage file of more than four dimensions")
    spacing = tuple(float(step) for step in reader.GetSpacing())[:3]
    if not all(0 < step < 1e6 for step in spacing) or not np.isfinite(reader.GetDirection()).all():
        raise LeftOut("affine that cannot be used")
    bits = re.search(r"(\d+)-bit", kind)
    value_bytes = int(bits[1]) // 8 if bits else 4
    voxel_files = _voxel_files(str(path), math.prod(size) * components * value_bytes)
    modality = reader.GetMetaData("Modality") if reader.HasMetaDataKey("Modality") else ""
    return ItkHeader(
        shape=size[:3],
        spacing=spacing,
        channels=3 if colour else 1,
        volumes=size[3] if len(size) == 4 else 1 if colour else components,
        modality=MODALITIES.get(modality, ""),
        voxel_files=voxel_files,
    )


def read_itk(path: str | Path, number: int = 0) -> Volume:
    """Reads one volume of a file, in the smallest type that holds the values.

    Args:
        path: the file, or the header where the voxels lie in others.
        number: which volume, from 0.

    Raises:
        LeftOut: the file cannot be read.
    """
    header = read_itk_header(path)
    reader = _information(str(path))
    size = [int(one) for one in reader.GetSize()]
    if number >= header.volumes:
        raise LeftOut("fewer volumes than before")
    if len(size) == 4:
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, number])
    try:
        with quiet_stderr():
            image = reader.Execute()
    except RuntimeError:
        raise LeftOut("voxels cannot be read") from None  # the original names the path
    array = sitk.GetArrayViewFromImage(image)  # z, y, x[, values]
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    array = array[..., :3] if header.channels == 3 else array[..., [0 if len(size) == 4 else number]]
    array = smallest_type(np.ascontiguousarray(array.T))  # (C, x, y[, z])
    affine = None
    if image.GetDimension() == 3:
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        affine[:2] *= -1  # ITK is LPS+, NIfTI and MONAI are RAS+
    return Volume(array, affine, header.spacing, header.modality)


def _information(path: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    try:
        with open(path, "rb") as file:
            nrrd = file.read(4) == b"NRRD"
    except OSError:
        raise LeftOut("the file system cannot open it") from None
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(path)
    try:
        with quiet_stderr():
            reader.ReadImageInformation()
    except RuntimeError:
        raise LeftOut("damaged NRRD or MetaImage header") from None  # the original names the path
    return reader


def _voxel_files(path: str, needed: int) -> tuple[str, ...]:
    """Finds where the voxels lie, and that there are enough of them."""
    with open(path, "rb") as file:
        text = file.read(MOST_HEADER)
    nrrd = text.startswith(b"NRRD")
    found = (_NRRD_END if nrrd else _META_END).search(text)
    end = found.end() if found else len(text)
    # latin-1 can decode anything, and file names are turned back into the same bytes below
    lines = [line.strip() for line in text[: end if nrrd else None].decode("latin-1").splitlines()]
    fields: dict[str, str] = {}
    rest: list[str] = []
    for number, line in enumerate(lines):
        key, _, value = line.partition(":" if nrrd else "=")
        key = key.strip().lower().replace(" ", "")
        fields.setdefault(key, value.strip())
        if key in ("datafile", "elementdatafile"):
            rest = lines[number + 1 :]
            break
    named = fields.get("datafile" if nrrd else "elementdatafile", "LOCAL")
    names: list[str] = []
    if named.split(" ")[0].upper() == "LIST":
        names = [line for line in rest if line]
    elif "%" in named:
        names = _numbered(named)
    elif named.upper() != "LOCAL":
        names = [named]
    files = [os.fsdecode(name.encode("latin-1")) for name in names[:MOST_FILES]]
    folder = os.path.dirname(path)
    try:
        sizes = [os.path.getsize(os.path.join(folder, file)) for file in files]
        stored = sum(sizes) if files else os.path.getsize(path) - end
    except (OSError, ValueError):
        raise LeftOut(VOXELS_MISSING) from None
    raw = fields.get("encoding", "raw").lower() == "raw" if nrrd else fields.get("compresseddata", "").lower() != "true"
    if stored * (1 if raw else DEFLATE_MOST) < needed:
        raise LeftOut(VOXELS_SHORT if files else "truncated file")
    return tuple(files)


def _numbered(pattern: str) -> list[str]:
    """File names of a pattern such as `slice%03d.raw 1 20 1`."""
    found = re.fullmatch(r"(.*%0?\d*d\S*)\s+(-?\d+)\s+(-?\d+)(?:\s+(-?\d+).*)?", pattern)
    if not found or found[1].count("%") != 1:
        return []
    first, last, step = int(found[2]), int(found[3]), int(found[4] or 1) or 1
    numbers = range(first, last + (1 if step > 0 else -1), step)[:MOST_FILES]
    return [found[1] % number for number in numbers]
