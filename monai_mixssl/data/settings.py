# SPDX-License-Identifier: Apache-2.0
"""How images are prepared: recorded in the checkpoint, so that fine-tuning and inference do the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monai.utils import ensure_tuple_rep

from monai_mixssl.data.normalize import check_normalization
from monai_mixssl.data.slice_stack import GEOMETRIES
from monai_mixssl.errors import ConfigError

__all__ = ["PrepareSettings"]

VERSION = 3  # raised whenever the same input would be prepared differently: older prepared files are then not re-used


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of `prepare_image`.

    Args:
        spatial_dims: 2: volumes give slices. 3: single images are left out.
        in_channels: 1: colour becomes luminance. 3: grey is repeated.
        patch_size: size of training patches, a number or one per axis; cropping keeps images at least this large.
        spacing: millimetres per pixel that images are resampled to, a number or one per axis; None: as stored. Images
            that state no spacing stay as they are.
        normalization: "auto" (by modality), or another rule of `choose_normalization`.
        min_foreground: least share of foreground in an image or slice, in [0, 1].
        max_pad: how many times larger than an image the patch may be, at least 1; smaller images are left out. The key
            of the configuration, which messages name, is `max_pad_factor`.
        geometry: what becomes of DICOM volumes that are tilted, unevenly spaced or lack slices: "accept", "resample" or
            "refuse", see `read_image`.

    Raises:
        ConfigError: a value is out of its range.
    """

    spatial_dims: int = 2
    in_channels: int = 1
    patch_size: tuple[int, ...] | int = 64
    spacing: tuple[float, ...] | float | None = None
    normalization: str = "auto"
    min_foreground: float = 0.1
    max_pad: float = 2.0
    geometry: str = "accept"

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {self.spatial_dims!r}; use 2 or 3.")
        if self.in_channels not in (1, 3):
            raise ConfigError(f"in_channels is {self.in_channels!r}; use 1 (grey) or 3 (colour).")
        check_normalization(self.normalization)
        if self.geometry not in GEOMETRIES:
            raise ConfigError(f"geometry is {self.geometry!r}; use one of {', '.join(GEOMETRIES)}.")
        if not 0 <= self.min_foreground <= 1:
            raise ConfigError(f"min_foreground is {self.min_foreground!r}; use a share from 0 to 1.")
        if not self.max_pad >= 1:
            raise ConfigError(f"max_pad_factor is {self.max_pad!r}; use 1 (no padding) or more.")
        patch = self._per_axis("patch_size", self.patch_size)
        if any(size < 1 or size != int(size) for size in patch):
            raise ConfigError(f"patch_size is {self.patch_size!r}; use whole numbers of at least 1.")
        object.__setattr__(self, "patch_size", tuple(int(size) for size in patch))
        if self.spacing is not None:
            spacing = tuple(float(step) for step in self._per_axis("spacing", self.spacing))
            if not all(0 < step < float("inf") for step in spacing):
                raise ConfigError(f"spacing is {self.spacing!r}; use millimetres above 0, or leave it out.")
            object.__setattr__(self, "spacing", spacing)

    def _per_axis(self, name: str, value: Any) -> Sequence[Any]:
        try:
            values: Sequence[Any] = ensure_tuple_rep(value, self.spatial_dims)
        except ValueError:
            values = ()
        if len(values) != self.spatial_dims or not all(isinstance(one, (int, float)) for one in values):
            raise ConfigError(f"{name} is {value!r}; use one number, or {self.spatial_dims} of them.")
        return values

    def as_dict(self) -> dict[str, Any]:
        """Returns what goes into the manifest and the checkpoint, JSON types only."""
        result: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return result

    def fingerprint(self) -> str:
        """Returns a hash that changes when images would be prepared differently."""
        settings = self.as_dict()
        if settings["geometry"] == "accept":  # as it was before there was a choice: those files are still good
            del settings["geometry"]
        text = json.dumps({"version": VERSION, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
