# SPDX-License-Identifier: Apache-2.0
"""The losses against numbers worked out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses import DualObjectiveLoss, ReconstructionLoss, TransparencyLoss


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.RandomState(0)
    return [rng.rand(*shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 1, 3, 4, 5)])
def test_reconstruction_losses_are_the_mean_squared_and_mean_absolute_difference(shape: tuple[int, ...]) -> None:
    a, b = arrays(shape, shape)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    assert float(ReconstructionLoss()(x, y)) == pytest.approx(np.mean((a - b) ** 2), rel=1e-5)
    assert float(ReconstructionLoss("l1")(x, y)) == pytest.approx(np.mean(np.abs(a - b)), rel=1e-5)


def test_the_loss_of_a_number_is_the_mean_squared_difference() -> None:
    loss = TransparencyLoss()(torch.tensor([0.5, 0.25]), torch.tensor([0.0, 0.5]))
    assert float(loss) == pytest.approx((0.5**2 + 0.25**2) / 2)


def test_a_true_map_is_averaged_over_the_area_of_each_predicted_position() -> None:
    predicted, true = arrays((2, 1, 2, 3), (2, 1, 8, 6))
    averaged = true.reshape(2, 1, 2, 4, 3, 2).mean(axis=(3, 5))
    loss = TransparencyLoss()(torch.from_numpy(predicted), torch.from_numpy(true))
    assert float(loss) == pytest.approx(np.mean((predicted - averaged) ** 2), rel=1e-5)


def test_a_true_map_in_3d_is_averaged_likewise() -> None:
    predicted, true = arrays((1, 1, 2, 1, 2), (1, 1, 4, 3, 6))
    averaged = true.reshape(1, 1, 2, 2, 1, 3, 2, 3).mean(axis=(3, 5, 7))
    loss = TransparencyLoss()(torch.from_numpy(predicted), torch.from_numpy(true))
    assert float(loss) == pytest.approx(np.mean((predicted - averaged) ** 2), rel=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0), (0.0, 2.0), (2, 0)])
def test_the_loss_is_the_weighted_sum_and_the_parts_are_unweighted(weights: tuple[float, float]) -> None:
    reconstruction, image, predicted, true = arrays((2, 1, 4, 4), (2, 1, 4, 4), (2,), (2,))
    prediction = {"reconstruction": torch.from_numpy(reconstruction), "transparency": torch.from_numpy(predicted)}
    target = {"image": torch.from_numpy(image), "transparency": torch.from_numpy(true)}
    parts = DualObjectiveLoss(*weights)(prediction, target)
    expected = np.mean((reconstruction - image) ** 2), np.mean((predicted - true) ** 2)
    assert set(parts) == {"loss", "reconstruction_loss", "transparency_loss"}
    assert float(parts["reconstruction_loss"]) == pytest.approx(expected[0], rel=1e-5)
    assert float(parts["transparency_loss"]) == pytest.approx(expected[1], rel=1e-5)
    assert float(parts["loss"]) == pytest.approx(np.dot(weights, expected), rel=1e-5)


def test_the_gradient_is_that_of_the_weighted_sum() -> None:
    image, predicted, true = arrays((1, 1, 2, 3), (1,), (1,))
    reconstruction = torch.zeros(1, 1, 2, 3, requires_grad=True)
    transparency = torch.from_numpy(predicted).requires_grad_()
    parts = DualObjectiveLoss(2.0, 0.5)(
        {"reconstruction": reconstruction, "transparency": transparency},
        {"image": torch.from_numpy(image), "transparency": torch.from_numpy(true)},
    )
    parts["loss"].backward()
    np.testing.assert_allclose(reconstruction.grad, 2.0 * 2 * (0 - image) / 6, rtol=1e-5)
    np.testing.assert_allclose(transparency.grad, 0.5 * 2 * (predicted - true), rtol=1e-5)
    assert not parts["reconstruction_loss"].requires_grad
    assert not parts["transparency_loss"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    image = torch.full((1, 1, 64, 64), 300.0)
    reconstruction = torch.zeros(1, 1, 64, 64, dtype=dtype)  # 300² is over the largest float16
    prediction = {"reconstruction": reconstruction, "transparency": torch.tensor([0.5], dtype=dtype)}
    with torch.autocast("cpu", torch.bfloat16):
        parts = DualObjectiveLoss()(prediction, {"image": image.to(dtype), "transparency": torch.tensor([0.25])})
    assert all(part.dtype == torch.float32 for part in parts.values())
    assert float(parts["loss"]) == 300.0**2 + 0.25**2


def test_metatensors_give_a_plain_loss() -> None:
    image = MetaTensor(torch.ones(1, 1, 2, 2))
    prediction = {"reconstruction": MetaTensor(torch.zeros(1, 1, 2, 2)), "transparency": torch.tensor([0.5])}
    parts = DualObjectiveLoss()(prediction, {"image": image, "transparency": MetaTensor(torch.tensor([0.5]))})
    assert type(parts["loss"]) is torch.Tensor
    assert float(parts["loss"]) == 1.0


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (1.0, -0.1), (0, 0), (float("nan"), 1), (1, float("inf"))])
def test_weights_that_make_no_loss_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="_weight"):
        DualObjectiveLoss(*weights)


def test_an_unknown_reconstruction_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="mse, l1"):
        DualObjectiveLoss(reconstruction="ssim")  # type: ignore[arg-type]  # on purpose


def test_an_image_of_another_shape_is_refused_rather_than_broadcast() -> None:
    with pytest.raises(ConfigError, match="shape"):
        ReconstructionLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("predicted", "true"),
    [((2,), (2, 1, 4, 4)), ((2, 1, 2, 2), (2,)), ((2,), (3,)), ((2, 1, 2, 2), (2, 1, 4, 4, 4)), ((2, 1), (2, 1))],
)
def test_a_number_and_a_map_do_not_go_together(predicted: tuple[int, ...], true: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="transparency"):
        TransparencyLoss()(torch.zeros(predicted), torch.zeros(true))
