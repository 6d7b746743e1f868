# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from monai_mixssl.sources import DeadLeaves
from monai_mixssl.sources.dead_leaves import leaf_radii


def flat_share(image: np.ndarray) -> float:
    """Part of all pairs of neighbours, along any axis, that are equal."""
    return float(np.concatenate([(np.diff(image, axis=axis) == 0).ravel() for axis in range(image.ndim)]).mean())


@pytest.mark.parametrize(("shape", "least"), [((1, 64, 64), 0.75), ((1, 40, 40, 40), 0.65)])
def test_an_image_is_piecewise_constant(shape, least):
    source = DeadLeaves().set_random_state(0)
    for _ in range(10):
        image = source(shape)[0][0].numpy()
        assert least < flat_share(image) < 1.0
        # few values, of which none is a blend of others
        assert 10 < len(np.unique(image)) < 3000


@pytest.mark.parametrize("dims", [2, 3])
def test_radii_follow_the_power_law(dims):
    low, high = 1.5, 24.0
    radii = leaf_radii(np.random.RandomState(0), 20000, low, high, dims)
    assert radii.min() >= low
    assert radii.max() <= high
    # the law's distribution function, by numerical integration of its density
    total = integrate.quad(lambda r: r ** -(dims + 1), low, high)[0]
    grid = np.geomspace(low, high, 400)
    cumulative = [integrate.quad(lambda r: r ** -(dims + 1), low, r)[0] / total for r in grid]
    assert stats.kstest(radii, lambda r: np.interp(r, grid, cumulative)).pvalue > 0.01


def test_halving_the_resolution_leaves_the_statistics_as_they_were():
    # scale invariance: the share of equal neighbours at lag 2 of a 64-pixel image is that at lag 1 of a 32-pixel one
    source = DeadLeaves().set_random_state(0)
    large = [source((1, 64, 64))[0][0].numpy() for _ in range(150)]
    small = [source((1, 32, 32))[0][0].numpy() for _ in range(150)]
    at_two = np.mean([(image[:, 2:] == image[:, :-2]).mean() for image in large])
    at_one = np.mean([(image[:, 1:] == image[:, :-1]).mean() for image in small])
    assert at_two == pytest.approx(at_one, abs=0.02)


def test_no_axis_and_no_place_is_preferred():
    source = DeadLeaves().set_random_state(0)
    images = np.stack([source((1, 24, 24, 24))[0][0].numpy() for _ in range(60)])
    edges = [(np.diff(images, axis=axis) != 0).mean() for axis in (1, 2, 3)]
    assert max(edges) / min(edges) < 1.05
    # values are uniform in [0, 1]: mean 1/2, variance 1/12, at every pixel
    assert images.mean() == pytest.approx(0.5, abs=0.02)
    assert images.var() == pytest.approx(1 / 12, abs=0.01)


def test_one_leaf_has_one_colour():
    image = DeadLeaves().set_random_state(3)((3, 64, 64))[0].numpy()
    changed = [np.diff(channel, axis=1) != 0 for channel in image]
    np.testing.assert_array_equal(changed[0], changed[1])
    np.testing.assert_array_equal(changed[0], changed[2])
    assert not np.array_equal(image[0], image[1])


def test_there_are_slanted_edges_besides_those_along_the_axes():
    # boxes alone would leave every 2 x 2 block with edges along one axis only, or with a full corner
    source = DeadLeaves().set_random_state(0)
    image = np.stack([source((1, 128, 128))[0][0].numpy() for _ in range(5)])
    right, down = image[:, :-1, 1:] != image[:, :-1, :-1], image[:, 1:, :-1] != image[:, :-1, :-1]
    both, any_edge = (right & down).mean(), (right | down).mean()
    assert 0.1 < both / any_edge < 0.6
