# SPDX-License-Identifier: Apache-2.0
"""From an image's own grid to the one that the encoder was trained on, and back."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation, Spacing
from monai.utils import TraceKeys, TransformBackends, convert_to_numpy, ensure_tuple_rep

from monai_mixssl.errors import ConfigError

__all__ = ["NetworkGrid", "NetworkGridD", "NetworkGridDict", "NetworkGridd"]

_VOLUME = "RAS"
# slices as a viewer shows them, by the world axis that they lie along: see `orientation.upright`
_SLICES = {0: "IPR", 1: "ILA", 2: "PLS"}
_PICTURE = "ARS"  # (x, y) as stored to (rows, columns)


class NetworkGrid(InvertibleTransform):
    """Turns an image as pretraining does, and resamples it to the recorded spacing, with MONAI's transforms.

    In 3D an image comes out as (C, right, front, top); in 2D as (C, rows, columns, slices), each slice upright.

    Args:
        spatial_dims: 2 or 3.
        spacing: millimetres, one number or one an axis of the network's images (in 2D rows, columns); None: as stored.
            Images that state no spacing stay as they are.

    Raises:
        ConfigError: a value is out of its range.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, spatial_dims: int = 3, spacing: float | Sequence[float] | None = None) -> None:
        if spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {spatial_dims!r}; use 2 or 3.")
        self.spatial_dims = spatial_dims
        codes = [*_SLICES.values(), _PICTURE] if spatial_dims == 2 else []
        self.to_volume = Orientation(axcodes=_VOLUME, labels=None)
        self.to_slices = {code: Orientation(axcodes=code, labels=None) for code in codes}
        self.spacings: dict[str, Spacing] = {}
        if spacing is not None:
            steps = [float(s) for s in (spacing if isinstance(spacing, Sequence) else [spacing] * spatial_dims)]
            if len(steps) != spatial_dims or not all(step > 0 for step in steps):
                raise ConfigError(f"spacing is {spacing!r}; use one number above 0, or {spatial_dims} of them.")
            for code in codes or [_VOLUME]:
                pixdim = _along_volume(code, steps) if codes else steps
                self.spacings[code] = Spacing(pixdim, mode="bilinear", padding_mode="border", dtype=np.float32)

    @property
    def resamples(self) -> bool:
        """Whether images that state a spacing are interpolated, and not only turned."""
        return bool(self.spacings)

    def __call__(self, img: MetaTensor, mode: str = "bilinear") -> MetaTensor:
        """Takes (C, x, y, z) with the metadata of `LoadScan`; `mode` is the interpolation, "nearest" for masks."""
        code = self._code(img)
        out: Any = self.to_volume(img)
        if self.spacings and _states_spacing(img):
            out = self.spacings[code](out, mode=mode)  # in the same voxel order as in pretraining: borders fall alike
        if code in self.to_slices:
            out = self.to_slices[code](out)
        out.applied_operations = _kept(out.applied_operations)
        result: MetaTensor = out
        return result

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Takes what the transform gave, and leaves it as it is."""
        return self._undo(data.as_tensor(), data)

    def back(self, values: torch.Tensor, image: MetaTensor) -> torch.Tensor:
        """Brings values on the network's grid back to the image's own grid.

        Args:
            values: (C, *spatial), such as one class's probability.
            image: (any, *spatial), what this transform has made of the image.

        Returns:
            (C, x, y, z), interpolated linearly where the image was resampled.
        """
        return self._undo(values, image).as_tensor()

    def _undo(self, values: torch.Tensor, image: MetaTensor) -> MetaTensor:
        # MONAI takes each operation off the tensor's list when it inverts it: off a copy here
        trace = copy.deepcopy(image.applied_operations)
        out: Any = MetaTensor(values, affine=image.affine, meta=_without_affine(image), applied_operations=trace)
        code = self._code(image)
        if code in self.to_slices:
            out = self.to_slices[code].inverse(out)
        if self.spacings and _states_spacing(image):
            out = self.spacings[code].inverse(out)
        turned: Any = self.to_volume.inverse(out)
        result: MetaTensor = turned
        return result

    def _code(self, img: MetaTensor) -> str:
        """How the network's axes run in this image, from what its metadata say of it as it was read."""
        if self.spatial_dims == 3:
            return _VOLUME
        if bool(img.meta["picture"]):
            return _PICTURE
        orientation: Any = nib.orientations.io_orientation(convert_to_numpy(img.meta["original_affine"]))
        return _SLICES[int(orientation[int(img.meta["slice_axis"]), 0])]


class NetworkGridd(MapTransform, InvertibleTransform):
    """Dictionary version of `NetworkGrid`; masks are given with the mode "nearest".

    Args:
        keys: images, and masks in the same voxel order.
        spatial_dims, spacing: see `NetworkGrid`.
        mode: interpolation of each key.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = NetworkGrid.backend

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int = 3,
        spacing: float | Sequence[float] | None = None,
        mode: Sequence[str] | str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.grid = NetworkGrid(spatial_dims, spacing)
        self.mode = ensure_tuple_rep(mode, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self.grid(d[key], mode)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.grid.inverse(d[key])
        return d


NetworkGridD = NetworkGridDict = NetworkGridd


def _along_volume(code: str, steps: Sequence[float]) -> list[float]:
    """Spacing of rows and columns along the axes of a RAS volume; -1, which keeps it as it is, along the third."""
    wanted = [-1.0, -1.0, -1.0]
    for axis, step in zip(code[:2], steps, strict=True):
        wanted[next(number for number, pair in enumerate(("LR", "PA", "IS")) if axis in pair)] = step
    return wanted


def _kept(trace: Sequence[Mapping[Any, Any]]) -> list[dict[Any, Any]]:
    """A trace that stays good when the image goes to another process that was not forked, and is inverted in a third.

    MONAI compares the number of the object that did a transform, which another process does not know. And it keeps the
    affine as a view on the memory of a tensor, which torch frees when it moves the tensor to shared memory.
    """
    return [{**copy.deepcopy(dict(operation)), TraceKeys.ID: TraceKeys.NONE} for operation in trace]


def _states_spacing(img: MetaTensor) -> bool:
    return bool(np.any(np.asarray(img.meta["spacing"])))


def _without_affine(img: MetaTensor) -> dict[str, Any]:
    return {key: value for key, value in img.meta.items() if key != "affine"}
