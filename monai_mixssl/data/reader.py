# SPDX-License-Identifier: Apache-2.0
"""A MONAI image reader for `LoadImaged(reader=ScanReader)` in anyone's pipeline."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import Excluded, LeftOut
from monai_mixssl.data.scan import file_kind, scan
from monai_mixssl.data.slice_stack import GEOMETRIES
from monai_mixssl.data.volume import Volume
from monai_mixssl.errors import ConfigError, DataError, UnreadableImageError

__all__ = ["Refusal", "ScanReader"]


@dataclass(frozen=True)
class Refusal:
    """Stands for an image that cannot be read: what `ScanReader.read` returns, and `get_data` raises."""

    error: DataError


class ScanReader(ImageReader):
    """Reads DICOM, NIfTI, NRRD, MetaImage, PNG and JPEG, as the pretraining does; told by content, not by name.

    A path is a file, or a folder that holds the slices of one DICOM volume; a list of paths is the slices of one
    volume. Two series in one folder are refused, never interleaved.

    The metadata hold affine, spacing, shape, modality and notes on what is unusual, and nothing from a header that
    could name a patient. `LoadImage` itself adds the path afterwards: `KeepAllowedMetadata` takes it out again.

    An exception in `read` makes `LoadImage` try MONAI's own readers, which may well return a wrong image where this one
    has refused a folder for good reason. Therefore `read` never raises: it returns a `Refusal`, and `get_data` raises
    what it holds.

    Args:
        geometry: what becomes of DICOM volumes that are tilted, unevenly spaced or lack slices: "accept", "resample"
            or "refuse", see `read_image`. Whatever is done is in the notes.
        volume: number of the volume, from 0, where there are several (time points, echoes, two series in one folder);
            None: several are refused.

    Raises:
        ConfigError: unknown geometry.
        DataError: on `get_data`, where the path holds no image, more than one, or one that cannot be read.
    """

    def __init__(self, geometry: str = "accept", volume: int | None = None) -> None:
        super().__init__()
        if geometry not in GEOMETRIES:
            raise ConfigError(f"geometry is {geometry!r}; use one of {', '.join(GEOMETRIES)}.")
        self.geometry = geometry
        self.volume = volume

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Says whether all files are of a kind that this reader reads; endings do not matter."""
        for path in ensure_tuple(filename):
            if os.path.isdir(path):
                continue
            try:
                file_kind(str(path))
            except LeftOut:
                return False
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Volume | Refusal:
        """Reads one image or volume, or says why it cannot be read; never raises, see the class."""
        try:
            return self._read([str(path) for path in ensure_tuple(data)])
        except DataError as error:
            return Refusal(error)
        except Exception as error:  # an exception would make LoadImage try other readers; messages may hold a path
            return Refusal(UnreadableImageError(f"The image cannot be read ({type(error).__name__}); leave it out."))

    def _read(self, paths: list[str]) -> Volume:
        if not paths:
            raise DataError("There is nothing to be read: the list of files is empty; give one file or more.")
        if not all(os.path.exists(path) for path in paths):
            raise UnreadableImageError("There is no such file or folder; put it back, or leave it out.")
        # the ids are thrown away, so that any salt will do
        found = scan(paths, salt=b"", progress=False)
        images, excluded = found.images, found.excluded
        if self.volume is not None and len(images) > 1:
            if not 0 <= self.volume < len(images):
                raise DataError(f"There are {len(images)} volumes and volume is {self.volume}; count from 0.")
            images = images[self.volume : self.volume + 1]
        if not images and not excluded:
            raise UnreadableImageError("There is no image to be read: the folder is empty; fill it, or leave it out.")
        if not images:
            reasons = ", ".join(sorted(_counts(excluded)))
            raise UnreadableImageError(f"There is no image to be read ({reasons}); leave it out.")
        if len(images) > 1:
            raise DataError(
                f"{len(images)} images or volumes are where one was expected; give the files of a single one, or "
                "choose it with ScanReader's volume."
            )
        volume = read_image(images[0], self.geometry)
        left_out = tuple(f"{count} left out: {reason}" for reason, count in sorted(_counts(excluded).items()))
        return replace(volume, notes=(*volume.notes, *left_out))

    def get_data(self, img: Volume | Refusal) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the array, (x, y[, z]) with colours last, and the metadata that may go on.

        Raises:
            DataError: `read` could not read it.
        """
        if isinstance(img, Refusal):
            raise img.error
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
            "modality": img.modality,
            "notes": "; ".join(img.notes),  # one text: lists of different lengths could not be put into a batch
        }
        if img.spacing is not None:  # a batch cannot hold None either
            meta["spacing"] = img.spacing
        return array, meta


def _counts(excluded: Sequence[Excluded]) -> Counter[str]:
    return Counter(one.reason for one in excluded)
