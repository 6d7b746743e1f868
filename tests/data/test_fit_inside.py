# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.data.fit_inside import FitInside, FitInsided


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [
        ((1, 100, 50), (40, 40), (1, 40, 20)),
        ((1, 50, 100), (40, 40), (1, 20, 40)),
        ((3, 30, 90), (40, 60), (3, 20, 60)),
        ((1, 20, 40, 10), (20, 20, 20), (1, 10, 20, 5)),
        ((1, 4, 1000), (8, 100), (1, 1, 100)),
    ],
)
def test_a_larger_image_shrinks_in_proportion(shape, most, expected):
    assert FitInside(most)(torch.rand(shape)).shape == expected


def test_an_image_that_fits_is_not_touched():
    image = torch.rand(1, 8, 9)
    assert FitInside((8, 16))(image) is image


def test_pixels_are_averaged_over_areas():
    image = torch.arange(16.0).reshape(1, 4, 4)
    torch.testing.assert_close(FitInside((2, 2))(image), torch.tensor([[[2.5, 4.5], [10.5, 12.5]]]))


def test_metadata_stay_and_the_affine_follows():
    image = MetaTensor(torch.rand(1, 40, 20), affine=torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0])), meta={"slice": 3})
    found = FitInsided("image", (10, 10))({"image": image, "label": 1})
    assert found["label"] == 1
    assert found["image"].shape == (1, 10, 5)
    assert found["image"].meta["slice"] == 3
    assert [float(found["image"].affine[n, n]) for n in range(2)] == [8.0, 8.0]
