# SPDX-License-Identifier: Apache-2.0
"""How good are the features as they stand? Simple classifiers on top of a frozen encoder."""

from __future__ import annotations

from monai_mixssl.probes.features import FeatureTable, extract_features
from monai_mixssl.probes.knn import knn_probe
from monai_mixssl.probes.linear import linear_probe
from monai_mixssl.probes.scores import class_scores, require_sklearn
from monai_mixssl.probes.training_state import undisturbed

__all__ = [
    "FeatureTable",
    "class_scores",
    "extract_features",
    "knn_probe",
    "linear_probe",
    "require_sklearn",
    "undisturbed",
]
