# SPDX-License-Identifier: Apache-2.0
"""Labels as folders: one for each class, named by it."""

from __future__ import annotations

from pathlib import Path

from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable, class_order, split_name
from monai_mixssl.errors import DataError
from monai_mixssl.output_folder import is_output_folder

__all__ = ["read_class_folders"]


def read_class_folders(root: Path, *, evaluate: bool = False) -> LabelTable:
    """Reads `<root>/<class>/…`, or `<root>/<split>/<class>/…` where all folders are named train, val or test.

    What lies below a class's folder bears its label, however deep. Hidden folders are not looked at, nor `__MACOSX`,
    nor the output folder of an earlier run.

    Args:
        root: the folder.
        evaluate: nothing is to be learned from these images: a single class will do, and no folder train is needed.

    Raises:
        DataError: fewer than two classes, a class's folder is empty, or some folders are named as splits and others
            are not, or none of them is train.
    """
    folders = _folders(root)
    named = {folder: split for folder in folders if (split := _split(folder.name))}
    if named and len(named) < len(folders):
        raise DataError(
            f"{len(named)} of the {len(folders)} folders in dataset_dir are named as splits (train, val, test) and "
            f"{len(folders) - len(named)} are not; keep either splits alone or classes alone there, or give labels.csv."
        )
    if named and not evaluate and "training" not in named.values():
        raise DataError("dataset_dir holds folders of splits, but none named train; add it, or give labels.csv.")
    splits = named or {root: ""}
    pairs = [(folder, split) for top, split in splits.items() for folder in _folders(top)]
    classes = class_order(folder.name for folder, _ in pairs)
    if len(classes) < (1 if evaluate else 2):
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
    # __MACOSX is what archives made on a Mac leave
    there = (p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != "__MACOSX")
    return sorted(p for p in there if not is_output_folder(p))


def _split(name: str) -> str:
    try:
        return split_name(name)
    except DataError:
        return ""
