# SPDX-License-Identifier: Apache-2.0
"""A MONAI image reader for `LoadImaged(reader=ScanReader)` in anyone's pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.scan import file_kind, scan
from monai_mixssl.data.volume import Volume
from monai_mixssl.errors import DataError

__all__ = ["ScanReader"]


class ScanReader(ImageReader):
    """Reads DICOM, NIfTI, PNG and JPEG, as the pretraining does; DICOM is told by content, not by name.

    A path is a file, or a folder that holds the slices of one DICOM volume; a list of paths is the slices of one
    volume. Two series in one folder are refused, never interleaved.

    The metadata hold affine, spacing, shape and modality, and nothing from a header that could name a patient.
    `LoadImage` itself adds the path afterwards: `KeepAllowedMetadata` takes it out again. `LoadImage` also tries
    MONAI's own readers on what this one refuses.

    Raises:
        DataError: on `read`, where the path holds no image, more than one, or one that cannot be read.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Says whether all files are of a kind that this reader reads; endings do not matter."""
        for path in ensure_tuple(filename):
            if os.path.isdir(path):
                continue
            try:
                file_kind(Path(path))
            except LeftOut:
                return False
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Volume:
        """Reads one image or volume."""
        # the ids are thrown away, so that any salt will do
        found = scan([str(path) for path in ensure_tuple(data)], salt=b"", progress=False)
        if len(found.images) != 1:
            why = {one.reason for one in found.excluded} if not found.images else set()
            raise DataError(
                f"{len(found.images)} images or volumes are where one was expected"
                + (f" ({', '.join(sorted(why))})" if why else "")
                + "; give the files of a single one."
            )
        return read_image(found.images[0])

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the array, (x, y[, z]) with colours last, and the metadata that may go on."""
        grey = img.array.shape[0] == 1
        array = img.array[0] if grey else np.moveaxis(img.array, 0, -1)
        spatial = img.array.shape[1:]
        steps = (*(img.spacing or ()), 1.0, 1.0, 1.0)[:3]
        affine = np.diag([*steps, 1.0]) if img.affine is None else img.affine
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(spatial),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if grey else -1,
            "spacing": img.spacing,
            "modality": img.modality,
        }
        return array, meta
