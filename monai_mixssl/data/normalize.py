# SPDX-License-Identifier: Apache-2.0
"""Brings intensities to [0, 1] by a rule that depends on the modality and is recorded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy

from monai_mixssl.errors import ConfigError, DataError

__all__ = [
    "NORMALIZATIONS",
    "Normalization",
    "NormalizeByModality",
    "NormalizeByModalityD",
    "NormalizeByModalityDict",
    "NormalizeByModalityd",
    "choose_normalization",
]

NORMALIZATIONS = ("auto", "hounsfield", "percentiles")
HOUNSFIELD = (-1000.0, 1000.0)  # air to dense bone
PERCENTILES = (0.5, 99.5)  # a few bright vessels or metal must not decide the scale
AIR = -200.0  # a CT without a single value below this (fat is about −100) is not in Hounsfield units
SAMPLE = 2_000_000  # values that the percentiles are taken from; sorting a whole large CT takes seconds


@dataclass(frozen=True)
class Normalization:
    """(value − low) / (high − low), clipped to [0, 1]; `rule` says where low and high come from."""

    rule: str
    low: float
    high: float

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Returns float32 values in [0, 1]."""
        scaled = (array.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(scaled, 0.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Returns what goes into records and checkpoints."""
        return asdict(self)


def choose_normalization(array: np.ndarray, modality: str = "", rule: str = "auto") -> Normalization:
    """Decides how an image is normalised.

    CT in Hounsfield units is clipped to −1000…1000 HU, so that a tissue has the same value in every image. All else has
    no absolute scale: the 0.5th and 99.5th percentile of the image become 0 and 1. CT whose values cannot be Hounsfield
    units (nothing below −200) is treated so too.

    Args:
        array: finite values of any shape.
        modality: DICOM modality, "" where unknown.
        rule: "auto", or one of the two by name.

    Raises:
        ConfigError: unknown rule.
        DataError: all values are equal.
    """
    if rule not in NORMALIZATIONS:
        raise ConfigError(f"normalization is {rule!r}; use one of {', '.join(NORMALIZATIONS)}.")
    smallest, largest = float(array.min()), float(array.max())
    if not largest > smallest:
        raise DataError("All values of the image are equal, so it cannot be normalised; leave it out.")
    if rule == "hounsfield" or (rule == "auto" and modality == "CT" and smallest < AIR):
        return Normalization("hounsfield", *HOUNSFIELD)
    step = max(1, array.size // SAMPLE)
    low, high = (float(value) for value in np.percentile(array.reshape(-1)[::step], PERCENTILES))
    if not high > low:  # almost everything is background: the percentiles coincide
        low, high = smallest, largest
    return Normalization("percentiles", low, high)


class NormalizeByModality(Transform):
    """Normalises an image to [0, 1] by the rule for its modality, see `choose_normalization`.

    The modality is read from the `MetaTensor`'s metadata (`ScanReader` leaves it there); what was done is added there
    as "normalization": {"rule", "low", "high"}.

    Args:
        rule: "auto", "hounsfield" or "percentiles".

    Raises:
        ConfigError: unknown rule.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, rule: str = "auto") -> None:
        if rule not in NORMALIZATIONS:
            raise ConfigError(f"normalization is {rule!r}; use one of {', '.join(NORMALIZATIONS)}.")
        self.rule = rule

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Takes (C, *spatial) of any type and returns float32 in [0, 1]; all channels share one scale."""
        meta = img.meta if isinstance(img, MetaTensor) else {}
        array = convert_to_numpy(img)
        done = choose_normalization(array, str(meta.get("modality", "")), self.rule)
        out: NdarrayOrTensor = convert_to_dst_type(done.apply(array), img, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta["normalization"] = done.as_dict()
        return out


class NormalizeByModalityd(MapTransform):
    """Dictionary version of `NormalizeByModality`."""

    backend = NormalizeByModality.backend

    def __init__(self, keys: KeysCollection, rule: str = "auto", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalize = NormalizeByModality(rule)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.normalize(d[key])
        return d


NormalizeByModalityD = NormalizeByModalityDict = NormalizeByModalityd
