# SPDX-License-Identifier: Apache-2.0
"""1/f^alpha noise: Gaussian noise whose power falls with spatial frequency as that of natural images does."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import fft

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources.base import ProceduralSource

__all__ = ["PowerLawNoise"]


class PowerLawNoise(ProceduralSource):
    r"""Noise with the power spectrum :math:`S(f) \propto |f|^{-\alpha}`, in two or three dimensions.

    White Gaussian noise is filtered by :math:`|f|^{-\alpha/2}` in Fourier space (f in cycles per pixel, without the
    constant term) and each channel is stretched to [0, 1]. Channels are independent and share alpha. Photographs
    have alpha near 2 (D. J. Field, J. Opt. Soc. Am. A 4, 1987); 0 is white noise. The image is periodic.

    Args:
        alpha: the exponent of the power (twice that of the amplitude), or a range ``(low, high)`` from which one is
            drawn uniformly per image. At least 0, at most 8.

    Raises:
        ConfigError: alpha is out of range or no range.

    Example:
        >>> picture, identifier = PowerLawNoise(alpha=2.0).set_random_state(0)((1, 16, 16))
        >>> picture.shape, picture.min().item(), picture.max().item()
        (torch.Size([1, 16, 16]), 0.0, 1.0)
    """

    name = "noise"

    def __init__(self, alpha: float | tuple[float, float] = (1.0, 3.0)) -> None:
        try:
            low, high = np.broadcast_to(np.asarray(alpha, dtype=float), 2).tolist()
        except (TypeError, ValueError):
            low = high = math.nan
        if isinstance(alpha, str) or not 0.0 <= low <= high <= 8.0:
            raise ConfigError(f"alpha {alpha!r} cannot be used: give a number or (low, high) between 0 and 8.")
        self.alpha = (low, high)

    def render(self, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
        alpha = random.uniform(*self.alpha)
        spatial = shape[1:]
        axes = tuple(range(1, len(shape)))
        white = random.standard_normal(shape).astype(np.float32)
        spectrum = fft.rfftn(white, axes=axes)
        spectrum *= np.exp(np.float32(-alpha / 2) * _log_frequency(spatial))
        noise: np.ndarray = fft.irfftn(spectrum, s=spatial, axes=axes)
        noise -= noise.min(axis=axes, keepdims=True)
        top = noise.max(axis=axes, keepdims=True)
        return noise / np.where(top > 0, top, np.float32(1))


@lru_cache(maxsize=8)
def _log_frequency(spatial: tuple[int, ...]) -> np.ndarray:
    """log |f| on the grid of ``rfftn``, float32; 0 at f = 0, whose term the stretch to [0, 1] takes out anyway."""
    squares = [np.fft.fftfreq(n) ** 2 for n in spatial[:-1]] + [np.fft.rfftfreq(spatial[-1]) ** 2]
    total = squares[0].reshape(-1, *[1] * (len(spatial) - 1))
    for axis, square in enumerate(squares[1:], start=1):
        total = total + square.reshape(-1, *[1] * (len(spatial) - 1 - axis))
    total[(0,) * len(spatial)] = 1.0
    log_frequency: np.ndarray = (0.5 * np.log(total)).astype(np.float32)
    return log_frequency
