# SPDX-License-Identifier: Apache-2.0
"""The engine that trains the dual objective."""

from __future__ import annotations

from monai_mixssl.engines.precision_trainer import PrecisionTrainer
from monai_mixssl.engines.prepare_batch import PrepareMixupBatch

__all__ = ["MixSSLTrainer"]


class MixSSLTrainer(PrecisionTrainer):
    """:py:class:`~monai_mixssl.engines.PrecisionTrainer` for blends, whose batches it prepares itself.

    The network takes the blend (B, C, \\*spatial) and returns a dictionary; the loss, such as
    :py:class:`~monai_mixssl.losses.DualObjectiveLoss`, takes that and the target, and returns one, too.
    """

    default_prepare_batch = PrepareMixupBatch
