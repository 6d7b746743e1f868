# SPDX-License-Identifier: Apache-2.0
"""Recognises the form that labels come in, and reads them."""

from __future__ import annotations

import os
from pathlib import Path

from monai_mixssl.data.labels.class_folders import read_class_folders
from monai_mixssl.data.labels.csv_form import read_csv_labels
from monai_mixssl.data.labels.datalist_form import read_datalist_labels
from monai_mixssl.data.labels.decathlon_form import read_decathlon
from monai_mixssl.data.labels.npz_form import read_npz_labels
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
    return _read_file(path, task) if path.is_file() else _read_folder(path, task)


def _read_file(path: Path, task: str) -> LabelTable:
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return read_csv_labels(path, task)
    if ending == ".json":
        return read_datalist_labels(path, task)
    if ending == ".npz" and task == CLASSIFICATION:
        return read_npz_labels(path)
    forms = "CSV, datalist JSON or .npz" if task == CLASSIFICATION else "CSV or datalist JSON"
    raise DataError(f"dataset_dir is a file, but no {forms} file; give one of these, or a folder.")


def _read_folder(path: Path, task: str) -> LabelTable:
    if (path / "labels.csv").is_file():
        return read_csv_labels(path / "labels.csv", task, path if task == CLASSIFICATION else None)
    decathlon = (path / "imagesTr").is_dir() and (path / "labelsTr").is_dir()
    if task == SEGMENTATION and decathlon:
        return read_decathlon(path)
    for name in ("datalist.json", "dataset.json"):
        if (path / name).is_file():
            return read_datalist_labels(path / name, task)
    if task == SEGMENTATION:
        raise DataError(
            "dataset_dir holds neither imagesTr and labelsTr, nor labels.csv, nor a datalist.json; give images and "
            "masks in one of these forms."
        )
    if decathlon:
        raise DataError("dataset_dir holds masks (labelsTr), which are labels for segmentation, not classification.")
    return read_class_folders(path)
