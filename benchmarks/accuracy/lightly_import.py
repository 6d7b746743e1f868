# SPDX-License-Identifier: Apache-2.0
"""lightly, which imports torchvision, whose compiled operators may not load (a CPU build of torch beside it)."""

from __future__ import annotations

import torch

__all__ = ["heads", "losses"]

try:
    import torchvision  # noqa: F401 (only whether it can be imported matters)
except RuntimeError:  # "operator torchvision::nms does not exist": it registers fake kernels of these two at import
    _library = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lightly import loss as losses
from lightly.models.modules import heads
