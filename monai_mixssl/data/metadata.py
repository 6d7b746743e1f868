# SPDX-License-Identifier: Apache-2.0
"""The metadata that may go on after reading: an allow-list, since what identifies a patient cannot be listed in full.

MONAI's own readers put PatientName and PatientID into `MetaTensor.meta`, and `LoadImage` adds the path.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

__all__ = [
    "ALLOWED_METADATA",
    "KeepAllowedMetadata",
    "KeepAllowedMetadataD",
    "KeepAllowedMetadataDict",
    "KeepAllowedMetadatad",
    "allowed_metadata",
]

ALLOWED_METADATA = frozenset(
    {
        "affine", "original_affine", "space", "spacing", "spatial_shape", "original_channel_dim", "modality",
        "normalization", "id", "slice", "notes",
    }
)  # fmt: skip


def allowed_metadata(meta: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the entries of `meta` that may go on."""
    return {key: value for key, value in meta.items() if key in ALLOWED_METADATA}


class KeepAllowedMetadata(Transform):
    """Drops every metadata entry that is not on the allow-list; stands right after `LoadImage`."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's convention)

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        if not isinstance(img, MetaTensor):
            return img
        return MetaTensor(img.as_tensor(), meta=allowed_metadata(img.meta))


class KeepAllowedMetadatad(MapTransform):
    """Dictionary version of `KeepAllowedMetadata`."""

    backend = KeepAllowedMetadata.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.keep = KeepAllowedMetadata()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.keep(d[key])
        return d


KeepAllowedMetadataD = KeepAllowedMetadataDict = KeepAllowedMetadatad
