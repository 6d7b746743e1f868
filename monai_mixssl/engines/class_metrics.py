# SPDX-License-Identifier: Apache-2.0
"""What is measured on validation images while a classifier is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from ignite.metrics import Metric
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.engines.metrics import mean_over_images
from monai_mixssl.probes import class_scores

__all__ = ["ClassificationScore", "class_probabilities", "classification_metrics"]

_SCORES = ("auc", "balanced_accuracy", "accuracy")


class ClassificationScore(CumulativeIterationMetric):
    """One of the scores of :py:func:`~monai_mixssl.probes.class_scores` over all batches of all processes.

    Args:
        name: ``"accuracy"``, ``"balanced_accuracy"`` or ``"auc"``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """Only keeps probabilities (B, K) and labels (B,) or (B, K); the score is of all images together."""
        return y_pred, y

    def aggregate(self) -> float:
        """The score, not a number where it is not defined (the area under the curve of a single class)."""
        probabilities, labels = self.get_buffer()
        value = class_scores(labels.cpu().numpy(), probabilities.float().cpu().numpy())[self.name]
        return math.nan if value is None else value


def classification_metrics(multi_label: bool = False) -> dict[str, Metric]:
    """Ignite metrics over the output of :py:class:`~monai_mixssl.engines.PrecisionEvaluator` for a classifier.

    Args:
        multi_label: several labels may hold for one image.

    Returns:
        ``val_auc``, ``val_balanced_accuracy``, ``val_accuracy`` (higher is better) and ``val_loss``.
    """

    def output(values: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return class_probabilities(values[Keys.PRED], multi_label), values[Keys.LABEL]

    metrics: dict[str, Metric] = {
        f"val_{name}": IgniteMetricHandler(
            metric_fn=ClassificationScore(name), output_transform=output, save_details=False
        )
        for name in _SCORES
    }
    return {**metrics, "val_loss": mean_over_images("loss")}


def class_probabilities(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """float32 probabilities (B, K) from logits: softmax where one class holds, a sigmoid each where several may."""
    return logits.float().sigmoid() if multi_label else logits.float().softmax(dim=1)
