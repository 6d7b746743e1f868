# SPDX-License-Identifier: Apache-2.0
"""A folder of everyday pictures as the second domain."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.output_folder import OUTPUT_MARKS, is_output_folder
from monai_mixssl.sources._pictures import fit_picture, open_picture
from monai_mixssl.sources.base import Source

__all__ = ["FolderImages"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_UNREADABLE = 64  # unreadable files drawn in a row before giving up


class FolderImages(Source):
    """Random parts of the PNG, JPEG, WebP, BMP, GIF, TIFF and PNM pictures in a folder and the folders below it.

    A part of the asked proportions is cut out, mirrored half of the time and resized; one channel gets the luminance,
    more get red, green and blue in turn. **A picture serves a 3D target by extrusion**: it fills two axes and repeats
    along the third, which is drawn anew each time. The id is a hash of the file's content, so that it says nothing
    about where the file lies. The files' headers are read once, at construction (about 0.1 ms each); files that
    cannot be read by their headers are left out, and counted in one warning; those whose data prove broken when they
    are drawn are passed over, with one warning a process.

    Args:
        folder: the folder. Links are followed; names that begin with a dot are passed over, and so are output
            folders of this package.

    Raises:
        ConfigError: there is no such folder.
        DataError: it holds no picture that can be read.
    """

    name = "folder"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise ConfigError("The source folder does not exist or is no folder: give the path of a folder of images.")
        found = _find_pictures(root)
        self._files = [file for file in found if _has_picture_header(file)]
        self._warned = False
        if not self._files:
            what = f"only {len(found)} unreadable image files" if found else "no image files"
            raise DataError(
                f"The source folder holds {what}: give a folder with PNG or JPEG images, "
                "or choose a source that needs none, such as 'dead_leaves'."
            )
        if len(found) > len(self._files):
            warnings.warn(
                f"{len(found) - len(self._files)} of {len(found)} image files in the source folder cannot be read "
                "and are left out.",
                stacklevel=2,
            )

    def __len__(self) -> int:
        """How many pictures can be drawn."""
        return len(self._files)

    def _draw(self, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
        for _ in range(MAX_UNREADABLE):
            # A file whose data prove broken stays in the list: what a seed draws must not depend on earlier draws.
            file = self._files[self.R.randint(len(self._files))]
            try:
                content = Path(file).read_bytes()
                picture = open_picture(io.BytesIO(content))
            except Exception:  # Pillow raises errors of many types on broken files
                self._warn_once()
                continue
            identifier = hashlib.blake2b(content, digest_size=6).hexdigest()
            return fit_picture(picture, shape, self.R), f"{self.name}:{identifier}"
        raise DataError(
            f"{MAX_UNREADABLE} image files of the source folder in a row could not be read: "
            "remove the broken ones, or choose another source."
        )

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "An image file in the source folder is broken; it and others like it are passed over.", stacklevel=2
            )


def _find_pictures(root: Path) -> list[str]:
    """Paths of all files with a picture's suffix, in an order that does not depend on the file system."""
    found, seen = [], set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            below.clear()
            continue
        seen.add(real)
        # examples of a run are no second domain, and a run that began in here meanwhile must not change the draws
        if not OUTPUT_MARKS.isdisjoint((*below, *files)) and is_output_folder(folder):
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [
            os.path.join(folder, name)
            for name in sorted(files)
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return found


def _has_picture_header(file: str) -> bool:
    if not os.path.isfile(file):  # to open a named pipe would wait for ever
        return False
    try:
        with Image.open(file) as picture:
            return min(picture.size) > 0
    except Exception:  # as above
        return False
