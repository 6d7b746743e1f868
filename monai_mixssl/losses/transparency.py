# SPDX-License-Identifier: Apache-2.0
"""How far the predicted transparency is from the true one."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Pool
from torch import nn
from torch.nn import functional

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses.tensors import as_float32

__all__ = ["TransparencyLoss"]


class TransparencyLoss(nn.Module):
    """Mean squared error of the transparency, for one number an image or a map, in float32.

    A true map is finer than a predicted one: each predicted position is compared with the average of the true map over
    its area.
    """

    def forward(self, prediction: torch.Tensor, transparency: torch.Tensor) -> torch.Tensor:
        """Compare.

        Args:
            prediction: (B,), or a map (B, 1, *grid).
            transparency: the true one, (B,), or a map (B, 1, *spatial) at least as fine as the grid.

        Returns:
            Scalar, float32.

        Raises:
            ConfigError: when one is a number and the other a map, the batch sizes or dimensions differ, or there are
                two dimensions, which is neither.
        """
        if prediction.ndim != transparency.ndim or prediction.shape[:2] != transparency.shape[:2]:
            raise ConfigError(
                f"Predicted and true transparency do not go together ({tuple(prediction.shape)} and "
                f"{tuple(transparency.shape)}); set the network's transparency to 'map' if and only if the mix-up "
                "transform draws maps."
            )
        if prediction.ndim == 2:
            raise ConfigError(
                f"The transparency has shape {tuple(prediction.shape)} but must be (B,), or a map (B, 1, *grid)."
            )
        predicted, true = as_float32(prediction), as_float32(transparency)
        if true.ndim > 1:
            area_average = Pool[Pool.ADAPTIVEAVG, true.ndim - 2](tuple(predicted.shape[2:]))
            true = area_average(true)
        return functional.mse_loss(predicted, true)
