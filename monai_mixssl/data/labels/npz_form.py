# SPDX-License-Identifier: Apache-2.0
"""Labels and images in one MedMNIST `.npz` file."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image
from tqdm import tqdm

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable
from monai_mixssl.errors import DataError

__all__ = ["read_npz_labels", "unpacked_rows", "write_npz_images"]

_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def read_npz_labels(file: Path) -> LabelTable:
    """Reads {train, val, test}_images and _labels; other splits than train may be absent.

    Images are (N, rows, columns) or (N, rows, columns, 3), or (N, x, y, z) in 3D. Labels are (N, 1) or (N,) class
    numbers, or (N, classes) of 0 and 1 where several may hold. An array `classes` names the classes.

    Raises:
        DataError: it cannot be read, lacks arrays, or a label cannot be.
    """
    arrays = _load(file)
    names = [name for name in _SPLITS if f"{name}_images" in arrays or f"{name}_labels" in arrays]
    lacking = [f"{name}_{what}" for name in names or ["train"] for what in ("images", "labels")]
    lacking = [name for name in lacking if name not in arrays]
    if lacking:
        raise DataError(
            f"The .npz file has no array {lacking[0]}; it needs train_images and train_labels, and those of val and "
            "test if there are such splits."
        )
    labels = {name: _labels(arrays[f"{name}_labels"]) for name in names}
    widths = {one.shape[1] for one in labels.values()}
    if len(widths) > 1:
        raise DataError("The labels of the .npz file have another number of columns in each split; give the same.")
    multi_label = widths.pop() > 1
    most = max(one.shape[1] if multi_label else int(one.max()) + 1 for one in labels.values())
    given = [str(name) for name in arrays["classes"].reshape(-1)] if "classes" in arrays else []
    if given and most > len(given):
        raise DataError(f"A label of the .npz file is {most - 1}, and its array classes names {len(given)} classes.")
    rows, images = [], {}
    for name in names:
        images[name] = arrays[f"{name}_images"]
        if images[name].ndim not in (3, 4, 5) or len(images[name]) != len(labels[name]):
            raise DataError(
                f"The arrays {name}_images and {name}_labels of the .npz file do not fit each other; images are "
                "(N, rows, columns), (N, rows, columns, 3) or (N, x, y, z), with a label for each."
            )
        _refuse_what_is_no_image(images[name])
        ending = "png" if _is_picture(images[name]) else "nii"
        for number, label in enumerate(labels[name]):
            own = tuple(int(n) for n in np.flatnonzero(label)) if multi_label else (int(label[0]),)
            rows.append(LabelRow(Path(f"{name}_{number:06d}.{ending}"), own, split=_SPLITS[name]))
    classes = given or [str(number) for number in range(most)]
    return LabelTable(CLASSIFICATION, "npz", rows, classes, multi_label, own_files=[file], arrays=images)


def write_npz_images(table: LabelTable, folder: Path, *, progress: bool = True) -> LabelTable:
    """Writes the images of a table as PNG (2D, 8 bits) or NIfTI files, so that all later steps see files.

    Args:
        table: from `read_npz_labels`.
        folder: where to; made if it does not exist. Files that were written from the same array are not written again.
        progress: show a progress bar on stderr.

    Returns:
        The table of these files.

    Raises:
        RunFolderError: the disk is full.
    """
    unpacked = unpacked_rows(table, folder)
    folder = unpacked.roots[0]
    folder.mkdir(parents=True, exist_ok=True)
    position = dict.fromkeys(table.arrays or {}, 0)
    for row in tqdm(table.rows, "unpacking", disable=not progress, unit="image"):
        name = row.path.name.partition("_")[0]
        image = (table.arrays or {})[name][position[name]]
        position[name] += 1
        _write(folder / row.path.name, image)
    return unpacked


def unpacked_rows(table: LabelTable, folder: Path) -> LabelTable:
    """Returns the table with the paths that `write_npz_images` writes to; the same table where it is of files."""
    if table.arrays is None:
        return table
    status = table.own_files[0].stat()
    folder = folder / f"{status.st_size}-{status.st_mtime_ns}"  # of another file: another folder
    rows = [replace(row, path=folder / row.path.name) for row in table.rows]
    return replace(table, rows=rows, roots=[folder])


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded as content:
                return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"The .npz file cannot be read ({type(error).__name__}); fetch or save it again.") from None
    # what np.save wrote, under another ending
    raise DataError("The .npz file holds a single array without a name; save images and labels by np.savez.")


def _labels(array: np.ndarray) -> np.ndarray:
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size:
        raise DataError("The labels of the .npz file must be (N, 1) class numbers or (N, classes) of 0 and 1.")
    try:
        whole: Any = np.asarray(array, dtype=float)
    except (TypeError, ValueError):
        raise DataError(
            "The labels of the .npz file are texts; give class numbers from 0, and their names in an array classes."
        ) from None
    if array.shape[1] > 1 and not np.isin(whole, (0, 1)).all():
        raise DataError("The labels of the .npz file have several columns and hold something other than 0 and 1.")
    if not np.isfinite(whole).all() or not np.array_equal(whole, whole.round()) or whole.min() < 0:
        raise DataError("The labels of the .npz file are not all class numbers from 0; number the classes from 0.")
    return whole.astype(int)


def _refuse_what_is_no_image(images: np.ndarray) -> None:
    kind, last = images.dtype, images.shape[-1]
    if kind.kind not in "buif":
        raise DataError(f"The images of the .npz file are {kind}; save them as whole or real numbers.")
    if images.ndim == 4 and last == 3 and kind != np.uint8:
        raise DataError(
            f"The images of the .npz file are {kind} with a last axis of 3: colours must be uint8, from "
            "0 to 255; convert them, or save volumes of three slices as NIfTI."
        )
    if images.ndim == 4 and last == 4 and kind == np.uint8:
        raise DataError(
            "The images of the .npz file are uint8 with a last axis of 4, as colours with an opacity are: leave the "
            "opacity out (images[..., :3]), or save volumes of four slices as NIfTI."
        )
    if images.ndim == 5 and last != 1:
        raise DataError(
            f"The images of the .npz file have {last} channels beside three axes; volumes have one: save (N, x, y, z)."
        )


def _is_picture(images: np.ndarray) -> bool:
    flat = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    return flat and images.dtype == np.uint8


def _write(path: Path, image: np.ndarray) -> None:
    if path.exists():
        return
    if path.suffix == ".png":
        write_atomically(path, lambda file: Image.fromarray(image).save(file, format="PNG"), "unpacked images")
        return
    if image.ndim == 4 or (image.ndim == 3 and image.shape[-1] == 1):  # (x, y, z, 1): a channel of its own
        image = image[..., 0]
    affine = np.eye(4)
    if image.ndim == 2:  # rows and columns to x and y, with the first row on top and the first column on the left
        image, affine = image.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])
    values = image if image.dtype in (np.uint8, np.int16, np.float32) else image.astype(np.float32)
    content = nib.Nifti1Image(values, affine).to_bytes()
    write_atomically(path, lambda file: file.write(content), "unpacked images")
