# SPDX-License-Identifier: Apache-2.0
"""Intensities: Hounsfield units by window, all else by percentiles, and what was done is recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.data.normalize import NormalizeByModality, NormalizeByModalityd, choose_normalization
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


def test_the_dictionary_version_does_the_same():
    tensor = MetaTensor(torch.from_numpy(CT), meta={"modality": "CT"})
    assert torch.equal(NormalizeByModalityd("image")({"image": tensor})["image"], NormalizeByModality()(tensor))


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="normalization"):
        NormalizeByModality("zscore")
    with pytest.raises(DataError, match="equal"):
        NormalizeByModality()(np.ones((1, 4, 4)))
