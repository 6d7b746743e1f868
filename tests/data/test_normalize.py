# SPDX-License-Identifier: Apache-2.0
"""Intensities: Hounsfield units by window, all else by percentiles, and what was done is recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.data.normalize import NormalizeByModality, NormalizeByModalityd, choose_normalization, spread_sample
from monai_mixssl.errors import ConfigError, DataError

CT = np.linspace(-1500, 2000, 700, dtype=np.float32).reshape(1, 7, 100)


def test_ct_is_clipped_to_the_hounsfield_window():
    out = NormalizeByModality()(MetaTensor(torch.from_numpy(CT), meta={"modality": "CT"}))
    assert np.allclose(out, (np.clip(CT, -1000, 1000) + 1000) / 2000, atol=1e-6)
    assert out.meta["normalization"] == {"rule": "hounsfield", "low": -1000.0, "high": 1000.0}


def test_ct_without_air_is_not_in_hounsfield_units():
    assert choose_normalization(np.arange(700.0), "CT").rule == "percentiles"


@pytest.mark.parametrize("modality", ["MR", "US", "", "DX"])
def test_all_else_is_scaled_by_percentiles(modality):
    values = np.random.RandomState(0).gamma(2.0, size=(1, 50, 60)) * 300
    done = choose_normalization(values, modality)
    assert (done.low, done.high) == pytest.approx(tuple(np.percentile(values, (0.5, 99.5))))
    out = done.apply(values)
    assert out.dtype == np.float32
    assert out.min() == 0
    assert out.max() == 1
    assert np.mean(out == 0) == pytest.approx(0.005, abs=2e-3)


@pytest.mark.parametrize("shape", [(1, 2048, 1024, 8), (1, 448, 448, 90), (3, 2000, 2000, 4)])
def test_a_large_image_is_judged_by_values_from_all_of_its_slices(shape):
    array = np.full(shape, 1000, np.int16)
    array[..., 0] = np.arange(shape[1])[:, None] % 10  # a first slice of next to nothing
    array[..., -1] = 3000
    found = choose_normalization(array, "MR", "percentiles")
    assert found.high > 2900
    assert found.low < 10
    seen = spread_sample(np.broadcast_to(np.arange(shape[-1]), shape), 200_000)
    assert np.allclose(np.bincount(seen) / len(seen), 1 / shape[-1], rtol=0.01)


def test_the_scale_of_the_stored_values_does_not_matter():
    values = np.random.RandomState(0).rand(1, 30, 30)
    first, second = (
        choose_normalization(values).apply(values),
        choose_normalization(values * 999 - 5).apply(values * 999 - 5),
    )
    assert np.allclose(first, second, atol=1e-5)


def test_an_image_that_is_almost_all_background_keeps_its_range():
    values = np.zeros((1, 100, 100))
    values[0, 4, 4] = 9.0
    assert choose_normalization(values).apply(values).max() == 1


def test_a_rule_by_name_wins_over_the_modality():
    assert choose_normalization(CT, "CT", "percentiles").rule == "percentiles"
    assert choose_normalization(CT, "", "hounsfield").rule == "hounsfield"


@pytest.mark.parametrize(("rule", "low", "high"), [("brain", 0, 80), ("soft_tissue", -160, 240), ("lung", -1350, 150)])
def test_a_ct_window_by_name_clips_to_it(rule, low, high):
    out = NormalizeByModality(rule)(MetaTensor(torch.from_numpy(CT), meta={"modality": "CT"}))
    assert np.allclose(out, (np.clip(CT, low, high) - low) / (high - low), atol=1e-6)
    assert out.meta["normalization"]["rule"] == rule


def test_a_window_of_ones_own_is_for_hounsfield_units_alone():
    normalize = NormalizeByModality(window=(-100, 300))
    out = normalize(MetaTensor(torch.from_numpy(CT), meta={"modality": "CT"}))
    assert out.meta["normalization"] == {"rule": "hounsfield", "low": -100.0, "high": 300.0}
    assert choose_normalization(CT, "MR", window=(-100, 300)).rule == "percentiles"


def test_z_scores_are_those_of_the_foreground_alone():
    inside = np.random.RandomState(0).normal(500, 40, size=4000)
    values = np.concatenate([np.zeros(6000), inside]).reshape(1, 100, 100)
    done = choose_normalization(values, "MR", "auto_zscore")
    assert done.rule == "zscore"
    assert (done.low, done.high) == pytest.approx((inside.mean() - 3 * inside.std(), inside.mean() + 3 * inside.std()))
    more_air = np.concatenate([np.zeros(30000), inside])
    assert choose_normalization(more_air, "MR", "zscore").low == pytest.approx(done.low)
    assert choose_normalization(values, "US", "auto_zscore").rule == "percentiles"
    assert choose_normalization(CT, "CT", "auto_zscore").rule == "hounsfield"


def test_two_values_have_no_z_scores_and_keep_their_range():
    values = np.zeros((1, 10, 10))
    values[0, :5] = 7.0
    assert choose_normalization(values, rule="zscore").as_dict() == {"rule": "percentiles", "low": 0.0, "high": 7.0}


def test_the_dictionary_version_does_the_same():
    tensor = MetaTensor(torch.from_numpy(CT), meta={"modality": "CT"})
    assert torch.equal(NormalizeByModalityd("image")({"image": tensor})["image"], NormalizeByModality()(tensor))


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="normalization"):
        NormalizeByModality("z")
    with pytest.raises(ConfigError, match="window is"):
        NormalizeByModality(window=(300, -100))
    with pytest.raises(DataError, match="equal"):
        NormalizeByModality()(np.ones((1, 4, 4)))
