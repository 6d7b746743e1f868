# SPDX-License-Identifier: Apache-2.0
"""Made-up patients: head-like volumes with known labels, in memory or written as DICOM series and NIfTI files."""

from __future__ import annotations

from monai_mixssl.data.phantoms.dataset import PATIENTS, write_phantoms
from monai_mixssl.data.phantoms.segmentation import SEGMENTATION_CLASSES, write_segmentation_phantoms
from monai_mixssl.data.phantoms.volume import Phantom, phantom_volume, phantom_with_mask

__all__ = [
    "PATIENTS",
    "SEGMENTATION_CLASSES",
    "Phantom",
    "phantom_volume",
    "phantom_with_mask",
    "write_phantoms",
    "write_segmentation_phantoms",
]
