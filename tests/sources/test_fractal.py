# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from monai_mixssl.sources import Fractal
from monai_mixssl.sources.fractal import attractor_points, random_maps


def box_dimension(points: np.ndarray, coarse: int, fine: int) -> float:
    """Slope of log(occupied boxes) over log(boxes per side), between two resolutions."""
    unit = (points - points.min(0)) / (points.max(0) - points.min(0)) * (1 - 1e-6)
    boxes = [len(np.unique((unit * n).astype(int), axis=0)) for n in (coarse, fine)]
    return float(np.log(boxes[1] / boxes[0]) / np.log(fine / coarse))


@pytest.mark.parametrize("dims", [2, 3])
def test_random_maps_contract(dims):
    for seed in range(200):
        maps, offsets = random_maps(np.random.RandomState(seed), dims)
        assert maps.shape == (len(offsets), dims, dims)
        assert 2 <= len(maps) <= 6
        norms = np.linalg.norm(maps, ord=2, axis=(1, 2))
        assert norms.max() < 0.9 + 1e-9
        assert np.linalg.svd(maps, compute_uv=False).min() > 0.3 - 1e-9


@pytest.mark.parametrize("dims", [2, 3])
def test_points_stay_in_the_ball_that_all_maps_keep(dims):
    for seed in range(50):
        maps, offsets = random_maps(np.random.RandomState(seed), dims)
        points = attractor_points(maps, offsets, 3000)
        # |A x + b| <= s |x| + |b| <= R as soon as R = max|b| / (1 - max s)
        radius = np.linalg.norm(offsets, axis=1).max() / (1 - np.linalg.norm(maps, ord=2, axis=(1, 2)).max())
        assert np.linalg.norm(points, axis=1).max() <= radius * (1 + 1e-5)
        assert 3000 * 2 / len(maps) < len(points) <= 3000 * 2


def test_the_known_attractor_of_three_half_maps_is_sierpinskis_triangle():
    maps = np.stack([np.eye(2) / 2] * 3)
    offsets = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    points = attractor_points(maps, offsets, 3**9)
    assert len(points) == 3**9
    # binary digits of x and y are never both 1 on the right-angled triangle
    digits = np.round(points.astype(float) * 2**9).astype(int)
    assert not (digits[:, 0] & digits[:, 1]).any()
    assert box_dimension(points, 8, 128) == pytest.approx(np.log(3) / np.log(2), abs=0.05)


def test_the_last_map_of_point_n_is_n_modulo_the_number_of_maps():
    maps, offsets = random_maps(np.random.RandomState(1), 2)
    points = attractor_points(maps, offsets, 2000).astype(float)
    tree = cKDTree(points)
    for k, (matrix, offset) in enumerate(zip(maps, offsets, strict=True)):
        own = points[k :: len(maps)]
        # taking the map back leads to the cloud one step earlier, which lies in the cloud's attractor
        back = np.linalg.solve(matrix, (own - offset).T).T
        assert np.quantile(tree.query(back)[0], 0.95) < 0.1


@pytest.mark.parametrize(("shape", "dims"), [((1, 64, 64), 2), ((1, 32, 32, 32), 3)])
def test_images_are_neither_dust_nor_full(shape, dims):
    filled, dimensions = [], []
    source = Fractal().set_random_state(0)
    for _ in range(40 if dims == 2 else 15):
        image = source(shape)[0][0].numpy()
        filled.append((image > 0).mean())
        dimensions.append(box_dimension(np.argwhere(image > 0).astype(float), 4, 16))
    assert min(filled) > (0.1 if dims == 2 else 0.01)
    assert max(filled) < 0.95
    # more than a line, and not all alike
    assert min(dimensions) > 1.0
    assert max(dimensions) <= dims
    assert np.std(dimensions) > 0.05


def test_the_attractor_reaches_all_borders_of_a_lopsided_image():
    image = Fractal().set_random_state(0)((1, 20, 90))[0][0].numpy()
    assert all(edge.any() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))
