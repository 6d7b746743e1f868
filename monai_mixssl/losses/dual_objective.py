# SPDX-License-Identifier: Apache-2.0
"""The weighted sum of reconstruction, transparency prediction and, on request, the agreement of two views."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses.agreement import AgreementLoss, AgreementName
from monai_mixssl.losses.reconstruction import ReconstructionLoss, ReconstructionName
from monai_mixssl.losses.transparency import TransparencyLoss

__all__ = ["DualObjectiveLoss"]


class DualObjectiveLoss(nn.Module):
    """w_r · reconstruction loss + w_t · transparency loss + w_a · agreement loss, with the parts reported.

    The first two objectives are those of Zhang et al., "Mix-up Self-Supervised Learning for Contrast-agnostic
    Applications", ICME 2022; squared errors and equal weights are our choice. The third is an addition of this package.

    Args:
        reconstruction_weight: w_r, not negative.
        transparency_weight: w_t, not negative.
        reconstruction: ``"mse"`` or ``"l1"``.
        agreement_weight: w_a, not negative; 0, the paper's method, leaves the agreement out. Not all three may be zero.
        agreement: see :class:`~monai_mixssl.losses.AgreementLoss`.
        temperature: likewise.

    Raises:
        ConfigError: when a weight is negative or not finite, or all are zero, or the agreement is not known.

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
        agreement_weight: float = 0.0,
        agreement: AgreementName = "infonce",
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        weights = {
            "reconstruction_weight": reconstruction_weight,
            "transparency_weight": transparency_weight,
            "agreement_weight": agreement_weight,
        }
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ConfigError(f"{name} must be a finite number of at least 0, not {weight!r}.")
        if not any(weights.values()):
            raise ConfigError(f"{', '.join(weights)} are all 0; give at least one a value above 0.")
        self.reconstruction_weight = float(reconstruction_weight)
        self.transparency_weight = float(transparency_weight)
        self.reconstruction_loss = ReconstructionLoss(reconstruction)
        self.agreement_weight = float(agreement_weight)
        self.transparency_loss = TransparencyLoss()
        self.agreement_loss = AgreementLoss(agreement, temperature)

    def forward(
        self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Compute the loss and its parts.

        Args:
            prediction: what ``MixSSLNet`` gives: ``reconstruction`` (B, C, *spatial), ``transparency``, (B,) or
                (B, 1, *grid), and, for the agreement, ``projection`` (B, P), the second half of the batch being the
                second views of the first half's targets.
            target: ``image``, the unblended target (B, C, *spatial), and ``transparency``, (B,) or (B, 1, *spatial).

        Returns:
            Scalars, float32: ``loss``, to go backward from, and ``reconstruction_loss``, ``transparency_loss`` and,
            where it has a weight, ``agreement_loss``, unweighted and detached, to report.

        Raises:
            ConfigError: when prediction and target do not go together, or a projection is needed and missing.
        """
        parts = {
            "reconstruction_loss": self.reconstruction_loss(prediction["reconstruction"], target["image"]),
            "transparency_loss": self.transparency_loss(prediction["transparency"], target["transparency"]),
        }
        weights = [self.reconstruction_weight, self.transparency_weight]
        if self.agreement_weight:
            if "projection" not in prediction:
                raise ConfigError("The agreement needs the network's projection; give MixSSLNet a projection_size.")
            parts["agreement_loss"] = self.agreement_loss(prediction["projection"])
            weights.append(self.agreement_weight)
        loss = torch.stack([weight * part for weight, part in zip(weights, parts.values(), strict=True)]).sum()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}
