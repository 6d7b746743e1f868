# SPDX-License-Identifier: Apache-2.0
"""The laws that blending, matching and renormalising obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from skimage.exposure import match_histograms

from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import blend, match_intensity, renormalize

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64]
SHAPES = st.sampled_from([(1, 6, 5), (3, 4, 7), (1, 4, 3, 5), (2, 3, 4, 4)])
SEEDS = st.integers(0, 2**32 - 1)
TRANSPARENCIES = st.floats(0, 1)
MATCHES = st.sampled_from([None, "mean_std", "histogram"])
PLAIN = {"match": None, "renormalize": False}

LAW = settings(max_examples=40, deadline=None)  # no deadline: a busy machine is no broken law


def image(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A random image whose offset and contrast are random too, within what `dtype` holds."""
    random = np.random.RandomState(seed)
    offset, contrast = random.uniform(20, 90), random.uniform(2, 12)
    return torch.as_tensor(offset + contrast * random.uniform(-1.7, 1.7, shape)).to(dtype)


def pair(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    return image(seed, shape, dtype), image(seed ^ 0x5A5A5A5A, shape, dtype)


def moments(x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, by numpy in float64."""
    flat = x.to(torch.float64).numpy().reshape(len(x), -1)
    return flat.mean(1), flat.std(1)


@LAW
@given(SEEDS, SHAPES, TRANSPARENCIES)
def test_unmatched_blend_is_the_weighted_sum(seed, shape, t):
    x, s = pair(seed, shape)
    np.testing.assert_allclose(blend(x, s, t, **PLAIN).numpy(), t * x.numpy() + (1 - t) * s.numpy(), rtol=1e-12)


@LAW
@given(SEEDS, SHAPES, TRANSPARENCIES, st.floats(-3, 3), st.floats(-3, 3))
def test_unmatched_blend_is_linear_in_both_images(seed, shape, t, a, b):
    (x1, s1), (x2, s2) = pair(seed, shape), pair(seed ^ 1, shape)
    together = blend(a * x1 + b * x2, a * s1 + b * s2, t, **PLAIN)
    apart = a * blend(x1, s1, t, **PLAIN) + b * blend(x2, s2, t, **PLAIN)
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


@LAW
@given(SEEDS, SHAPES, MATCHES, st.booleans(), st.sampled_from(FLOATS + INTEGERS))
def test_transparency_of_one_returns_the_target(seed, shape, match, renormalized, dtype):
    x, s = pair(seed, shape, dtype)
    torch.testing.assert_close(blend(x, s, 1, match=match, renormalize=renormalized), x, rtol=0, atol=0)


@LAW
@given(SEEDS, SHAPES, st.sampled_from(FLOATS + INTEGERS))
def test_transparency_of_zero_returns_the_unmatched_source(seed, shape, dtype):
    x, s = pair(seed, shape, dtype)
    torch.testing.assert_close(blend(x, s, 0.0, **PLAIN), s, rtol=0, atol=0)


@LAW
@given(SEEDS, SHAPES, TRANSPARENCIES, MATCHES, st.sampled_from([(torch.float64, 1e-8), (torch.float32, 1e-4)]))
def test_blend_has_the_mean_and_deviation_of_the_target(seed, shape, t, match, precision):
    dtype, tolerance = precision
    x, s = pair(seed, shape, dtype)
    for got, wanted in zip(moments(blend(x, s, t, match=match)), moments(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance)


@LAW
@given(SEEDS, SHAPES, st.sampled_from(["mean_std", "histogram"]), st.floats(0.01, 100), st.floats(-1000, 1000))
def test_matched_source_has_the_targets_intensities_whatever_its_own_scale(seed, shape, match, gain, offset):
    x, s = pair(seed, shape)
    matched = match_intensity(s * gain + offset, x, match)
    for got, wanted in zip(moments(matched), moments(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    torch.testing.assert_close(matched, match_intensity(s, x, match), rtol=1e-6, atol=1e-6)


@LAW
@given(SEEDS, SHAPES, TRANSPARENCIES, MATCHES, st.floats(0.1, 10), st.floats(-100, 100))
def test_matched_blend_follows_the_scale_of_the_target(seed, shape, t, match, gain, offset):
    x, s = pair(seed, shape)
    match = match or "mean_std"
    torch.testing.assert_close(
        blend(gain * x + offset, s, t, match=match), gain * blend(x, s, t, match=match) + offset, rtol=1e-6, atol=1e-6
    )


@LAW
@given(SEEDS, SHAPES, MATCHES, st.booleans(), st.sampled_from(["number", "per image", "shared map", "map"]))
def test_batch_equals_a_loop_over_its_images(seed, shape, match, renormalized, kind):
    random = np.random.RandomState(seed)
    targets = torch.stack([image(seed ^ k, shape) for k in range(1, 4)])
    sources = torch.stack([image(seed ^ k, shape) for k in range(4, 7)])
    size = {"number": (), "per image": (3,), "shared map": (1, 1, *shape[1:]), "map": (3, *shape)}[kind]
    t = torch.as_tensor(random.uniform(0, 1, size))
    options = {"match": match, "renormalize": renormalized}
    batch = blend(targets, sources, t, batch=True, **options)
    weights = t.expand(3, *t.shape[1:]) if t.ndim else t.expand(3)
    for got, x, s, weight in zip(batch, targets, sources, weights, strict=True):
        torch.testing.assert_close(got, blend(x, s, weight, **options), rtol=1e-9, atol=1e-9)


@LAW
@given(SEEDS, SHAPES)
def test_map_weighs_each_pixel(seed, shape):
    x, s = pair(seed, shape)
    t = torch.as_tensor(np.random.RandomState(seed).uniform(0, 1, (1, *shape[1:])))
    np.testing.assert_allclose(blend(x, s, t, **PLAIN), t.numpy() * x.numpy() + (1 - t.numpy()) * s.numpy())
    torch.testing.assert_close(blend(x, s, t.numpy(), **PLAIN), blend(x, s, t, **PLAIN))


@LAW
@given(SEEDS, SHAPES)
def test_histogram_matching_agrees_with_scikit_image_where_no_values_are_equal(seed, shape):
    x, s = pair(seed, shape)
    expected = match_histograms(s.numpy(), x.numpy(), channel_axis=0)
    np.testing.assert_allclose(match_intensity(s, x, "histogram"), expected, rtol=1e-12)


@LAW
@given(SEEDS, SHAPES, st.integers(1, 5))
def test_histogram_matching_keeps_equal_values_equal(seed, shape, levels):
    x = image(seed, shape)
    s = torch.as_tensor(np.random.RandomState(seed).randint(0, levels, shape), dtype=torch.float64)
    matched = match_intensity(s, x, "histogram").reshape(shape[0], -1).numpy()
    for got, source, target in zip(matched, s.reshape(shape[0], -1).numpy(), x.reshape(shape[0], -1), strict=True):
        expected = np.interp(rankdata(source, method="average") - 1, np.arange(len(source)), np.sort(target.numpy()))
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 5, 6, 7)])
def test_any_type_is_kept_and_computed_precisely(dtype, shape):
    x, s = pair(3, shape, dtype)
    mixed = blend(x, s, 0.3)
    reference = blend(x.double(), s.double(), 0.3)
    assert mixed.dtype == dtype
    if dtype in INTEGERS:
        tolerance = 0.5001
    elif dtype in (torch.float32, torch.float64):
        tolerance = 5 * torch.finfo(dtype).eps * 64  # a few roundings of values under 128
    else:
        tolerance = 0.501 * torch.finfo(dtype).eps * 64  # computed in float32 and rounded once
    torch.testing.assert_close(mixed.double(), reference, rtol=0, atol=tolerance)


def test_integers_are_clamped_and_do_not_wrap_around():
    x = torch.tensor([[[0, 255, 0, 255]]], dtype=torch.uint8)
    s = torch.tensor([[[0, 255, 255, 0]]], dtype=torch.uint8)
    reference = blend(x.double(), s.double(), 0.5)
    assert reference.min() < 0
    assert reference.max() > 255
    torch.testing.assert_close(blend(x, s, 0.5).double(), reference.round().clamp(0, 255), rtol=0, atol=0)


def test_largest_64_bit_integer_does_not_wrap_around():
    x = torch.full((1, 2, 2), torch.iinfo(torch.int64).max)
    assert (blend(x, x, 1, **PLAIN) > 2**62).all()


def test_source_of_another_type_is_used_as_it_is():
    x, s = image(0, (1, 6, 6), torch.int16), image(1, (1, 6, 6), torch.float64) / 100
    expected = np.round(0.5 * x.numpy() + 0.5 * s.numpy())
    np.testing.assert_array_equal(blend(x, s, 0.5, **PLAIN).numpy(), expected)


@pytest.mark.parametrize("match", [None, "mean_std", "histogram"])
@pytest.mark.parametrize("level", [0.0, 0.1, 1000.0])
def test_constant_images_stay_finite(match, level):
    x, constant = image(0, (1, 9, 9), torch.float32), torch.full((1, 9, 9), level)
    for t in (0.0, 0.5, 1.0):
        assert torch.isfinite(blend(x, constant, t, match=match)).all()
        torch.testing.assert_close(blend(constant, x, t, match=match), constant)


def test_a_source_beyond_the_range_of_float32_keeps_its_contrast():
    target = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    source = torch.arange(64, dtype=torch.float64).reshape(1, 8, 8) * 1e-3 + 1e6
    ramp = torch.arange(64, dtype=torch.float64).reshape(1, 8, 8)
    expected = (ramp - ramp.mean()) / ramp.std(correction=0) * target.std(correction=0) + target.mean()
    torch.testing.assert_close(match_intensity(source, target), expected.float(), rtol=1e-4, atol=1e-4)


def test_constant_source_becomes_the_targets_mean_and_not_amplified_rounding():
    x, s = image(0, (1, 9, 9), torch.float32), torch.full((1, 9, 9), 0.1)
    torch.testing.assert_close(match_intensity(s, x), x.mean().expand(1, 9, 9))
    torch.testing.assert_close(renormalize(s, x), x.mean().expand(1, 9, 9))


def test_arguments_are_left_as_they_were():
    x, s = pair(0, (1, 5, 5), torch.float32)
    x0, s0 = x.clone(), s.clone()
    blend(x, s, 0.4).add_(1)
    blend(x, s, 1.0, **PLAIN).add_(1)
    match_intensity(s, x, None).add_(1)
    assert torch.equal(x, x0)
    assert torch.equal(s, s0)


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan"), float("inf"), torch.tensor([[[0.5, 2.0]]])])
def test_transparency_outside_its_range_is_refused(t):
    with pytest.raises(ConfigError, match=r"within \[0, 1\]"):
        blend(torch.rand(1, 1, 2), torch.rand(1, 1, 2), t)


@pytest.mark.parametrize(("t", "batch"), [((3,), False), ((2, 2), False), ((4,), True), ((1, 4, 4), True)])
def test_transparency_that_does_not_fit_the_image_is_refused(t, batch):
    shape = (3, 1, 4, 4) if batch else (1, 4, 4)
    with pytest.raises(ConfigError, match="transparency has shape"):
        blend(torch.rand(shape), torch.rand(shape), torch.rand(t), batch=batch)


def test_map_must_have_the_images_size():
    with pytest.raises(ConfigError, match="transparency has shape"):
        blend(torch.rand(1, 4, 4), torch.rand(1, 4, 4), torch.rand(1, 1, 4))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="source has shape"):
        blend(torch.rand(1, 4, 4), torch.rand(1, 4, 5), 0.5)
    with pytest.raises(ConfigError, match="image has shape"):
        renormalize(torch.rand(1, 4, 4), torch.rand(3, 4, 4))
    with pytest.raises(ConfigError, match="laid out as"):
        blend(torch.rand(4, 4), torch.rand(4, 4), 0.5, batch=True)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_images_without_intensities_are_refused(dtype):
    x = torch.zeros(1, 4, 4, dtype=dtype)
    with pytest.raises(ConfigError, match="cannot be blended"):
        blend(x, x, 0.5)


def test_arrays_are_refused_in_a_sentence():
    x = torch.zeros(1, 4, 4)
    with pytest.raises(ConfigError, match=r"target is of type ndarray: give a tensor"):
        blend(x.numpy(), x, 0.5)
    with pytest.raises(ConfigError, match="source is of type ndarray"):
        blend(x, x.numpy(), 0.5)


@pytest.mark.parametrize("t", [None, "half", object()])
def test_a_transparency_that_is_no_number_is_refused_in_a_sentence(t):
    x = torch.zeros(1, 4, 4)
    with pytest.raises(ConfigError, match=rf"transparency is of type {type(t).__name__}: give a number in \[0, 1\]"):
        blend(x, x, t)


@pytest.mark.parametrize("match", ["mean", "", 1])
def test_unknown_match_is_refused_with_the_known_ones(match):
    with pytest.raises(ConfigError, match='"mean_std", "histogram" or None'):
        blend(torch.rand(1, 4, 4), torch.rand(1, 4, 4), 0.5, match=match)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_blend_stays_on_the_targets_device():
    x, s = pair(0, (2, 8, 8), torch.float32)
    mixed = blend(x.cuda(), s, torch.rand(1, 8, 8))
    assert mixed.device.type == "cuda"
    assert blend(x.cuda(), s.cuda(), 0.5, match="histogram").cpu().allclose(blend(x, s, 0.5, match="histogram"))
