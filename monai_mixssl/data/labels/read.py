# SPDX-License-Identifier: Apache-2.0
"""Recognises the form that labels come in, and reads them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from monai_mixssl.data.labels.class_folders import read_class_folders
from monai_mixssl.data.labels.csv_form import read_csv_labels
from monai_mixssl.data.labels.datalist_form import read_datalist_labels
from monai_mixssl.data.labels.decathlon_form import read_decathlon
from monai_mixssl.data.labels.npz_form import read_npz_labels
from monai_mixssl.data.labels.table import CLASSIFICATION, SEGMENTATION, LabelTable
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["read_labels"]


def read_labels(
    dataset_dir: str | os.PathLike[str],
    task: str,
    *,
    output_dir: str | os.PathLike[str] | None = None,
    evaluate: bool = False,
) -> LabelTable:
    """Reads the labels of a data set, without looking at its images.

    Args:
        dataset_dir: for classification a folder with `labels.csv`, a folder of folders named by class, a CSV file, a
            MONAI datalist JSON or a MedMNIST `.npz` file; for segmentation a Decathlon folder (`imagesTr`,
            `labelsTr`), a folder with `labels.csv`, a CSV file or a datalist JSON.
        task: "classification" or "segmentation".
        output_dir: where the results go; must not lie among folders of classes.
        evaluate: nothing is to be learned: all images are the test, whatever splits are named, and one class will do.

    Returns:
        One row for each labelled path.

    Raises:
        ConfigError: another task, or `output_dir` lies among folders of classes.
        DataError: nothing there, not one of these forms, or a mistake in it.
    """
    if task not in (CLASSIFICATION, SEGMENTATION):
        raise ConfigError(f"The task is {task!r}; use {CLASSIFICATION} or {SEGMENTATION}.")
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if not path.exists():
        raise DataError("There is no such file or folder as dataset_dir names; check the spelling.")
    table = _read_file(path, task) if path.is_file() else _read_folder(path, task, output_dir, evaluate)
    if evaluate:
        table.rows = [replace(row, split="test") for row in table.rows]
    return table


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


def _read_folder(path: Path, task: str, output_dir: str | os.PathLike[str] | None, evaluate: bool) -> LabelTable:
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
    if output_dir is not None and Path(output_dir).expanduser().resolve().is_relative_to(path.resolve()):
        raise ConfigError(
            "output_dir lies within dataset_dir, where every folder is a class; give an output_dir outside of it."
        )
    return read_class_folders(path, evaluate=evaluate)
