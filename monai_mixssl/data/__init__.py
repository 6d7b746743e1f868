# SPDX-License-Identifier: Apache-2.0
"""Reading, preparing and loading of images; what is named here is of use in anyone's pipeline.

Loaded when first asked for: the readers import SimpleITK, pydicom and nibabel, which a sampler or a test of the
networks has no use for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_mixssl.data.foreground_crop import (
        RandForegroundCrop,
        RandForegroundCropD,
        RandForegroundCropd,
        RandForegroundCropDict,
    )
    from monai_mixssl.data.lenient_cache import LenientCacheDataset
    from monai_mixssl.data.metadata import (
        KeepAllowedMetadata,
        KeepAllowedMetadataD,
        KeepAllowedMetadatad,
        KeepAllowedMetadataDict,
    )
    from monai_mixssl.data.normalize import (
        NormalizeByModality,
        NormalizeByModalityD,
        NormalizeByModalityd,
        NormalizeByModalityDict,
    )
    from monai_mixssl.data.persistent_cache import CheckedPersistentDataset
    from monai_mixssl.data.prepared_transforms import LoadPrepared, LoadPreparedD, LoadPreparedd, LoadPreparedDict
    from monai_mixssl.data.reader import ScanReader
    from monai_mixssl.data.seeded_dataset import SeededDataset

__all__ = [
    "CheckedPersistentDataset",
    "KeepAllowedMetadata",
    "KeepAllowedMetadataD",
    "KeepAllowedMetadataDict",
    "KeepAllowedMetadatad",
    "LenientCacheDataset",
    "LoadPrepared",
    "LoadPreparedD",
    "LoadPreparedDict",
    "LoadPreparedd",
    "NormalizeByModality",
    "NormalizeByModalityD",
    "NormalizeByModalityDict",
    "NormalizeByModalityd",
    "RandForegroundCrop",
    "RandForegroundCropD",
    "RandForegroundCropDict",
    "RandForegroundCropd",
    "ScanReader",
    "SeededDataset",
]

_MODULES = {
    "CheckedPersistentDataset": "persistent_cache",
    "KeepAllowedMetadata": "metadata",
    "LenientCacheDataset": "lenient_cache",
    "LoadPrepared": "prepared_transforms",
    "NormalizeByModality": "normalize",
    "RandForegroundCrop": "foreground_crop",
    "ScanReader": "reader",
    "SeededDataset": "seeded_dataset",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next(module for start, module in _MODULES.items() if name.startswith(start))
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
