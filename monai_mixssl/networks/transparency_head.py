# SPDX-License-Identifier: Apache-2.0
"""The head that predicts how much of the blend is the target."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from monai_mixssl.errors import ConfigError

__all__ = ["TransparencyHead", "TransparencyKind"]

TransparencyKind = Literal["number", "map"]

_HIDDEN_CHANNELS = 64


class TransparencyHead(nn.Module):
    """Transparency in (0, 1) from the encoder's last feature map: one number an image, or one a position.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the last feature map.
        kind: ``"number"`` for global average pooling and a small perceptron, ``"map"`` for a 1-wide convolution.

    Raises:
        ConfigError: when the kind is neither.
    """

    def __init__(self, spatial_dims: int, in_channels: int, kind: TransparencyKind = "number") -> None:
        super().__init__()
        if kind not in ("number", "map"):
            raise ConfigError(f"transparency must be 'number' or 'map', not {kind!r}.")
        self.kind = kind
        self.predict: nn.Module
        if kind == "number":
            self.predict = nn.Sequential(
                nn.Linear(in_channels, _HIDDEN_CHANNELS), nn.ReLU(inplace=True), nn.Linear(_HIDDEN_CHANNELS, 1)
            )
        else:
            self.predict = Conv[Conv.CONV, spatial_dims](in_channels, 1, kernel_size=1)

    def forward(self, last: torch.Tensor) -> torch.Tensor:
        """Predict.

        Args:
            last: the encoder's last feature map, (B, C, *grid).

        Returns:
            float32, (B,) for a number, (B, 1, *grid) for a map.
        """
        if self.kind == "number":
            last = last.flatten(2).mean(dim=2)
        # float32: bfloat16 has steps of 1/256 just under 1
        prediction = torch.sigmoid(self.predict(last).float())
        return prediction.squeeze(1) if self.kind == "number" else prediction
