# SPDX-License-Identifier: Apache-2.0
"""The transparency cannot be read off a blend's mean and standard deviation: pinned, since nothing would be learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from monai_mixssl.mixing import blend
from monai_mixssl.sources import DeadLeaves

DEFAULT: dict = {}
MATCHED_ONLY = {"renormalize": False}
RENORMALIZED_ONLY = {"match": None}
PLAIN = {"match": None, "renormalize": False}
IMAGES = 1200


def held_out_r2(features: np.ndarray, wanted: np.ndarray) -> float:
    """R² of a least-squares fit with intercept, on the second half of the samples, fitted on the first."""
    design = np.column_stack([np.ones(len(features)), (features - features.mean(0)) / features.std(0)])
    half = len(design) // 2
    weights = np.linalg.lstsq(design[:half], wanted[:half], rcond=None)[0]
    residual = wanted[half:] - design[half:] @ weights
    return float(1 - residual.var() / wanted[half:].var() - residual.mean() ** 2 / wanted[half:].var())


def readable(targets: torch.Tensor, sources: torch.Tensor, options: dict) -> tuple[float, float]:
    """How well t and |t − ½| can be read from the blends' mean and standard deviation and their squares."""
    t = np.random.RandomState(7).uniform(0, 1, len(targets))
    blends = blend(targets, sources, torch.as_tensor(t), batch=True, **options).flatten(1).double().numpy()
    mean, std = blends.mean(1), blends.std(1)
    features = np.column_stack([mean, std, mean**2, std**2])
    return held_out_r2(features, t), held_out_r2(features, np.abs(t - 0.5))


@pytest.fixture(scope="module")
def dead_leaves() -> torch.Tensor:
    source = DeadLeaves()
    source.set_random_state(seed=0)
    return torch.stack([source((1, 28, 28))[0] for _ in range(IMAGES)])


@pytest.fixture(scope="module")
def written_targets() -> torch.Tensor:
    """Smooth random images whose brightness and contrast differ from one to the next by a third, as in scans."""
    random = np.random.RandomState(0)
    smooth = avg_pool2d(torch.as_tensor(random.standard_normal((IMAGES, 1, 34, 34))), 7, stride=1)
    gain, offset = random.uniform(0.15, 0.25, (2, IMAGES, 1, 1, 1))
    return torch.as_tensor(offset) + torch.as_tensor(gain) * smooth / smooth.std()


@pytest.fixture(scope="module")
def chest_x_rays(provided_data: Path) -> torch.Tensor:
    with np.load(provided_data / "pneumoniamnist.npz") as data:
        return torch.as_tensor(data["train_images"][:IMAGES, None].astype(np.float64) / 255)


@pytest.fixture(params=["written_targets", "chest_x_rays"])
def targets(request: pytest.FixtureRequest) -> torch.Tensor:
    return request.getfixturevalue(request.param)


def test_transparency_cannot_be_read_from_brightness_and_contrast_by_default(targets, dead_leaves):
    assert max(readable(targets, dead_leaves, DEFAULT)) <= 0.05


def test_contrast_gives_the_transparency_away_where_renormalising_is_off(targets, dead_leaves):
    of_t, of_distance = readable(targets, dead_leaves, MATCHED_ONLY)
    assert of_distance >= 0.15
    assert of_t <= 0.05  # it is symmetric about ½, so a test of t alone would not see it


def test_brightness_and_contrast_give_the_transparency_away_where_both_are_off(targets, dead_leaves):
    assert readable(targets, dead_leaves, PLAIN)[0] >= 0.15


def test_transparency_is_the_targets_share_of_the_contrast_only_where_the_source_is_matched(targets, dead_leaves):
    """Renormalising alone closes the shortcut, but then t says little about how much of the target can be seen."""
    strong = 20 * dead_leaves
    half = torch.full((len(targets),), 0.5)

    def similarity(options: dict) -> float:
        blends = blend(targets, strong, half, batch=True, **options)
        pairs = zip(blends.flatten(1), targets.flatten(1), strict=True)
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))

    assert max(readable(targets, strong, RENORMALIZED_ONLY)) <= 0.05
    assert similarity(RENORMALIZED_ONLY) < 0.3
    assert similarity(DEFAULT) == pytest.approx(np.sqrt(0.5), abs=0.15)
