# SPDX-License-Identifier: Apache-2.0
"""The perceptron between the embedding and an objective on embeddings."""

from __future__ import annotations

import torch
from torch import nn

from monai_mixssl.errors import ConfigError

__all__ = ["Projector"]


class Projector(nn.Module):
    """Two layers with batch norm between them, as in Chen et al., ICML 2020; thrown away after pretraining.

    Args:
        in_features: D, length of the embedding, and width of the hidden layer unless that is given.
        out_features: P, length of the projection.
        hidden_features: width of the hidden layer; None for D.

    Raises:
        ConfigError: when a length is not at least 1.
    """

    def __init__(self, in_features: int, out_features: int, hidden_features: int | None = None) -> None:
        super().__init__()
        hidden = in_features if hidden_features is None else hidden_features
        if min(in_features, out_features, hidden) < 1:
            raise ConfigError(f"projection_size must be at least 1, not {out_features!r}.")
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out_features),
        )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Project embeddings (B, D) to (B, P)."""
        projection: torch.Tensor = self.layers(embedding)
        return projection
