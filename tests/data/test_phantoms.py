# SPDX-License-Identifier: Apache-2.0
"""The phantoms in memory: what a made-up patient is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_mixssl.data.phantoms import phantom_volume
from monai_mixssl.errors import ConfigError


def test_the_same_arguments_give_the_same_patient():
    first, again = phantom_volume(5, seed=3), phantom_volume(5, seed=3)
    assert np.array_equal(first.array, again.array)
    assert np.array_equal(first.affine, again.affine)


@pytest.mark.parametrize("other", [{"index": 17}, {"index": 5, "seed": 4}])
def test_another_index_or_seed_gives_another_patient_of_the_same_protocol(other):
    # 17 = 5 + 12: same protocol and label
    one, two = phantom_volume(5, seed=3), phantom_volume(**{"seed": 3, **other})
    assert (one.protocol, one.label) == (two.protocol, two.label)
    changed = np.mean(one.array != two.array)
    assert changed > 0.3


def test_global_random_generators_are_left_alone():
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.rand(), torch.rand(1)
    np.random.seed(1)
    torch.manual_seed(1)
    phantom_volume(0)
    assert (np.random.rand(), torch.rand(1)) == expected


def test_twelve_patients_in_a_row_hold_each_protocol_and_format_with_and_without_lesion():
    kinds = [(p.protocol, i % 2, p.label) for i in range(12) for p in [phantom_volume(i, image_size=16, slices=1)]]
    assert sorted(set(kinds)) == sorted((p, f, label) for p in ("T1", "T2", "CT") for f in (0, 1) for label in (0, 1))


def test_ct_is_in_hounsfield_units():
    for index in (4, 5):
        array = phantom_volume(index).array
        assert array.dtype == np.int16
        assert array.min() >= -1024
        air = array[:4, :4]
        assert abs(air.mean() + 1000.0) < 5.0
        assert 600.0 < np.percentile(array, 99.5) < 1100.0  # bone
        assert 0.0 < np.median(array[16:48, 16:48]) < 80.0  # brain


def test_mr_has_a_scale_of_its_own_in_each_patient_and_no_negative_values():
    tops = [float(np.percentile(phantom_volume(i).array, 99.5)) for i in (0, 1, 2, 3, 6, 7, 8, 9, 12, 13)]
    assert all(phantom_volume(i).array.min() >= 0 for i in (0, 2))
    assert max(tops) / min(tops) > 3.0


def test_fluid_is_dark_in_t1_and_bright_in_t2():
    def rim_to_brain(index: int) -> float:
        """Median of the layer of fluid around the brain, found between skull and cortex, over that of the brain."""
        array = phantom_volume(index, image_size=128, slices=12).array.astype(float)[:, :, 6]
        head = ndimage.binary_fill_holes(array > 0.25 * np.percentile(array, 99))
        depth = ndimage.distance_transform_edt(head) * 232.0 / 128.0
        # scalp 7 mm, skull 7 mm, fluid 4 mm, cortex 10 mm (thickness varies a little with the patient's shape)
        profile = [np.median(array[(depth > d) & (depth <= d + 2.0)]) for d in np.arange(8.0, 20.0, 1.0)]
        brain = np.median(array[depth > 30.0])
        return (max(profile) if index % 6 in (2, 3) else min(profile)) / brain

    assert all(rim_to_brain(i) < 0.7 for i in (0, 1, 6))
    assert all(rim_to_brain(i) > 1.2 for i in (2, 3, 8))


@pytest.mark.parametrize("index", [0, 1, 2, 3, 6, 8])
def test_mr_is_shaded_smoothly_around_the_head(index):
    plane = phantom_volume(index, image_size=128, slices=3).array[:, :, 1].astype(float)
    head = ndimage.binary_fill_holes(plane > 0.25 * np.percentile(plane, 99))
    depth = ndimage.distance_transform_edt(head) * 232.0 / 128.0
    scalp = (depth > 2.5) & (depth < 5.5)  # mm: one tissue, so what varies is the shading
    x, y = np.nonzero(scalp) - np.array(ndimage.center_of_mass(head))[:, None]
    sector = ((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 12).astype(int) % 12
    levels = np.array([np.median(plane[scalp][sector == s]) for s in range(12)])
    steps = np.abs(levels - np.roll(levels, 1)) / levels.mean()
    assert 1.05 < levels.max() / levels.min() < 1.6
    assert steps.max() < 0.12


def ring_share(plane: np.ndarray) -> float:
    """The most ring-like region of a CT slice: how much of the surroundings of a core has the opposite sign."""
    plane = ndimage.median_filter(plane.astype(float), 3)
    bone = plane > 520.0
    inside = ndimage.binary_erosion(ndimage.binary_fill_holes(bone) & ~bone, iterations=2)
    contrast = np.where(inside, plane - 30.0, 0.0)
    best = 0.0
    for signed in (contrast, -contrast):
        regions, count = ndimage.label(signed < -80.0)
        for core in (regions == n for n in range(1, count + 1)):
            if core.sum() >= 30:
                near, far = (ndimage.binary_dilation(core, iterations=i) for i in (2, 4))
                best = max(best, float((signed > 150.0)[far & ~near].mean()))
    return best


@pytest.mark.parametrize("index", [4, 5, 10, 11, 16, 17])
def test_every_slice_of_a_patient_with_lesions_shows_a_ring_and_no_other_slice_does(index):
    phantom = phantom_volume(index, image_size=128, slices=6)
    shares = [ring_share(phantom.array[:, :, k]) for k in range(6)]
    assert min(shares) > 0.9 if phantom.label else max(shares) < 0.3


def test_spacing_is_anisotropic_and_independent_of_resolution():
    coarse, fine = phantom_volume(0, image_size=32, slices=6), phantom_volume(0, image_size=128, slices=24)
    assert coarse.array.shape == (32, 32, 6)
    assert fine.array.shape == (128, 128, 24)
    for phantom, factor in ((coarse, 1.0), (fine, 4.0)):
        spacing = np.linalg.norm(phantom.affine[:3, :3], axis=0)
        assert spacing[0] == pytest.approx(spacing[1], rel=1e-5)
        assert spacing[2] > 1.5 * spacing[0]
        assert spacing[:2] == pytest.approx([7.25 / factor] * 2, rel=0.04)


@pytest.mark.parametrize(
    "bad", [{"index": -1}, {"index": 0, "seed": -1}, {"index": 0, "image_size": 8}, {"index": 0, "slices": 0}]
)
def test_arguments_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=r"phantom|Phantom"):
        phantom_volume(**bad)
