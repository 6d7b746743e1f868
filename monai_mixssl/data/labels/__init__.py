# SPDX-License-Identifier: Apache-2.0
"""Labels in the forms that people have, and labelled images in splits that do not leak."""

from __future__ import annotations

from monai_mixssl.data.labels.classification import classification_data
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.labels.manifest import load_labelled
from monai_mixssl.data.labels.read import read_labels
from monai_mixssl.data.labels.segmentation import segmentation_data
from monai_mixssl.data.labels.table import LabelRow, LabelTable

__all__ = [
    "LabelRow",
    "LabelTable",
    "LabelledData",
    "classification_data",
    "load_labelled",
    "read_labels",
    "segmentation_data",
]
