# SPDX-License-Identifier: Apache-2.0
"""Labels in a CSV file: path, label, and optionally patient and split."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable, class_order, listed_path, split_name
from monai_mixssl.errors import DataError

__all__ = ["read_csv_labels"]

_COLUMNS = {
    "path": ("path", "image", "file", "filename", "file_name", "file_path", "image_path"),
    "label": ("label", "class", "labels", "mask"),
    "patient": (
        "patient",
        "patient_id",
        "patientid",
        "subject",
        "subject_id",
        "subjectid",
        "case_id",
        "caseid",
    ),
    "split": ("split", "set"),
}
_NEAR = {"patient": ("patient", "subject"), "split": ("split",)}  # what a misspelt name of a column holds
_ABOUT = re.compile(r"age|sex|gender|weight|height|size|position|orientation|comments?")  # patient_age is no patient
_NO_CLASS = ("sex", "gender", "age")
_SEVERAL = ";"  # what stands between several labels in one cell


def read_csv_labels(file: Path, task: str, root: Path | None = None) -> LabelTable:
    """Reads a CSV file with a header.

    Columns `path` and `label` are needed, `patient` and `split` are optional; other columns are named in the table's
    notes. Paths count from the folder of the CSV file. For classification, several labels in a cell are separated by
    `;` (a cell of `;` alone: none of the classes); or, without a column `label`, every further column is a class and
    holds 0 or 1. Both mean that several labels may hold at once. For segmentation, `label` is the path of the mask.

    Args:
        file: the CSV file.
        task: "classification" or "segmentation".
        root: folder all of whose images are to be looked at; None: only what the file names is.

    Raises:
        DataError: it cannot be read, lacks a column, names a file twice or holds a value that cannot be; or a column
            may be meant for patient or split and is called otherwise.
    """
    header, lines = _read(file)
    columns = {name: _find(header, names) for name, names in _COLUMNS.items()}
    _refuse_near_misses(header, columns)
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
        path = listed_path(file, line[path_column].strip())
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
            rows.append(LabelRow(path, (), listed_path(file, cell(line, "label")), patient, split))
    twice = len(rows) - len({row.path for row in rows})
    if twice:
        raise DataError(
            f"The CSV of labels names {twice} files again that it has named before; give each file one line "
            "(several labels of one image are separated by ; in its cell)."
        )
    roots = [root] if root else [row.path for row in rows]
    notes = _notes(header, columns, task, classes)
    return LabelTable(task, "csv", rows, classes, multi_label, roots, [file], problems, notes=notes)


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, PermissionError):
            raise DataError("There is no permission to read the CSV of labels.") from None
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
    known = {_plain(column): column for column in reversed(header)}
    return next((known[name] for name in names if name in known), None)


def _plain(column: str) -> str:
    return re.sub(r"[\s_.-]+", "_", column.strip().lower())


def _refuse_near_misses(header: Sequence[str], columns: Mapping[str, str | None]) -> None:
    for name, words in _NEAR.items():
        near = [
            column for column in header if column not in columns.values() and any(w in _plain(column) for w in words)
        ]
        near = [column for column in near if not _ABOUT.fullmatch(_plain(column).rpartition("_")[2])]
        if columns[name] is None and near:
            raise DataError(
                f"The CSV of labels has no column {name}, but a column {near[0]!r}; call it {name} if it is meant, or "
                "take it away."
            )


def _notes(header: Sequence[str], columns: Mapping[str, str | None], task: str, classes: Sequence[str]) -> list[str]:
    """Returns what the user should know of how the columns were understood."""
    notes = []
    further = [column for column in header if column not in columns.values()]
    if task == CLASSIFICATION and columns["label"] is None:
        notes.append(f"The list of labels has no column label; its columns {', '.join(classes)} are taken as classes.")
        further = [column for column in further if column not in classes]
    if further:
        names = ", ".join(repr(column) for column in further)
        notes.append(f"Columns of the list of labels that are not used: {names}.")
    if any("|" in name for name in classes):
        notes.append("Class names hold |, which is taken as part of the name; several labels are separated by ; alone.")
    return notes


def _classes(
    header: Sequence[str], lines: Sequence[Mapping[str, str]], columns: Mapping[str, str | None]
) -> tuple[list[list[str] | None], list[str], bool]:
    """Returns the names of each line's classes (None: none given), all names, and whether several may hold."""
    column = columns["label"]
    if column is not None:
        cells = [line[column].strip() for line in lines]
        multi_label = any(_SEVERAL in cell for cell in cells)
        if multi_label:
            several = [[part.strip() for part in cell.split(_SEVERAL) if part.strip()] for cell in cells]
            all_names = class_order(name for own in several for name in own)
            # an empty cell says nothing; that no class holds is said by ;
            return [own if cell else None for own, cell in zip(several, cells, strict=True)], all_names, True
        return [[cell] if cell else None for cell in cells], class_order(cell for cell in cells if cell), False
    further = [name for name in header if name not in columns.values()]
    # spreadsheets and pandas leave columns of row numbers without a name
    classes = [name for name in further if name and not _plain(name).startswith("unnamed:")]
    people = [name for name in classes if _plain(name) in _NO_CLASS]
    if people:
        raise DataError(
            f"The CSV of labels has no column label, so every further column would be a class, and {people[0]!r} "
            "hardly is one; name the column of the labels label, or take this column away."
        )
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
