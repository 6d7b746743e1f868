# SPDX-License-Identifier: Apache-2.0
"""Writes small labelled sets, and says what came of them in terms that no id or order enters."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_scans import blob, write_png

from monai_mixssl.data.labels import LabelledData, classification_data

PREPARATION = {"patch_size": 16}
QUIET = {"progress": False, "num_workers": 0, "report": lambda text: None}


def picture(number: int) -> np.ndarray:
    """Rows × columns of uint8; another one for each number, whose top left value is that number."""
    array = blob((20, 24), seed=number, top=220).astype(np.uint8)
    array[0] = array[-1] = 40  # nothing is cropped
    array[0, 0] = number
    return array


def write_csv(path: Path, header: str, *rows: object) -> Path:
    """Writes comma-separated rows, each a tuple, or the line as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        if isinstance(row, str):
            text.write(f"{row}\n")
        else:
            table.writerow(row)
    path.write_text(text.getvalue())
    return path


def write_pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Writes `0.png`, `1.png`, … of different content."""
    return [write_png(folder / f"{n}.png", picture(n)) for n in range(first, first + count)]


def picture_set(folder: Path, count: int = 12, classes: int = 2, **columns: object) -> Path:
    """Pictures with `labels.csv`: classes alternate; columns (patient, split) are functions of the number."""
    write_pictures(folder, count)
    rows = [(f"{n}.png", f"c{n % classes}", *(give(n) for give in columns.values())) for n in range(count)]
    write_csv(folder / "labels.csv", ",".join(["path", "label", *columns]), *rows)
    return folder


def labelled(dataset_dir: object, output_dir: Path, **settings: object) -> LabelledData:
    """Runs `classification_data` quietly on small patches."""
    return classification_data(dataset_dir, output_dir, **{"preparation": PREPARATION, **QUIET, **settings})


def file_numbers(output_dir: Path) -> dict[str, int]:
    """Returns by id the number in a picture's top left corner, read from the file that private/files.csv names."""
    with open(output_dir / "private" / "files.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["use"] == "image"]
    return {row["id"]: int(np.asarray(Image.open(row["path"])).reshape(-1)[0]) for row in rows}
