# SPDX-License-Identifier: Apache-2.0
"""Brings intensities to [0, 1] by a rule that depends on the modality and is recorded."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy

from monai_mixssl.data.foreground import FOREGROUND
from monai_mixssl.errors import ConfigError, DataError

__all__ = [
    "CT_WINDOWS",
    "NORMALIZATIONS",
    "Normalization",
    "NormalizeByModality",
    "NormalizeByModalityD",
    "NormalizeByModalityDict",
    "NormalizeByModalityd",
    "check_normalization",
    "choose_normalization",
]

HOUNSFIELD = (-1000.0, 1000.0)  # air to dense bone
CT_WINDOWS = {  # Hounsfield units; as radiologists set them: centre ± half the width
    "hounsfield": HOUNSFIELD,
    "brain": (0.0, 80.0),
    "soft_tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1350.0),
}
NORMALIZATIONS = ("auto", "auto_zscore", "percentiles", "zscore", *CT_WINDOWS)
DEVIATIONS = 3.0  # of the foreground's mean: what lies further away is clipped
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


def choose_normalization(
    array: np.ndarray, modality: str = "", rule: str = "auto", window: tuple[float, float] | None = None
) -> Normalization:
    """Decides how an image is normalised.

    CT in Hounsfield units is clipped to −1000…1000 HU, so that a tissue has the same value in every image. All else has
    no absolute scale: the 0.5th and 99.5th percentile of the image become 0 and 1. CT whose values cannot be Hounsfield
    units (nothing below −200) is treated so too.

    Args:
        array: finite values of any shape.
        modality: DICOM modality, "" where unknown.
        rule: "auto"; "auto_zscore": as "auto", but MR by "zscore"; or, whatever the modality: "percentiles"; "zscore":
            mean − 3 and mean + 3 standard deviations of the foreground (what lies above a tenth of the range of the
            percentiles) become 0 and 1; or a window in Hounsfield units, see `CT_WINDOWS`.
        window: (low, high) in Hounsfield units that takes the place of −1000 and 1000 where "auto", "auto_zscore" or
            "hounsfield" come to Hounsfield units; None: those.

    Raises:
        ConfigError: unknown rule, or a window that is none.
        DataError: all values are equal.
    """
    check_normalization(rule, window)
    smallest, largest = float(array.min()), float(array.max())
    if not largest > smallest:
        raise DataError("All values of the image are equal, so it cannot be normalised; leave it out.")
    by_modality = rule in ("auto", "auto_zscore")
    if by_modality and modality == "CT" and smallest < AIR:
        rule = "hounsfield"
    if rule in CT_WINDOWS:
        return Normalization(rule, *(window or HOUNSFIELD) if rule == "hounsfield" else CT_WINDOWS[rule])
    values = spread_sample(array, SAMPLE)
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if not high > low:  # almost everything is background: the percentiles coincide
        low, high = smallest, largest
    if rule == "zscore" or (rule == "auto_zscore" and modality == "MR"):
        foreground = values[values > low + FOREGROUND * (high - low)].astype(np.float64)
        mean, deviation = float(foreground.mean()), float(foreground.std())
        if deviation > 0:
            return Normalization("zscore", mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation)
    return Normalization("percentiles", low, high)


def spread_sample(array: np.ndarray, count: int) -> np.ndarray:
    """Every n-th value of an array, about ``count`` of them, from everywhere in it.

    n shares no factor with any side: one that did would see the same slices, rows or columns only.
    """
    step = max(1, array.size // count)
    while any(math.gcd(step, side) > 1 for side in array.shape):
        step += 1
    return array.reshape(-1)[::step]


def check_normalization(rule: str, window: tuple[float, float] | None = None) -> None:
    """Refuses an unknown rule, and a window that is none.

    Raises:
        ConfigError: one of these.
    """
    if rule not in NORMALIZATIONS:
        raise ConfigError(f"normalization is {rule!r}; use one of {', '.join(NORMALIZATIONS)}.")
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise ConfigError(f"window is {window!r}; use a low and a high value in Hounsfield units.")


class NormalizeByModality(Transform):
    """Normalises an image to [0, 1] by the rule for its modality, see `choose_normalization`.

    The modality is read from the `MetaTensor`'s metadata (`ScanReader` leaves it there); what was done is added there
    as "normalization": {"rule", "low", "high"}.

    Args:
        rule: "auto", "auto_zscore", "percentiles", "zscore", or a window of `CT_WINDOWS` by name.
        window: (low, high) in Hounsfield units instead of −1000 and 1000.

    Raises:
        ConfigError: unknown rule, or a window that is none.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, rule: str = "auto", window: tuple[float, float] | None = None) -> None:
        check_normalization(rule, window)
        self.rule = rule
        self.window = None if window is None else (float(window[0]), float(window[1]))

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Takes (C, *spatial) of any type and returns float32 in [0, 1]; all channels share one scale."""
        meta = img.meta if isinstance(img, MetaTensor) else {}
        array = convert_to_numpy(img)
        done = choose_normalization(array, str(meta.get("modality", "")), self.rule, self.window)
        out: NdarrayOrTensor = convert_to_dst_type(done.apply(array), img, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta["normalization"] = done.as_dict()
        return out


class NormalizeByModalityd(MapTransform):
    """Dictionary version of `NormalizeByModality`."""

    backend = NormalizeByModality.backend

    def __init__(
        self,
        keys: KeysCollection,
        rule: str = "auto",
        window: tuple[float, float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalize = NormalizeByModality(rule, window)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.normalize(d[key])
        return d


NormalizeByModalityD = NormalizeByModalityDict = NormalizeByModalityd
