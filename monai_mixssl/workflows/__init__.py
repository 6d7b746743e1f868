# SPDX-License-Identifier: Apache-2.0
"""What the bundle command names: the check of a config, its rules, and the packaged workflows."""

from __future__ import annotations

from monai_mixssl.workflows.config_check import check_config
from monai_mixssl.workflows.named import InferenceWorkflow, PretrainWorkflow, bundle_root
from monai_mixssl.workflows.pretrain_rules import PRETRAIN_RULES, check_pretrain_keys

__all__ = [
    "PRETRAIN_RULES",
    "InferenceWorkflow",
    "PretrainWorkflow",
    "bundle_root",
    "check_config",
    "check_pretrain_keys",
]
