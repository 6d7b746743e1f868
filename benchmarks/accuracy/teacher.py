# SPDX-License-Identifier: Apache-2.0
"""Teachers: copies of a network whose weights follow it slowly."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

__all__ = ["falling_share", "follow", "teacher_of"]


def teacher_of(*modules: nn.Module) -> nn.ModuleList:
    """Copies of modules that no optimizer moves."""
    return copy.deepcopy(nn.ModuleList(modules)).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.ModuleList, *modules: nn.Module, share: float) -> None:
    """Move the teacher's weights towards the modules' by a share in [0, 1]: 1 - momentum."""
    for old, new in zip(teacher.parameters(), nn.ModuleList(modules).parameters(), strict=True):
        old.lerp_(new, share)


def falling_share(progress: float) -> float:
    """A hundredth, falling to 0 by a cosine as progress goes from 0 to 1 (Grill et al., "BYOL", NeurIPS 2020)."""
    return 0.01 * (math.cos(math.pi * progress) + 1) / 2
