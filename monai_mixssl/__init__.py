# SPDX-License-Identifier: Apache-2.0
"""Mix-up self-supervised pretraining for MONAI, and what comes after it."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

# What `--workflow_name monai_mixssl.<Name>` finds; imported on first use, since it brings all of MONAI with it.
_WORKFLOWS = (
    "ClassificationEvaluateWorkflow",
    "ClassificationInferWorkflow",
    "ClassificationWorkflow",
    "InferenceWorkflow",
    "PretrainWorkflow",
    "SegmentationEvaluateWorkflow",
    "SegmentationInferWorkflow",
    "SegmentationWorkflow",
    "TwoViewsWorkflow",
)


def __getattr__(name: str) -> Any:
    if name in _WORKFLOWS:
        from monai_mixssl import workflows

        return getattr(workflows, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
