# SPDX-License-Identifier: Apache-2.0
"""Ignite engines for the dual objective, on MONAI's."""

from __future__ import annotations

from monai_mixssl.engines.evaluator import MixSSLEvaluator
from monai_mixssl.engines.prepare_batch import PrepareMixupBatch
from monai_mixssl.engines.trainer import MixSSLTrainer

__all__ = ["MixSSLEvaluator", "MixSSLTrainer", "PrepareMixupBatch"]
