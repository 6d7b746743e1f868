# SPDX-License-Identifier: Apache-2.0
"""Labels in a CSV file: path, label, and optionally patient and split."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable, class_order, split_name
from monai_mixssl.errors import DataError

__all__ = ["read_csv_labels"]

_COLUMNS = {
    "path": ("path", "image", "file", "filename"),
    "label": ("label", "class", "labels", "mask"),
    "patient": ("patient", "patient_id", "patientid"),
    "split": ("split",),
}
_SEVERAL = re.compile(r"[;|]")  # what stands between several labels in one cell


def read_csv_labels(file: Path, task: str, root: Path | None = None) -> LabelTable:
    """Reads a CSV file with a header.

    Columns `path` and `label` are needed, `patient` and `split` are optional. Paths count from the folder of the CSV
    file. For classification, several labels in a cell are separated by `;` or `|`; or, without a column `label`, every
    further column is a class and holds 0 or 1. Both mean that several labels may hold at once. For segmentation,
    `label` is the path of the mask.

    Args:
        file: the CSV file.
        task: "classification" or "segmentation".
        root: folder all of whose images are to be looked at; None: only what the file names is.

    Raises:
        DataError: it cannot be read, lacks a column, names a file twice or holds a value that cannot be.
    """
    header, lines = _read(file)
    columns = {name: _find(header, names) for name, names in _COLUMNS.items()}
    if columns["path"] is None:
        raise DataError("The CSV of labels has no column path; its first line must name the columns path and label.")
    path_column = columns["path"]
    problems: list[tuple[Path, str]] = []
    rows: list[LabelRow] = []
    names: list[list[str] | None] = []
    classes: list[str] = []
    multi_label = False

    def cell(line: Mapping[str, str], name: str) -> str:
        column = columns[name]
        return "" if column is None else line[column].strip()

    if task == CLASSIFICATION:
        names, classes, multi_label = _classes(header, lines, columns)
    elif columns["label"] is None:
        raise DataError("The CSV of masks has no column label; it must name the mask of each image.")
    for number, line in enumerate(lines):
        if not line[path_column].strip():
            problems.append((file, "line of the list without a path"))
            continue
        path = Path(os.path.abspath(file.parent / Path(line[path_column].strip()).expanduser()))
        patient, split = cell(line, "patient"), split_name(cell(line, "split"))
        if task == CLASSIFICATION:
            own = names[number]
            if own is None:
                problems.append((path, "no label in the list"))
                continue
            rows.append(LabelRow(path, tuple(sorted(classes.index(name) for name in own)), None, patient, split))
        elif not cell(line, "label"):
            problems.append((path, "no mask in the list"))
        else:
            mask = Path(os.path.abspath(file.parent / Path(cell(line, "label")).expanduser()))
            rows.append(LabelRow(path, (), mask, patient, split))
    twice = len(rows) - len({row.path for row in rows})
    if twice:
        raise DataError(
            f"The CSV of labels names {twice} files again that it has named before; give each file one line "
            "(several labels of one image are separated by ; in its cell)."
        )
    roots = [root] if root else [row.path for row in rows]
    return LabelTable(task, "csv", rows, classes, multi_label, roots, [file], problems)


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The CSV of labels cannot be read ({type(error).__name__}); save it as UTF-8 text.") from None
    first = text.partition("\n")[0]
    # spreadsheets of some countries separate columns by semicolons
    delimiter = next((one for one in ",;\t" if one in first), ",")
    try:
        lines = [line for line in csv.reader(text.splitlines(), delimiter=delimiter, strict=True) if any(line)]
    except csv.Error:
        raise DataError("The CSV of labels is damaged (quotes that do not close); save it again.") from None
    if len(lines) < 2:
        raise DataError("The CSV of labels is empty; it needs a line with the names of the columns, and one an image.")
    header = [name.strip() for name in lines[0]]
    if len(set(header)) < len(header):
        raise DataError("The CSV of labels has two columns of one name; rename one of them.")
    uneven = sum(len(line) != len(header) for line in lines[1:])
    if uneven:
        raise DataError(
            f"{uneven} lines of the CSV of labels have another number of cells than its first line; put texts that "
            "hold commas in quotes."
        )
    return header, [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _find(header: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {column.lower(): column for column in reversed(header)}
    return next((lower[name] for name in names if name in lower), None)


def _classes(
    header: Sequence[str], lines: Sequence[Mapping[str, str]], columns: Mapping[str, str | None]
) -> tuple[list[list[str] | None], list[str], bool]:
    """Returns the names of each line's classes (None: none given), all names, and whether several may hold."""
    column = columns["label"]
    if column is not None:
        cells = [line[column].strip() for line in lines]
        multi_label = any(_SEVERAL.search(cell) for cell in cells)
        if multi_label:
            several = [[part.strip() for part in _SEVERAL.split(cell) if part.strip()] for cell in cells]
            return list(several), class_order(name for own in several for name in own), True
        return [[cell] if cell else None for cell in cells], class_order(cell for cell in cells if cell), False
    classes = [name for name in header if name not in columns.values()]
    if not classes:
        raise DataError(
            "The CSV of labels has no column label, and no column for each class with 0 or 1; it needs either."
        )
    names: list[list[str] | None] = []
    for line in lines:
        values = {name: line[name].strip() for name in classes}
        if all(value == "" for value in values.values()):
            names.append(None)
            continue
        wrong = [name for name, value in values.items() if value not in ("0", "1", "0.0", "1.0", "")]
        if wrong:
            raise DataError(
                f"The CSV of labels has no column label, and its column {wrong[0]!r} holds something other than 0 and "
                "1; name the column of the labels label, or use 0 and 1."
            )
        names.append([name for name, value in values.items() if value in ("1", "1.0")])
    return names, classes, True
