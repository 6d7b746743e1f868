# SPDX-License-Identifier: Apache-2.0
"""Loads whole images, with their masks, for segmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys, TransformBackends

from monai_mixssl.data.damage import is_the_files
from monai_mixssl.data.label_maps import class_numbers, grid_of, read_mask, read_one
from monai_mixssl.data.orientation import slice_axis
from monai_mixssl.data.prepare_image import LUMINANCE
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.volume import Volume
from monai_mixssl.errors import UnreadableImageError

__all__ = ["LoadScan", "LoadScanD", "LoadScanDict", "LoadScand"]


class LoadScan:
    """Reads an image (DICOM, NIfTI, PNG, JPEG, as pretraining does), and its mask in the same voxel order.

    MONAI's `LoadImage` would try its own readers on what ours refuses, and names the path where they fail, too.

    Args:
        in_channels: 1: colour becomes luminance. 3: grey is repeated.
        label_values: value in the masks of each class, background first; None where there are no masks.
    """

    def __init__(self, in_channels: int = 1, label_values: Sequence[int] | None = None) -> None:
        self.in_channels = in_channels
        self.label_values = None if label_values is None else [int(value) for value in label_values]

    def __call__(self, source: Any, mask: Any = None, image_id: str = "") -> tuple[MetaTensor, MetaTensor | None]:
        """Returns the image, (C, x, y, z) float32 as stored, and the mask, (1, x, y, z) uint8 class numbers, or None.

        A picture is a volume of one slice: x runs along a row, y down its columns. Metadata: "affine" (RAS+; made up
        for pictures), "spacing" (millimetres; 0 where the file states none), "slice_axis" (along which of x, y, z
        slices are taken in 2D), "modality", "id", "picture".

        Raises:
            UnreadableImageError: image or mask cannot be used; names the id alone.
        """
        try:
            found, volume = read_one(source)
            if not np.isfinite(volume.array).all():
                raise LeftOut("NaN or infinite values")
            grid = grid_of(volume)
            label = None if mask is None or self.label_values is None else read_mask(mask, grid)
            numbers = None if label is None else class_numbers(label, self.label_values or ())
        except Exception as error:  # whatever a damaged file does to a library
            if not is_the_files(error):
                raise
            reason = str(error) if isinstance(error, LeftOut) else f"cannot be read: {type(error).__name__}"
            raise UnreadableImageError(
                f"The image {image_id} cannot be used ({reason}); private/files.csv says which file it is: put it "
                "right, or leave it out.",
                image_id,
            ) from None
        affine = np.diag([*_picture_steps(volume), 1.0]) if volume.affine is None else volume.affine
        picture = volume.affine is None
        axis = 2 if picture or found.kind == "dicom" else slice_axis(grid.shape, affine)
        meta = {
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(grid.shape),
            "spacing": [0.0, 0.0, 0.0] if volume.spacing is None else _steps(affine),
            "modality": volume.modality,
            "slice_axis": axis,
            "picture": picture,
            "id": image_id,
        }
        array = _channels(volume.array.reshape(volume.array.shape[0], *grid.shape), self.in_channels)
        matrix = torch.from_numpy(affine)
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        image = MetaTensor(values, affine=matrix, meta=dict(meta))
        if numbers is None:
            return image, None
        return image, MetaTensor(torch.from_numpy(numbers[None].copy()), affine=matrix, meta=dict(meta))


class LoadScand(MapTransform):
    """Dictionary version of `LoadScan`: replaces what stands for an image and for its mask by the two.

    Args:
        keys: key of the image.
        label_key: key of the mask; an item without it has none.
        in_channels: see `LoadScan`.
        label_values: see `LoadScan`.
        allow_missing_keys: do not raise where the image's key is missing.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 (MONAI's convention)

    def __init__(
        self,
        keys: KeysCollection = "image",
        label_key: str = "label",
        in_channels: int = 1,
        label_values: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key
        self.load = LoadScan(in_channels, label_values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image, label = self.load(d[key], d.get(self.label_key), str(d.get("id", "")))
            d[key] = image
            if label is not None:
                d[self.label_key] = label
        return d


LoadScanD = LoadScanDict = LoadScand


def _steps(affine: np.ndarray) -> list[float]:
    return [float(step) for step in np.linalg.norm(affine[:3, :3], axis=0)]


def _picture_steps(volume: Volume) -> tuple[float, float, float]:
    """Steps of the made-up affine of what has no position in a patient."""
    right, down, through = (*(volume.spacing or ()), 1.0, 1.0, 1.0)[:3]
    return right, down, through


def _channels(array: np.ndarray, wanted: int) -> np.ndarray:
    if array.shape[0] == 3 and wanted == 1:
        return np.tensordot(np.asarray(LUMINANCE, dtype=np.float32), array.astype(np.float32), axes=1)[None]
    return np.repeat(array, wanted, axis=0) if array.shape[0] == 1 and wanted > 1 else array
