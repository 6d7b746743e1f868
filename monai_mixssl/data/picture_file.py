# SPDX-License-Identifier: Apache-2.0
"""PNG and JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from monai_mixssl.data.dicom_header import MAX_VOXELS
from monai_mixssl.data.quiet import quiet_libraries
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.volume import Volume

__all__ = ["read_picture", "read_picture_size"]

_ORIENTATION = 0x0112  # of EXIF; 5 to 8 have rows and columns exchanged
GREY_MODES = {"L", "I", "F", "I;16", "I;16B", "1", "LA"}


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise LeftOut("damaged picture", type(error).__name__) from None
    if image.width * image.height * 3 > MAX_VOXELS:
        raise LeftOut("header claims an absurd size", f"{image.width * image.height} pixels")
    return image


def _has_orientation(image: Image.Image) -> bool:
    # cameras write JPEG; of a PNG the whole file would have to be read for it
    return image.format in ("JPEG", "MPO")


@quiet_libraries()
def read_picture_size(path: Path) -> tuple[tuple[int, int], int]:
    """Returns ((width, height), channels) from the header, upright as its EXIF says; transparency is not counted.

    Raises:
        LeftOut: not a picture that Pillow can open, or an absurdly large one.
    """
    with _open(path) as image:
        width, height = image.size
        if _has_orientation(image) and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        return (width, height), 1 if image.mode in GREY_MODES else 3


@quiet_libraries()
def read_picture(path: Path) -> Volume:
    """Reads a picture as (C, width, height): C is 1 for grey, 3 for colour and palettes; upright as its EXIF says.

    Raises:
        LeftOut: it cannot be decoded.
    """
    try:
        with _open(path) as image:
            grey = image.mode in GREY_MODES
            if _has_orientation(image):
                image = ImageOps.exif_transpose(image)
            if image.mode in ("1", "LA"):
                image = image.convert("L")
            elif not grey:
                image = image.convert("RGB")
            array = np.asarray(image)
    except LeftOut:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise LeftOut("pixels cannot be decoded", type(error).__name__) from None
    array = array[..., None] if array.ndim == 2 else array
    return Volume(array.transpose(2, 1, 0), None, None)
