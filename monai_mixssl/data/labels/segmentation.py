# SPDX-License-Identifier: Apache-2.0
"""From images and masks to data for segmentation: pairs, checks, splits, label subset, leakage."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from monai_mixssl.data.labels.labelled_data import LabelledData

__all__ = ["segmentation_data"]


def segmentation_data(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    spatial_dims: int = 3,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    label_seed: int | None = None,
    pretrain_run: str | os.PathLike[str] | None = None,
    data_from: str | os.PathLike[str] | None = None,
    num_workers: int | None = None,
    progress: bool = True,
    resume: bool = False,
    report: Callable[[str], Any] = print,
) -> LabelledData:
    """Being written."""
    raise NotImplementedError
