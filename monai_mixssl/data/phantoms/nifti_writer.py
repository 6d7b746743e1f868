# SPDX-License-Identifier: Apache-2.0
"""Writes a phantom as a compressed NIfTI file."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from monai_mixssl.data.phantoms.volume import Phantom

__all__ = ["write_nifti"]


def write_nifti(phantom: Phantom, path: Path) -> None:
    """Writes ``phantom`` to ``path`` (.nii.gz), int16 with its affine; the same bytes each time."""
    image = nibabel.Nifti1Image(phantom.array.astype(np.int16), phantom.affine)
    image.set_qform(phantom.affine, code=1)
    image.set_sform(phantom.affine, code=1)
    image.header.set_xyzt_units("mm")
    # mtime would put the present moment into the file
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
