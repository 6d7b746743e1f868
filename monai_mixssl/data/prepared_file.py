# SPDX-License-Identifier: Apache-2.0
"""Tells a prepared array that is whole from one that is damaged, without reading its values."""

from __future__ import annotations

from pathlib import Path

from numpy.lib.format import MAGIC_PREFIX

__all__ = ["is_whole"]


def is_whole(folder: Path, image_id: str, size: int) -> bool:
    """Returns whether a prepared array and its record are there, as long as they were, and begin as arrays do.

    A file system that lost power may leave a file of the right length that is all zeros.

    Args:
        folder: where the arrays lie.
        image_id: which image.
        size: of the array's file, bytes.
    """
    path = folder / f"{image_id}.npy"
    try:
        if path.stat().st_size != size or not (folder / f"{image_id}.json").stat().st_size:
            return False
        with open(path, "rb") as file:
            return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
    except OSError:
        return False
