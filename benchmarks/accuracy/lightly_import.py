# SPDX-License-Identifier: Apache-2.0
"""lightly, which imports torchvision, where torchvision's compiled operators may be absent (CPU builds)."""

from __future__ import annotations

import torch

__all__ = ["heads", "losses"]

try:
    # torchvision registers fake kernels of these two at import, and fails where they are not defined
    _library = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except RuntimeError:  # they are there
    pass

from lightly import loss as losses
from lightly.models.modules import heads
