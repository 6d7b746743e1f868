# SPDX-License-Identifier: Apache-2.0
"""Labels as folders: one for each class, named by it."""

from __future__ import annotations

from pathlib import Path

from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable, class_order, split_name
from monai_mixssl.errors import DataError

__all__ = ["read_class_folders"]


def read_class_folders(root: Path) -> LabelTable:
    """Reads `<root>/<class>/…`, or `<root>/<split>/<class>/…` where all folders are named train, val or test.

    What lies below a class's folder bears its label, however deep. Hidden folders are not looked at.

    Raises:
        DataError: fewer than two classes, or a class's folder is empty.
    """
    folders = _folders(root)
    try:
        splits = {folder: split_name(folder.name) for folder in folders}
    except DataError:
        splits = {root: ""}
    if "training" not in splits.values():
        splits = {root: ""}
    pairs = [(folder, split) for top, split in splits.items() for folder in _folders(top)]
    classes = class_order(folder.name for folder, _ in pairs)
    if len(classes) < 2:
        raise DataError(
            f"dataset_dir holds {len(classes)} folders, and no labels.csv; for classification it must hold a folder "
            "for each class (at least two), or labels.csv, or be a CSV, datalist JSON or .npz file."
        )
    for folder, _ in pairs:
        if not any(folder.iterdir()):
            raise DataError(f"The folder of the class {folder.name!r} is empty; fill it, or take it away.")
    rows = [LabelRow(folder, (classes.index(folder.name),), split=split) for folder, split in pairs]
    return LabelTable(CLASSIFICATION, "folders", rows, classes, roots=[root])


def _folders(root: Path) -> list[Path]:
    return sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
