# SPDX-License-Identifier: Apache-2.0
"""An image as it was read, before anything is done to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Volume"]


@dataclass(frozen=True)
class Volume:
    """Pixels and where they lie.

    Attributes:
        array: (C, x, y) or (C, x, y, z); x runs along a row of pixels, y down its columns, C is 1, or 3 for colour.
        affine: 4×4 voxel-to-world matrix, RAS+ millimetres; None where the file has no position in a patient.
        spacing: millimetres along each spatial axis; None where the file states none.
        modality: DICOM modality, "" where unknown.
        notes: what is unusual, and what was done about it; no text from a header.
    """

    array: np.ndarray
    affine: np.ndarray | None
    spacing: tuple[float, ...] | None
    modality: str = ""
    notes: tuple[str, ...] = ()
