# SPDX-License-Identifier: Apache-2.0
"""Masks in the folders of the Medical Segmentation Decathlon: `imagesTr`, `labelsTr`, and perhaps `dataset.json`."""

from __future__ import annotations

import json
from pathlib import Path

from monai_mixssl.data.labels.datalist_form import named_values
from monai_mixssl.data.labels.table import SEGMENTATION, LabelRow, LabelTable
from monai_mixssl.errors import DataError

__all__ = ["read_decathlon"]

_ENDINGS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".dcm")
_CHANNEL = "_0000"  # what nnU-Net appends to the names of images


def read_decathlon(root: Path) -> LabelTable:
    """Pairs the files of `imagesTr` and `labelsTr` by name, and those of `imagesTs` and `labelsTs` as the test.

    `dataset.json` names the classes, where it is there; its lists of files are not needed. Images without a mask are
    listed as problems, and so are masks without an image.

    Raises:
        DataError: no image has a mask, or `dataset.json` cannot be read.
    """
    names: dict[int, str] = {}
    description = root / "dataset.json"
    if description.is_file():
        try:
            names = named_values(json.loads(description.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"dataset.json cannot be read ({type(error).__name__}); check its syntax.") from None
    rows: list[LabelRow] = []
    problems: list[tuple[Path, str]] = []
    given_test = (root / "imagesTs").is_dir() and (root / "labelsTs").is_dir()
    for images, labels, split in (("imagesTr", "labelsTr", "training"), ("imagesTs", "labelsTs", "test")):
        if split == "test" and not given_test:
            problems += [(path, "image without a mask") for path in _files(root / images).values()]
            continue
        found, masks = _files(root / images), _files(root / labels)
        for name, path in found.items():
            mask = masks.pop(name, None) or masks.pop(name.removesuffix(_CHANNEL), None)
            if mask is None:
                problems.append((path, "image without a mask"))
            else:
                rows.append(LabelRow(path, (), mask, "", split if given_test else ""))
        problems += [(path, "mask without an image") for path in masks.values()]
    if not rows:
        raise DataError(
            "No file of imagesTr has a mask of the same name in labelsTr; name the mask of a.nii.gz a.nii.gz, too."
        )
    roots = [row.path for row in rows]
    return LabelTable(
        SEGMENTATION, "decathlon", rows, list(names.values()), False, roots, [], problems, None, list(names)
    )


def _files(folder: Path) -> dict[str, Path]:
    """Returns the files of a folder by name without ending; ._ files, which macOS leaves, are no images."""
    if not folder.is_dir():
        return {}
    found = {}
    for path in sorted(folder.iterdir()):
        ending = next((one for one in _ENDINGS if path.name.lower().endswith(one)), "")
        if ending and path.is_file() and not path.name.startswith("."):
            found[path.name[: -len(ending)]] = path
    return found
