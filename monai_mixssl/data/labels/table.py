# SPDX-License-Identifier: Apache-2.0
"""What a list of labels says, whatever form it came in: one row for each labelled path."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_mixssl.errors import DataError

__all__ = [
    "CLASSIFICATION",
    "SEGMENTATION",
    "SPLITS",
    "LabelRow",
    "LabelTable",
    "class_order",
    "listed_path",
    "split_name",
]

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
SPLITS = ("training", "validation", "test")
_SPLIT_NAMES = {
    "train": "training", "training": "training",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class LabelRow:
    """One labelled path.

    Attributes:
        path: a file, or a folder: then the label is that of every image in it. Private.
        labels: numbers of its classes; one, unless several labels may hold at once. Empty for segmentation.
        mask: the file of its mask, in segmentation. Private.
        patient: patient as the list names it, "" where it does not. Private.
        split: "training", "validation" or "test", or "" where the list does not say.
    """

    path: Path = field(repr=False)
    labels: tuple[int, ...] = ()
    mask: Path | None = field(default=None, repr=False)
    patient: str = field(default="", repr=False)
    split: str = ""


@dataclass
class LabelTable:
    """All labels of a data set.

    Attributes:
        task: "classification" or "segmentation".
        form: "folders", "csv", "datalist", "npz" or "decathlon".
        rows: one for each labelled path, in the order of the list.
        classes: names in the order of their numbers. In segmentation background comes first, and the list is empty
            where nothing but the masks can tell.
        multi_label: several labels may hold for one image.
        roots: where to look for images: a folder whose files need a label each, or else the rows' own paths.
        own_files: files that are the list itself, no images.
        problems: (path, reason) of what the list names and cannot be used.
        arrays: images in memory (MedMNIST) by split; the rows name the files that they are yet to be written to.
        values: for segmentation, the value in the masks of each of `classes`.
        notes: what the user should know of how the list was understood; for the console alone.
    """

    task: str
    form: str
    rows: list[LabelRow] = field(repr=False)
    classes: list[str]
    multi_label: bool = False
    roots: list[Path] = field(default_factory=list, repr=False)
    own_files: list[Path] = field(default_factory=list, repr=False)
    problems: list[tuple[Path, str]] = field(default_factory=list, repr=False)
    arrays: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    values: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def split_name(text: str) -> str:
    """Returns "training", "validation", "test" or "" for what people write for them.

    Raises:
        DataError: it is none of them.
    """
    name = text.strip().lower()
    if name and name not in _SPLIT_NAMES:
        raise DataError(
            "The list of labels has a split other than training, validation and test (short: train, val, test); "
            "use these, or leave the cell empty."
        )
    return _SPLIT_NAMES.get(name, "")


def listed_path(file: Path, text: str) -> Path:
    """Returns a path that a list names: absolute, or from the folder of the list, or with ~ for the home folder."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # ~someone who has no home here: a file of that name, then
        path = path.expanduser()
    return Path(os.path.abspath(file.parent / path))


def class_order(names: Iterable[str]) -> list[str]:
    """Sorts class names: as numbers where all are whole numbers, else as text."""
    unique = set(names)
    if all(re.fullmatch(r"-?\d+", name) for name in unique):
        return sorted(unique, key=int)
    return sorted(unique)
