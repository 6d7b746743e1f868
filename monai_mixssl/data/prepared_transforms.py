# SPDX-License-Identifier: Apache-2.0
"""Loads prepared images: the first transform of training."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_mixssl.data.damage import is_the_files
from monai_mixssl.data.restore import restore_array
from monai_mixssl.errors import UnreadableImageError

__all__ = ["LoadPrepared", "LoadPreparedD", "LoadPreparedDict", "LoadPreparedd"]

logger = logging.getLogger(__name__)


class LoadPrepared(Transform):
    """Loads a prepared image by its id.

    Only the slice that is asked for is read from the disk. A damaged array is made again from its scan, which is the
    same to the last bit, or is not used.

    Args:
        folder: where the arrays lie, `PreparedData.folder`.
        mapped: give the values as they are stored, float16, on a memory map: nothing is read before it is used. For a
            `RandForegroundCrop` right after it, which then reads its patch alone and makes float32 of that.

    Raises:
        UnreadableImageError: on call, when neither the array nor its scan can be read any more.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, folder: str | Path, mapped: bool = False) -> None:
        self.folder = Path(folder)
        self.mapped = mapped

    def __call__(self, image_id: str, number: int | None = None) -> MetaTensor:
        """Returns values in [0, 1], float32 or, mapped, float16.

        (C, x, y, z) in 3D, (C, rows, columns) for slice `number` in 2D.

        Metadata: "id", "affine", "spacing" (millimetres per pixel; absent where unknown, since loaders cannot make a
        batch of None), and in 2D "slice", the number of the slice in the volume.
        """
        try:
            return self._load(image_id, number)
        except Exception as error:  # whatever a damaged file makes JSON and NumPy raise
            if not is_the_files(error):
                raise
            if not restore_array(self.folder, image_id):
                raise UnreadableImageError(
                    f"The prepared image {image_id} cannot be read ({type(error).__name__}), nor can the scan that it "
                    "was made from; put the data back (private/files.csv says which file it is) and go on with "
                    "--resume True.",
                    image_id,
                ) from None
        logger.warning(f"The prepared image {image_id} was damaged and has been made again from its scan.")
        return self._load(image_id, number)

    def _load(self, image_id: str, number: int | None) -> MetaTensor:
        outcome, record = json.loads((self.folder / f"{image_id}.json").read_text())["outcome"]
        # copy on write: whoever changes the values in place changes his own copy, never the file
        stored = np.load(self.folder / f"{image_id}.npy", mmap_mode="c")
        if outcome != "done" or list(stored.shape) != record["shape"]:
            raise ValueError
        chosen = stored if number is None else stored[number]
        array = torch.from_numpy(chosen if self.mapped else np.array(chosen, dtype=np.float32))
        meta: dict[str, Any] = {"id": image_id}
        if record["spacing"] is not None:
            meta["spacing"] = record["spacing"]
        if number is not None:
            meta["slice"] = record["slices"][number]
        if "affine" in record:
            affine = torch.as_tensor(record["affine"], dtype=torch.float64)
        else:
            affine = torch.diag(torch.tensor([*(record["spacing"] or (1.0, 1.0)), 1.0, 1.0], dtype=torch.float64))
        return MetaTensor(array, affine=affine, meta=meta)


class LoadPreparedd(MapTransform):
    """Dictionary version of `LoadPrepared`: replaces the id under each key by the image.

    Args:
        keys: keys that hold ids.
        folder: where the arrays lie, `PreparedData.folder`.
        slice_key: key of the slice's number, which 3D items do not have.
        mapped: see `LoadPrepared`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = LoadPrepared.backend

    def __init__(
        self,
        keys: KeysCollection,
        folder: str | Path,
        slice_key: str = "slice",
        allow_missing_keys: bool = False,
        mapped: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadPrepared(folder, mapped)
        self.slice_key = slice_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key], d.get(self.slice_key))
        return d


LoadPreparedD = LoadPreparedDict = LoadPreparedd
