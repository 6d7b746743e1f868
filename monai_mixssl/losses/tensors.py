# SPDX-License-Identifier: Apache-2.0
"""What the losses do to every tensor that they get."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

__all__ = ["as_float32"]


def as_float32(tensor: torch.Tensor) -> torch.Tensor:
    """A plain float32 tensor: half precision would round squared errors away, and metadata have no place in a loss."""
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).float()
