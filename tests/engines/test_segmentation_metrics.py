# SPDX-License-Identifier: Apache-2.0
"""Scores of masks against values worked out by hand, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt

from monai_mixssl.engines.segmentation_metrics import case_scores, mean_scores


def balls(shape=(20, 24, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    true = np.where(((grid - (9, 10, 8)) ** 2).sum(-1) < 30, 1, 0)
    true = np.where(((grid - (9, 20, 8)) ** 2).sum(-1) < 6, 2, true)
    predicted = np.where(((grid - (10, 11, 8)) ** 2).sum(-1) < 36, 1, 0)
    return torch.from_numpy(predicted.astype(np.uint8)), torch.from_numpy(true.astype(np.uint8))


def distances(ours: np.ndarray, theirs: np.ndarray, spacing) -> tuple[float, float]:
    """Mean distance of both surfaces, and the larger of both 95th percentiles, in the unit of spacing."""
    surfaces = [mask & ~binary_erosion(mask) for mask in (ours, theirs)]
    ways = [distance_transform_edt(~surfaces[1 - side], sampling=spacing)[surfaces[side]] for side in range(2)]
    return float(np.concatenate(ways).mean()), max(float(np.percentile(way, 95)) for way in ways)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.0, 3.5)])
def test_overlap_and_distances_are_those_of_another_implementation(spacing):
    predicted, true = balls()
    one, two = case_scores(predicted, true, 3, spacing)
    ours, theirs = (mask.numpy() == 1 for mask in (predicted, true))
    assert one["dice"] == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    surface, percentile = distances(ours, theirs, spacing)
    assert one["surface_distance"] == pytest.approx(surface, rel=1e-4)
    assert one["hausdorff95"] == pytest.approx(percentile, rel=1e-4)
    assert two == {
        "dice": 0.0,
        "surface_distance": None,
        "hausdorff95": None,
        "true_voxels": int((true == 2).sum()),
        "predicted_voxels": 0,
    }


def test_distances_count_millimetres():
    true, predicted = torch.zeros(2, 9, 30, 9, dtype=torch.uint8)
    true[3:6, 4:8, 3:6] = 1
    predicted[3:6, 8:12, 3:6] = 1  # four voxels further along the second axis
    narrow, wide = (case_scores(predicted, true, 2, (1.0, step, 1.0))[0] for step in (1.0, 5.0))
    assert narrow["hausdorff95"] == 4.0
    assert wide["hausdorff95"] == 20.0
    assert wide["surface_distance"] > 4 * narrow["surface_distance"]
    assert case_scores(predicted, true, 2, (1.0, 1.0, 1.0), distances=False)[0]["hausdorff95"] is None


def test_a_single_slice_is_measured_in_its_plane():
    true, predicted = torch.zeros(2, 20, 20, 1, dtype=torch.uint8)
    true[5:15, 5:15] = 1
    predicted[7:15, 5:15] = 1
    score = case_scores(predicted, true, 2, (1.5, 1.0, 90.0))[0]
    assert score["hausdorff95"] == 3.0  # two pixels of 1.5 mm


def test_classes_that_are_nowhere_have_no_score_and_false_alarms_are_counted_apart():
    nothing = torch.zeros(6, 6, 6, dtype=torch.uint8)
    there = nothing.clone()
    there[2:4, 2:4, 2:4] = 1
    cases = [case_scores(p, t, 3, (1, 1, 1)) for p, t in ((nothing, nothing), (there, nothing), (there, there))]
    assert [case[0]["dice"] for case in cases] == [None, None, 1.0]
    means = mean_scores(cases, ["background", "organ", "never"])
    assert means["count"] == 3
    assert means["mean_dice"] == 1.0
    assert means["classes"]["organ"] == {
        "dice": 1.0,
        "dice_sd": None,
        "surface_distance": 0.0,
        "hausdorff95": 0.0,
        "images": 1,
        "missed": 0,
        "false_alarms": 1,
    }
    assert means["classes"]["never"]["dice"] is None


def test_means_are_those_of_the_classes_means():
    def entry(dice: float | None) -> dict[str, object]:
        return {"dice": dice, "surface_distance": None, "hausdorff95": None, "true_voxels": 1, "predicted_voxels": 1}

    cases = [[entry(0.2), entry(1.0)], [entry(0.6), entry(None)], [entry(0.7), entry(None)]]
    means = mean_scores(cases, ["background", "a", "b"])
    assert means["classes"]["a"]["dice"] == pytest.approx(0.5)
    assert means["classes"]["a"]["dice_sd"] == pytest.approx(np.std([0.2, 0.6, 0.7], ddof=1))
    assert means["mean_dice"] == pytest.approx(0.75)  # rare classes count as much as common ones
    assert mean_scores([], ["background", "a"])["mean_dice"] is None
