# SPDX-License-Identifier: Apache-2.0
"""How a made-up scanner sees the head: tissue contrast, shading, noise and the scale of its numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_mixssl.data.phantoms.anatomy import Tissue

__all__ = ["PROTOCOLS", "Contrast", "draw_contrast", "draw_scan"]

PROTOCOLS = ("T1", "T2", "CT")

# Air, scalp, skull, cerebrospinal fluid, grey, white; MR relative to a bright tissue = 1, CT in Hounsfield units.
_TISSUE_VALUES = {
    "T1": (0.0, 0.85, 0.12, 0.20, 0.52, 0.74),
    "T2": (0.0, 0.50, 0.10, 0.95, 0.62, 0.42),
    "CT": (-1000.0, 20.0, 850.0, 5.0, 42.0, 28.0),
}


class Contrast(NamedTuple):
    """What the tissues and findings of one patient look like in one acquisition.

    Attributes:
        values: intensity by :class:`Tissue` number; MR relative, CT in Hounsfield units.
        brain: mean intensity of the brain.
        finding: difference from the brain of a finding of contrast 1.
    """

    values: np.ndarray
    brain: float
    finding: float


def draw_contrast(protocol: str, rng: np.random.RandomState) -> Contrast:
    """Draws the patient's tissue intensities for "T1", "T2" or "CT"."""
    values = np.array(_TISSUE_VALUES[protocol], dtype=np.float32)
    jitter = rng.uniform(-1.0, 1.0, size=values.size).astype(np.float32)
    if protocol == "CT":
        values += jitter * np.array([0.0, 20.0, 150.0, 4.0, 4.0, 4.0], dtype=np.float32)
        # In reality 30 to 100 HU. Calcified or fatty here, as [-1000, 1000] HU becomes [0, 1] in front of a network.
        finding = 450.0
    else:
        values *= 1.0 + np.float32(0.12) * jitter
        finding = 0.42
    return Contrast(values, float(values[[Tissue.GREY, Tissue.WHITE]].mean()), finding)


def _bias_field(shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    """A smooth gain around 1, about ±25 %, as a receive coil's: the exponential of a second-order polynomial."""
    x, y, z = np.meshgrid(*(np.linspace(-1.0, 1.0, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    a = rng.uniform(-0.12, 0.12, size=6).astype(np.float32)
    return np.exp(a[0] * x + a[1] * y + a[2] * z + a[3] * x * y + a[4] * (x**2 - 0.3) + a[5] * (y**2 - 0.3))


def draw_scan(ideal: np.ndarray, protocol: str, rng: np.random.RandomState) -> np.ndarray:
    """Turns ideal intensities into what the scanner stores.

    MR: coil shading, Rician noise of 1.5 to 3 %, and a scale of its own per patient (a bright tissue is 150 to 3000).
    CT: Gaussian noise of 8 to 16 HU, clipped to -1024 to 3071 HU.

    Args:
        ideal: intensities, (X, Y, Z); MR relative, CT in Hounsfield units.
        protocol: "T1", "T2" or "CT".
        rng: where shading, noise and scale are drawn from.

    Returns:
        Whole numbers, int16 of shape (X, Y, Z).
    """
    if protocol == "CT":
        noise = rng.uniform(8.0, 16.0) * rng.standard_normal(ideal.shape)
        return np.clip(np.rint(ideal + noise), -1024, 3071).astype(np.int16)
    signal = ideal * _bias_field(ideal.shape, rng)
    sigma = rng.uniform(0.015, 0.03)
    real, imaginary = sigma * rng.standard_normal((2, *ideal.shape))
    magnitude = np.sqrt((signal + real) ** 2 + imaginary**2)
    scale = 10.0 ** rng.uniform(np.log10(150.0), np.log10(3000.0))
    return np.clip(np.rint(magnitude * scale), 0, 32767).astype(np.int16)
