# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources import PowerLawNoise


def measured_slope(images: np.ndarray) -> float:
    """Slope of log power over log frequency, by least squares on the mean periodogram (N, *spatial) of all waves."""
    axes = tuple(range(1, images.ndim))
    power = (np.abs(np.fft.fftn(images, axes=axes)) ** 2).mean(0)
    grids = np.meshgrid(*[np.fft.fftfreq(n) for n in images.shape[1:]], indexing="ij")
    frequency = np.sqrt(sum(grid**2 for grid in grids))
    keep = frequency > 0
    return float(np.polyfit(np.log(frequency[keep]), np.log(power[keep]), 1)[0])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("spatial", [(64, 64), (41, 64), (24, 24, 24), (16, 32, 21)], ids=str)
def test_the_power_falls_with_frequency_by_the_exponent(alpha, spatial):
    source = PowerLawNoise(alpha).set_random_state(0)
    # the stretch to [0, 1] differs from image to image, so each is standardised first
    images = np.stack([source((1, *spatial))[0][0].numpy().astype(float) for _ in range(40)])
    images /= images.std(axis=tuple(range(1, images.ndim)), keepdims=True)
    assert measured_slope(images) == pytest.approx(-alpha, abs=0.05)


def test_the_exponent_varies_within_its_range_from_image_to_image():
    source = PowerLawNoise((1.0, 3.0)).set_random_state(0)
    slopes = [measured_slope(source((1, 128, 128))[0].numpy().astype(float)) for _ in range(60)]
    assert min(slopes) == pytest.approx(-3.0, abs=0.15)
    assert max(slopes) == pytest.approx(-1.0, abs=0.15)
    assert np.mean(slopes) == pytest.approx(-2.0, abs=0.25)


def test_every_channel_spans_0_to_1_and_channels_are_independent():
    image = PowerLawNoise(0.0).set_random_state(1)((3, 96, 96))[0].numpy().reshape(3, -1)
    np.testing.assert_allclose(image.min(1), 0.0, atol=1e-6)
    np.testing.assert_allclose(image.max(1), 1.0, atol=1e-6)
    # the correlation of 9216 independent pairs has a standard deviation of about 0.01
    assert np.abs(np.corrcoef(image)[np.triu_indices(3, 1)]).max() < 0.05


@pytest.mark.parametrize("alpha", [-0.5, (2.0, 1.0), (0.0, 9.0), float("nan"), (1.0, 2.0, 3.0), "2", None])
def test_an_exponent_out_of_range_is_refused(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        PowerLawNoise(alpha)
