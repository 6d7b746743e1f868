# SPDX-License-Identifier: Apache-2.0
"""Labels in a MONAI datalist: JSON with lists of {"image", "label"} under "training", "validation" and "test"."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.data.labels.table import CLASSIFICATION, LabelRow, LabelTable, class_order, listed_path
from monai_mixssl.errors import DataError

__all__ = ["named_values", "read_datalist_labels"]

_KEYS = {"training": "training", "train": "training", "validation": "validation", "val": "validation", "test": "test"}


def read_datalist_labels(file: Path, task: str, form: str = "datalist") -> LabelTable:
    """Reads a datalist.

    An entry is {"image": path, "label": …}, optionally with "patient". For classification, "label" is a class name or
    number, or a list: of 0 and 1, one for each class, or of class names; then several may hold. For segmentation it is
    the path of the mask. "labels" of the datalist may name the classes ({"0": "background", …}). Paths count from the
    folder of the JSON. Where there is one list only, splits are drawn from it.

    Args:
        file: the JSON file.
        task: "classification" or "segmentation".
        form: what the table says of its form.

    Raises:
        DataError: it cannot be read, or an entry is not as above.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The datalist JSON cannot be read ({type(error).__name__}); check its syntax.") from None
    try:  # an escape such as \\ud800 is sound JSON and no text, so that no later step could write it
        json.dumps(content, ensure_ascii=False).encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError:
        raise DataError(
            "The datalist JSON holds an escape from \\ud800 to \\udfff without its other half, which is no "
            "character; write the names anew."
        ) from None
    lists = {"training": content} if isinstance(content, list) else content
    lists = {_KEYS[key]: lists[key] for key in _KEYS if isinstance(lists, dict) and key in lists}
    lists = {key: entries for key, entries in lists.items() if entries is not None}
    if not any(lists.values()) or not all(isinstance(entries, list) for entries in lists.values()):
        raise DataError(
            'The datalist JSON must be a list, or hold lists under "training", "validation" and "test", of '
            '{"image": path, "label": …} entries.'
        )
    names = named_values(content) if isinstance(content, dict) else {}
    entries = [(split, entry) for split, several in lists.items() for entry in several]
    problems: list[tuple[Path, str]] = []
    labelled: list[tuple[str, Path, Any, str]] = []
    for split, entry in entries:
        image = entry.get("image") if isinstance(entry, dict) else entry
        image = image[0] if isinstance(image, list) and len(image) == 1 else image
        if not isinstance(image, str):
            raise DataError('An entry of the datalist JSON has no path under "image"; each needs one, a single one.')
        path = listed_path(file, image)
        if not isinstance(entry, dict) or entry.get("label") is None:  # such as the test list of a challenge
            problems.append((path, "image without a label"))
        else:
            labelled.append((split, path, entry["label"], str(entry.get("patient", "")).strip()))
    given = {split for split, *_ in labelled}
    only = len(given) == 1 and given == {"training"}
    splits = [("" if only else split) for split, *_ in labelled]
    if task == CLASSIFICATION:
        classes, multi_label, numbers = _classes([label for _, _, label, _ in labelled], names)
        rows = [
            LabelRow(path, own, None, patient, split)
            for (_, path, _, patient), own, split in zip(labelled, numbers, splits, strict=True)
        ]
        table = LabelTable(task, form, rows, classes, multi_label)
    else:
        rows = []
        for (_, path, label, patient), split in zip(labelled, splits, strict=True):
            label = label[0] if isinstance(label, list) and len(label) == 1 else label
            if not isinstance(label, str):
                raise DataError('An entry of the datalist JSON has no path of a mask under "label"; each needs one.')
            rows.append(LabelRow(path, (), listed_path(file, label), patient, split))
        table = LabelTable(task, form, rows, list(names.values()), values=list(names))
    twice = len(rows) - len({row.path for row in rows})
    if twice:
        raise DataError(f"The datalist JSON names {twice} images again that it has named before; name each once.")
    table.roots, table.own_files, table.problems = [row.path for row in rows], [file], problems
    return table


def named_values(content: Mapping[str, Any]) -> dict[int, str]:
    """Returns names by value from "labels" of a datalist, in the order of the values; empty where it has none.

    Both {"0": "background", …} and {"background": 0, …} are understood.

    Raises:
        DataError: it is neither.
    """
    labels = content.get("labels") or {}
    try:
        pairs = labels.items()
        if all(str(key).lstrip("-").isdigit() for key, _ in pairs):
            return {int(key): str(name) for key, name in sorted(pairs, key=lambda pair: int(pair[0]))}
        return {int(value): str(name) for name, value in sorted(pairs, key=lambda pair: int(pair[1]))}
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            '"labels" of the datalist JSON must give a name for each value, such as {"0": "background", "1": "organ"}.'
        ) from None


def _classes(labels: list[Any], names: Mapping[int, str]) -> tuple[list[str], bool, list[tuple[int, ...]]]:
    """Returns class names, whether several may hold, and the class numbers of each label."""
    if any(not isinstance(one, str | int) for label in labels for one in _listed(label)):
        raise DataError("A label of the datalist JSON is neither a class name nor a class number; use one of them.")
    multi_label = any(isinstance(label, list) for label in labels)
    if multi_label and all(isinstance(label, list) and set(label) <= {0, 1} for label in labels):
        widths = {len(label) for label in labels}
        if len(widths) > 1 or (names and len(names) not in widths):
            raise DataError("The labels of the datalist JSON are lists of different lengths; give one number a class.")
        classes = list(names.values()) or [str(number) for number in range(widths.pop())]
        return classes, True, [tuple(n for n, value in enumerate(label) if value) for label in labels]
    texts = [[_name(one, names) for one in _listed(label)] for label in labels]
    there = [text for own in texts for text in own]
    classes = list(names.values()) if names else class_order(there)
    unknown = sorted(set(there) - set(classes))
    if unknown:
        raise DataError(
            f'The datalist JSON has the label {unknown[0]!r}, which is not among its "labels"; add it there, or '
            "correct it."
        )
    return classes, multi_label, [tuple(sorted({classes.index(text) for text in own})) for own in texts]


def _name(label: str | int, names: Mapping[int, str]) -> str:
    """Returns the name of a class, given by name, by number, or by its number as text."""
    if isinstance(label, str):
        label = label.strip()
        if label in names.values() or not re.fullmatch(r"-?[0-9]+", label):
            return label
    return names.get(int(label), str(label))


def _listed(label: Any) -> list[Any]:
    return label if isinstance(label, list) else [label]
