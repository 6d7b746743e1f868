# SPDX-License-Identifier: Apache-2.0
"""The array transforms: what is drawn, what is kept, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, set_track_meta
from torch.distributions import Beta, Dirichlet, Normal, TransformedDistribution, Uniform
from torch.distributions.transforms import SigmoidTransform

from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import blend
from monai_mixssl.sources import DeadLeaves, Source
from monai_mixssl.transforms import CrossDomainMixup, RandCrossDomainMixup


class FirstDraws(Source):
    """Shows the first four numbers of its random stream: one in the image's lower half, all in its id."""

    name = "first_draws"

    def _draw(self, shape):
        values = self.R.uniform(size=4)
        picture = np.zeros(shape)
        picture[:, shape[1] // 2 :] = 0.5 + values[0] / 2
        return picture, ":".join(f"{value:.12f}" for value in values)


def seeded(seed: int = 0, **options) -> RandCrossDomainMixup:
    return RandCrossDomainMixup(FirstDraws(), **options).set_random_state(seed=seed)


def draws(transform: RandCrossDomainMixup, count: int, shape=(1, 8, 8)) -> np.ndarray:
    values = []
    for _ in range(count):
        transform.randomize(torch.zeros(shape))
        values.append(transform.transparency.numpy())
    return np.stack(values)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (1, 5, 6, 7)])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, MetaTensor])
def test_given_source_and_transparency_are_blended(shape, kind):
    image, source = torch.rand(shape), torch.rand(shape)
    mixed = CrossDomainMixup()(kind(image), kind(source), 0.3)
    torch.testing.assert_close(torch.as_tensor(mixed), blend(image, source, 0.3), check_dtype=True)
    assert isinstance(mixed, MetaTensor)


def test_options_reach_the_blend():
    image, source = torch.rand(1, 8, 8), torch.rand(1, 8, 8)
    mixed = CrossDomainMixup(match="histogram", renormalize=False)(image, source, np.full((1, 8, 8), 0.3))
    assert torch.equal(mixed.as_tensor(), blend(image, source, 0.3, match="histogram", renormalize=False))


def test_blend_is_a_plain_tensor_where_monai_tracks_no_metadata():
    try:
        set_track_meta(False)
        assert type(seeded()(torch.rand(1, 8, 8))) is torch.Tensor
    finally:
        set_track_meta(True)


@pytest.mark.parametrize("options", [{}, {"map_cells": 2}, {"match": "histogram"}, {"renormalize": False}])
def test_random_blend_is_the_blend_of_its_recorded_draw(options):
    transform, image = seeded(**options), torch.rand(1, 8, 8)
    mixed = transform(image)
    blending = {k: v for k, v in options.items() if k != "map_cells"}
    assert torch.equal(mixed.as_tensor(), blend(image, transform.source_image, transform.transparency, **blending))
    assert torch.equal(transform(image, randomize=False), mixed)


def test_same_seed_gives_the_same_blends_and_another_seed_others():
    image = torch.rand(1, 8, 8)
    first, again, other = seeded(0), seeded(0), seeded(1)
    for _ in range(3):
        mixed = first(image)
        assert torch.equal(mixed, again(image))
        assert first.source_id == again.source_id
        assert not torch.equal(mixed, other(image))


def test_random_state_object_is_accepted():
    image = torch.rand(1, 8, 8)
    by_state = RandCrossDomainMixup(FirstDraws()).set_random_state(state=np.random.RandomState(0))
    assert torch.equal(by_state(image), seeded(0)(image))


def test_transparency_does_not_follow_from_the_source():
    """One seed for both streams would let a network read the transparency off the source image."""
    pairs = []
    for seed in range(400):
        transform = seeded(seed)
        transform.randomize(torch.zeros(1, 8, 8))
        pairs.append([float(transform.transparency), *map(float, transform.source_id.split(":"))])
    assert np.abs(np.corrcoef(np.transpose(pairs))[0, 1:]).max() < 0.2


@pytest.mark.parametrize(("given", "low", "high"), [((0.2, 0.8), 0.2, 0.8), ([0.9, 1.0], 0.9, 1.0), (0.5, 0.5, 0.5)])
def test_transparency_is_drawn_evenly_from_the_range(given, low, high):
    values = draws(seeded(transparency=given), 2000)
    assert values.dtype == np.float32
    assert values.shape == (2000,)
    assert low - 1e-6 <= values.min()
    assert values.max() <= high + 1e-6
    np.testing.assert_allclose(
        np.quantile(values, [0.25, 0.5, 0.75]), np.interp([1, 2, 3], [0, 4], [low, high]), atol=0.03
    )


@pytest.mark.parametrize(
    ("distribution", "mean"),
    [
        (Beta(2.0, 6.0), 0.25),
        (Uniform(0.5, 0.7), 0.6),
        (TransformedDistribution(Normal(0.0, 1.0), SigmoidTransform()), 0.5),
    ],
)
def test_distribution_is_drawn_from_reproducibly_and_leaves_torchs_generator_alone(distribution, mean):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    values = draws(seeded(transparency=distribution), 1000)
    assert torch.equal(torch.get_rng_state(), before)
    assert values.mean() == pytest.approx(mean, abs=0.03)
    assert len(np.unique(values)) > 990
    torch.manual_seed(456)
    np.testing.assert_array_equal(draws(seeded(transparency=distribution), 1000), values)


@pytest.mark.parametrize("shape", [(1, 8, 12), (2, 8, 12, 4)])
def test_map_has_one_draw_per_cell(shape):
    transform = seeded(map_cells=4)
    transform.randomize(torch.zeros(shape))
    t = transform.transparency
    assert t.shape == (1, *shape[1:])
    cells = t[0]
    for axis, size in enumerate(shape[1:]):
        cells = cells.unflatten(2 * axis, (4, size // 4))
    # each cell is flat, and no two are equal
    inner = tuple(range(1, cells.ndim, 2))
    assert torch.equal(cells.amax(inner), cells.amin(inner))
    assert len(cells.amax(inner).unique()) == 4 ** (len(shape) - 1)


def test_cells_fit_sizes_that_they_do_not_divide():
    transform = seeded(map_cells=3)
    transform.randomize(torch.zeros(1, 7, 10))
    assert len(transform.transparency.unique()) == 9


def test_linear_map_is_smooth_and_stays_in_range():
    transform = seeded(map_cells=2, map_mode="linear", transparency=(0.0, 1.0))
    flat = draws(seeded(map_cells=2), 50, (1, 16, 16))
    smooth = draws(transform, 50, (1, 16, 16))
    assert 0 <= smooth.min() <= smooth.max() <= 1
    assert np.abs(np.diff(smooth)).max() < np.abs(np.diff(flat)).max() / 4
    np.testing.assert_allclose(smooth[:, :, ::15, ::15], flat[:, :, ::15, ::15], rtol=1e-6)


def test_map_draws_each_cell_from_a_distribution():
    values = draws(seeded(map_cells=4, transparency=Beta(2.0, 2.0)), 3)
    assert len(np.unique(values)) == 3 * 16


@pytest.mark.parametrize("cells", [0, 2])
def test_missed_probability_returns_a_copy_of_the_target_and_a_transparency_of_one(cells):
    transform, image = seeded(prob=0.0, map_cells=cells), torch.rand(1, 8, 8)
    untouched = transform(image)
    assert torch.equal(untouched.as_tensor(), image)
    assert torch.equal(transform.transparency, torch.ones((1, 8, 8) if cells else ()))
    assert transform.source_id == ""
    untouched.add_(1)
    assert image.max() < 1


def test_probability_is_how_often_images_are_blended():
    transform = seeded(prob=0.3)
    assert np.mean(draws(transform, 1000) < 1) == pytest.approx(0.3, abs=0.04)


def test_transform_can_be_pickled_and_goes_on_where_it_was():
    transform, image = (
        RandCrossDomainMixup(DeadLeaves(), Beta(2.0, 2.0)).set_random_state(seed=0),
        torch.rand(1, 16, 16),
    )
    transform(image)
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy(image), transform(image))


@pytest.mark.parametrize(
    "given",
    [-0.1, 1.5, float("nan"), (0.8, 0.2), (0.5, 1.2), (0.1, 0.5, 0.9), (0.5,), "half", "0.5", ("0.2", "0.8"), None, {}],
)
def test_unusable_transparency_is_refused(given):
    with pytest.raises(ConfigError, match=r"must be a number in \[0, 1\]"):
        RandCrossDomainMixup(DeadLeaves(), transparency=given)


def test_draw_outside_its_range_is_refused_with_a_hint():
    transform = seeded(transparency=Normal(5.0, 0.1))
    with pytest.raises(ConfigError, match=r"Normal gave a value outside \[0, 1\]: choose one .* such as Beta"):
        transform(torch.rand(1, 8, 8))


@pytest.mark.parametrize("vector", [Beta(torch.ones(2), torch.ones(2)), Dirichlet(torch.ones(3))])
def test_distribution_of_several_numbers_is_refused(vector):
    with pytest.raises(ConfigError, match="of a scalar"):
        RandCrossDomainMixup(DeadLeaves(), transparency=vector)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": "median"}, "match is 'median'"),
        ({"map_cells": -1}, "map_cells is -1"),
        ({"map_cells": 2.5}, "map_cells is 2.5"),
        ({"map_cells": True}, "map_cells is True"),
        ({"map_cells": "2"}, "map_cells is '2'"),
        ({"map_mode": "cubic"}, "map_mode is 'cubic'"),
        ({"source": "dead_leaves"}, "source is a str"),
        ({"source": DeadLeaves}, "source is a ABCMeta"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RandCrossDomainMixup(**{"source": DeadLeaves(), **options})


def test_more_cells_than_pixels_are_refused():
    with pytest.raises(ConfigError, match="smallest side, 4"):
        seeded(map_cells=5)(torch.rand(1, 4, 9))


def test_draw_for_another_shape_is_not_applied():
    transform = seeded()
    transform(torch.rand(1, 8, 8))
    with pytest.raises(ConfigError, match="source has shape"):
        transform(torch.rand(1, 9, 9), randomize=False)
