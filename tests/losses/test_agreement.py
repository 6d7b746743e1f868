# SPDX-License-Identifier: Apache-2.0
"""The agreement of two views against MONAI's contrastive loss and against numbers worked out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import ContrastiveLoss

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses import AgreementLoss, DualObjectiveLoss


def projections(count: int = 6, length: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randn(count, length).astype(np.float32))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_infonce_is_the_number_of_monais_contrastive_loss(temperature: float) -> None:
    views = projections()
    expected = ContrastiveLoss(temperature)(views[:3], views[3:])
    assert float(AgreementLoss("infonce", temperature)(views)) == pytest.approx(float(expected), rel=1e-5)


def test_vicreg_is_invariance_variance_and_covariance() -> None:
    a, b = np.split(projections(8).numpy().astype(np.float64), 2)
    invariance = np.mean((a - b) ** 2)
    variance = np.mean([np.maximum(0, 1 - np.sqrt(v.var(axis=0, ddof=1) + 1e-4)).mean() for v in (a, b)])
    covariances = [np.cov(v, rowvar=False) for v in (a, b)]
    off = sum((c**2).sum() - (np.diag(c) ** 2).sum() for c in covariances) / a.shape[1]
    expected = invariance + variance + off / 25
    assert float(AgreementLoss("vicreg")(projections(8))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["infonce", "vicreg"])
def test_mixed_precision_changes_neither_the_loss_nor_its_gradient(name: str) -> None:
    found = []
    for mixed in (False, True):
        views = (40 * projections(16, 8)).requires_grad_()  # in half precision their covariances would overflow
        with torch.autocast("cpu", torch.float16, enabled=mixed):
            loss = AgreementLoss(name)(views)  # type: ignore[arg-type]  # a parameter of the test
        loss.backward()
        found.append((loss.detach(), views.grad))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["infonce", "vicreg"])
def test_views_that_agree_cost_less_than_views_that_do_not(name: str) -> None:
    views = projections(16, 8)
    loss = AgreementLoss(name)  # type: ignore[arg-type]  # a parameter of the test
    assert loss(torch.cat([views[:8], views[:8]])) < loss(views)


@pytest.mark.parametrize("shape", [(5, 4), (2, 4), (4, 4, 4)])
def test_a_batch_that_is_not_two_views_of_two_targets_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="two views"):
        AgreementLoss()(torch.zeros(shape))


def test_an_unknown_agreement_or_temperature_is_refused() -> None:
    with pytest.raises(ConfigError, match="infonce, vicreg"):
        AgreementLoss("cosine")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ConfigError, match="temperature"):
        AgreementLoss(temperature=0.0)


def test_the_dual_objective_adds_the_agreement_by_its_weight_and_needs_a_projection() -> None:
    prediction = {"reconstruction": torch.zeros(4, 1, 2, 2), "transparency": torch.full((4,), 0.5)}
    target = {"image": torch.ones(4, 1, 2, 2), "transparency": torch.zeros(4)}
    loss = DualObjectiveLoss(agreement_weight=0.5, temperature=0.3)
    with pytest.raises(ConfigError, match="projection_size"):
        loss(prediction, target)
    parts = loss({**prediction, "projection": projections(4)}, target)
    agreement = float(AgreementLoss("infonce", 0.3)(projections(4)))
    assert float(parts["agreement_loss"]) == pytest.approx(agreement)
    assert float(parts["loss"]) == pytest.approx(1 + 0.25 + 0.5 * agreement)
    assert "agreement_loss" not in DualObjectiveLoss()(prediction, target)
