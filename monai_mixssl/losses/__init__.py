# SPDX-License-Identifier: Apache-2.0
"""The dual objective and what it is made of."""

from __future__ import annotations

from monai_mixssl.losses.agreement import AgreementLoss
from monai_mixssl.losses.dual_objective import DualObjectiveLoss
from monai_mixssl.losses.reconstruction import ReconstructionLoss
from monai_mixssl.losses.transparency import TransparencyLoss

__all__ = ["AgreementLoss", "DualObjectiveLoss", "ReconstructionLoss", "TransparencyLoss"]
