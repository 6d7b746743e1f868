# SPDX-License-Identifier: Apache-2.0
"""Predicted masks as files."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ignite.engine import Events
from monai.data import decollate_batch
from monai.engines.workflow import Workflow
from monai.utils import convert_to_numpy
from monai.utils.enums import CommonKeys as Keys
from PIL import Image

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.handlers.own_masks import MASKS

__all__ = ["MaskFiles"]


class MaskFiles:
    """Write each mask in the geometry of its image, named by the image's id.

    A volume's is ``<id>.nii.gz``, with the voxel order and the affine of the volume as it was read; a picture's, and a
    DICOM frame's that has no position, is ``<id>.png`` (``<id>.nii.gz`` where a class's value is below 0 or above
    65535). ``private/files.csv`` of the same output folder says which file
    is behind an id.

    Args:
        folder: made where it does not exist.
        values: the value to write for each class, background first; None: the class's number.

    Attributes:
        written: number of files written so far.
    """

    def __init__(self, folder: str | Path, values: Sequence[int] | None = None) -> None:
        self.folder = Path(folder)
        self.values = None if values is None else np.asarray(values)
        # one type for all masks of a run, whichever classes they show; classes without values are fewer than 256
        self.dtype = np.dtype(np.uint8) if self.values is None else _smallest_type(self.values)
        self.written = 0

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator, after :py:class:`~monai_mixssl.handlers.OwnMasks`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        """Write the masks of a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images = decollate_batch(engine.state.batch[Keys.IMAGE])
        for image_id, mask, image in zip(engine.state.batch["id"], engine.state.output[MASKS], images, strict=True):
            self._write(str(image_id), mask.numpy(), image.meta)

    def _write(self, image_id: str, mask: np.ndarray, meta: dict[Any, Any]) -> None:
        numbers = mask if self.values is None else self.values[mask]
        numbers = numbers.astype(self.dtype)
        if bool(meta["picture"]) and numbers.shape[2] == 1 and self.dtype in (np.uint8, np.uint16):
            name, content = f"{image_id}.png", _png(numbers[..., 0])
        else:
            name, content = f"{image_id}.nii.gz", _nifti(numbers, convert_to_numpy(meta["original_affine"]))
        write_atomically(self.folder / name, lambda file: file.write(content), "the masks")
        self.written += 1


def _smallest_type(values: np.ndarray) -> np.dtype[Any]:
    """The smallest integer type, unsigned first, that holds all values; background, 0, is written in any case."""
    smallest, largest = int(values.min(initial=0)), int(values.max(initial=0))
    limits = {name: np.iinfo(np.dtype(name)) for name in ("uint8", "uint16", "int16", "int32", "int64")}
    return np.dtype(next(name for name, of in limits.items() if of.min <= smallest and largest <= of.max))


def _nifti(mask: np.ndarray, affine: np.ndarray) -> bytes:
    # the type is meant: without it, nibabel refuses 64-bit integers, which few programs read
    image = nib.Nifti1Image(mask, np.asarray(affine, dtype=float), dtype=mask.dtype)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _png(mask: np.ndarray) -> bytes:
    """A mask (x, y) as grey values of the rows that a viewer shows."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask.T)).save(content, format="PNG")
    return content.getvalue()
