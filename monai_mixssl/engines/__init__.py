# SPDX-License-Identifier: Apache-2.0
"""Ignite engines for pretraining and fine-tuning, on MONAI's."""

from __future__ import annotations

from monai_mixssl.engines.class_metrics import ClassificationScore, classification_metrics
from monai_mixssl.engines.evaluator import MixSSLEvaluator
from monai_mixssl.engines.metrics import mean_over_images
from monai_mixssl.engines.precision_evaluator import PrecisionEvaluator
from monai_mixssl.engines.precision_trainer import PrecisionTrainer
from monai_mixssl.engines.prepare_batch import PrepareMixupBatch
from monai_mixssl.engines.prepare_labelled import PrepareLabelledBatch
from monai_mixssl.engines.trainer import MixSSLTrainer

__all__ = [
    "ClassificationScore",
    "MixSSLEvaluator",
    "MixSSLTrainer",
    "PrecisionEvaluator",
    "PrecisionTrainer",
    "PrepareLabelledBatch",
    "PrepareMixupBatch",
    "classification_metrics",
    "mean_over_images",
]
