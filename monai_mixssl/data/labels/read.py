# SPDX-License-Identifier: Apache-2.0
"""Recognises the form that labels come in, and reads them."""

from __future__ import annotations

import os
from pathlib import Path

from monai_mixssl.data.labels.csv_form import read_csv_labels
from monai_mixssl.data.labels.table import CLASSIFICATION, SEGMENTATION, LabelTable
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["read_labels"]


def read_labels(dataset_dir: str | os.PathLike[str], task: str) -> LabelTable:
    """Reads the labels of a data set, without looking at its images.

    Args:
        dataset_dir: for classification a folder with `labels.csv`, a folder of folders named by class, a CSV file, a
            MONAI datalist JSON or a MedMNIST `.npz` file; for segmentation a Decathlon folder (`imagesTr`,
            `labelsTr`), a folder with `labels.csv`, a CSV file or a datalist JSON.
        task: "classification" or "segmentation".

    Returns:
        One row for each labelled path.

    Raises:
        ConfigError: another task.
        DataError: nothing there, not one of these forms, or a mistake in it.
    """
    if task not in (CLASSIFICATION, SEGMENTATION):
        raise ConfigError(f"The task is {task!r}; use {CLASSIFICATION} or {SEGMENTATION}.")
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if not path.exists():
        raise DataError("There is no such file or folder as dataset_dir names; check the spelling.")
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_csv_labels(path, task)
    if path.is_dir() and (path / "labels.csv").is_file():
        return read_csv_labels(path / "labels.csv", task, path)
    raise DataError("dataset_dir holds no labels.")
