# SPDX-License-Identifier: Apache-2.0
"""How far the reconstruction is from the target."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses.tensors import as_float32

__all__ = ["ReconstructionLoss", "ReconstructionName"]

ReconstructionName = Literal["mse", "l1"]

_LOSSES: dict[str, type[nn.Module]] = {"mse": nn.MSELoss, "l1": nn.L1Loss}


class ReconstructionLoss(nn.Module):
    """Mean over all voxels of the squared (``"mse"``) or absolute (``"l1"``) difference, in float32.

    Args:
        name: ``"mse"`` or ``"l1"``.

    Raises:
        ConfigError: when the name is neither.
    """

    def __init__(self, name: ReconstructionName = "mse") -> None:
        super().__init__()
        if name not in _LOSSES:
            raise ConfigError(f"The reconstruction loss must be one of {', '.join(_LOSSES)}, not {name!r}.")
        self.difference = _LOSSES[name]()

    def forward(self, reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Compare.

        Args:
            reconstruction: (B, C, *spatial).
            image: the unblended target, same shape.

        Returns:
            Scalar, float32.

        Raises:
            ConfigError: when the shapes differ.
        """
        if reconstruction.shape != image.shape:
            raise ConfigError(
                f"Reconstruction and image differ in shape ({tuple(reconstruction.shape)} and {tuple(image.shape)}); "
                "give the network the same images as the loss."
            )
        return self.difference(as_float32(reconstruction), as_float32(image))
