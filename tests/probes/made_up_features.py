# SPDX-License-Identifier: Apache-2.0
"""Features with known classes, made up."""

from __future__ import annotations

import torch

from monai_mixssl.probes import FeatureTable


def table(
    count: int, seed: int, classes: int = 3, apart: float = 4.0, width: int = 6, scale: float = 1.0
) -> FeatureTable:
    """Gaussian clouds, one a class, their centres ``apart`` deviations from the origin, each along its own axis."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.randn(count, width, generator=generator)
    features[torch.arange(count), labels] += apart
    return FeatureTable({"last": scale * features}, labels, [f"{seed}-{number}" for number in range(count)])


def several_labels(count: int, seed: int) -> FeatureTable:
    """Two independent labels an image, each showing in a feature of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, 2, generator=generator) < 0.4).float()
    features = torch.randn(count, 5, generator=generator)
    features[:, :2] += 6 * labels
    return FeatureTable({"last": features}, labels, [f"{seed}-{number}" for number in range(count)])
