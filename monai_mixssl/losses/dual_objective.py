# SPDX-License-Identifier: Apache-2.0
"""The weighted sum of reconstruction and transparency prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses.reconstruction import ReconstructionLoss, ReconstructionName
from monai_mixssl.losses.transparency import TransparencyLoss

__all__ = ["DualObjectiveLoss"]


class DualObjectiveLoss(nn.Module):
    """w_r · reconstruction loss + w_t · transparency loss, with both parts reported.

    The two objectives are those of Zhang et al., "Mix-up Self-Supervised Learning for Contrast-agnostic Applications",
    ICME 2022; squared errors and equal weights are our choice.

    Args:
        reconstruction_weight: w_r, not negative.
        transparency_weight: w_t, not negative; not both may be zero.
        reconstruction: ``"mse"`` or ``"l1"``.

    Raises:
        ConfigError: when a weight is negative or not finite, or both are zero.

    Example:
        >>> loss = DualObjectiveLoss(transparency_weight=0.5)
        >>> prediction = {"reconstruction": torch.zeros(1, 1, 2, 2), "transparency": torch.tensor([0.5])}
        >>> parts = loss(prediction, {"image": torch.ones(1, 1, 2, 2), "transparency": torch.tensor([0.25])})
        >>> {name: float(value) for name, value in parts.items()}
        {'loss': 1.03125, 'reconstruction_loss': 1.0, 'transparency_loss': 0.0625}
    """

    def __init__(
        self,
        reconstruction_weight: float = 1.0,
        transparency_weight: float = 1.0,
        reconstruction: ReconstructionName = "mse",
    ) -> None:
        super().__init__()
        weights = {"reconstruction_weight": reconstruction_weight, "transparency_weight": transparency_weight}
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ConfigError(f"{name} must be a finite number of at least 0, not {weight!r}.")
        if reconstruction_weight == 0 and transparency_weight == 0:
            raise ConfigError(
                "reconstruction_weight and transparency_weight are both 0; give at least one a value above 0."
            )
        self.reconstruction_weight = float(reconstruction_weight)
        self.transparency_weight = float(transparency_weight)
        self.reconstruction_loss = ReconstructionLoss(reconstruction)
        self.transparency_loss = TransparencyLoss()

    def forward(
        self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Compute the loss and its parts.

        Args:
            prediction: what ``MixSSLNet`` gives: ``reconstruction`` (B, C, *spatial) and ``transparency``, (B,) or
                (B, 1, *grid).
            target: ``image``, the unblended target (B, C, *spatial), and ``transparency``, (B,) or (B, 1, *spatial).

        Returns:
            Scalars, float32: ``loss``, to go backward from, and ``reconstruction_loss`` and ``transparency_loss``,
            unweighted and detached, to report.

        Raises:
            ConfigError: when prediction and target do not go together.
        """
        reconstruction = self.reconstruction_loss(prediction["reconstruction"], target["image"])
        transparency = self.transparency_loss(prediction["transparency"], target["transparency"])
        return {
            "loss": self.reconstruction_weight * reconstruction + self.transparency_weight * transparency,
            "reconstruction_loss": reconstruction.detach(),
            "transparency_loss": transparency.detach(),
        }
