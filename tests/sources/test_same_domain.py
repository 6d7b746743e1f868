# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.sources import SameDomain


def numbered(channels=1, *spatial):
    """Every element has its own value, so that a crop can be told from any other."""
    count = channels * int(np.prod(spatial))
    return (torch.arange(count, dtype=torch.float64) / (count - 1)).float().reshape(channels, *spatial)


def is_part_of(part: torch.Tensor, whole: torch.Tensor) -> bool:
    start = np.unravel_index(int((whole == part.flatten()[0]).flatten().nonzero()[0]), whole.shape)
    window = tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))
    return torch.equal(whole[window], part)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"image": x}, lambda x: x.numpy(), lambda x: MetaTensor(x)])
def test_an_item_of_the_asked_size_comes_back_as_it_is(wrap):
    image = numbered(1, 9, 10)
    drawn, identifier = SameDomain([wrap(image)])((1, 9, 10))
    assert type(drawn) is torch.Tensor
    assert torch.equal(drawn, image)
    assert identifier == "same_domain:000000"


def test_all_items_are_drawn_about_equally_often():
    source = SameDomain([numbered(1, 4, 4)] * 5).set_random_state(0)
    counts = np.unique([source((1, 4, 4))[1] for _ in range(1000)], return_counts=True)[1]
    # binomial: 200 each, standard deviation 12.6
    assert len(counts) == 5
    assert np.abs(counts - 200).max() < 60


def test_a_larger_item_is_cropped_at_random_places():
    image = numbered(1, 20, 30)
    source = SameDomain([image]).set_random_state(0)
    parts = [source((1, 8, 9))[0] for _ in range(20)]
    assert all(is_part_of(part[0], image[0]) for part in parts)
    assert len({float(part[0, 0, 0]) for part in parts}) > 10


def test_a_smaller_item_is_stretched():
    image = torch.linspace(0, 1, 8).repeat(8, 1)[None]
    drawn = SameDomain([image])((1, 16, 16))[0]
    expected = np.interp(np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), np.arange(8), image[0, 0])
    np.testing.assert_allclose(drawn[0], np.tile(expected, (16, 1)), atol=1e-6)


def test_a_volume_gives_a_picture_as_a_slice_along_any_axis():
    volume = numbered(1, 8, 8, 8)
    source = SameDomain([volume]).set_random_state(0)
    axes = set()
    for _ in range(40):
        part = source((1, 8, 8))[0][0]
        hits = {axis for axis in range(3) for k in range(8) if torch.equal(volume[0].select(axis, k), part)}
        assert len(hits) == 1
        axes |= hits
    assert axes == {0, 1, 2}


def test_a_picture_gives_a_volume_by_extrusion():
    picture = numbered(1, 8, 8)
    source = SameDomain([picture]).set_random_state(0)
    axes = set()
    for _ in range(40):
        volume = source((1, 8, 8, 8))[0][0]
        hits = {axis for axis in range(3) if all(torch.equal(v, picture[0]) for v in volume.unbind(axis))}
        assert len(hits) == 1
        axes |= hits
    assert axes == {0, 1, 2}


def test_channels_are_averaged_to_one_and_repeated_to_more():
    image = numbered(2, 6, 6)
    assert torch.allclose(SameDomain([image])((1, 6, 6))[0][0], image.mean(0))
    assert torch.equal(SameDomain([image])((3, 6, 6))[0], image[[0, 1, 0]])


def test_values_outside_0_to_1_are_stretched_and_the_dataset_is_left_alone():
    image = numbered(1, 6, 6) * 2000 - 1000
    before = image.clone()
    drawn = SameDomain([image])((1, 6, 6))[0]
    np.testing.assert_allclose(drawn, numbered(1, 6, 6), atol=1e-6)
    drawn.zero_()
    assert torch.equal(image, before)


def test_a_dataset_that_cannot_serve_is_refused():
    for dataset in ([], iter([1]), None):
        with pytest.raises(ConfigError, match="at least one item"):
            SameDomain(dataset)
    for item in ({"picture": numbered(1, 4, 4)}, torch.zeros(4), "image", [numbered(1, 4, 4)]):
        with pytest.raises(DataError, match="under the key 'image'"):
            SameDomain([item])((1, 4, 4))
