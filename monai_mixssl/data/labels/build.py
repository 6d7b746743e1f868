# SPDX-License-Identifier: Apache-2.0
"""From labelled images to `LabelledData`: splits, label subset, duplicates, leakage, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_mixssl.data.labels.choices import Choices
from monai_mixssl.data.labels.duplicates import count_duplicates, describe_duplicates
from monai_mixssl.data.labels.leakage import check_leakage
from monai_mixssl.data.labels.split import Unit, draw_splits
from monai_mixssl.data.labels.subset import label_subset
from monai_mixssl.data.labels.table import CLASSIFICATION, SPLITS
from monai_mixssl.data.records import Excluded
from monai_mixssl.data.summary import describe_left_out
from monai_mixssl.errors import DataError

__all__ = ["check_classes", "choose_labels", "compare", "describe", "label_numbers", "split_records"]


def split_records(
    records: Mapping[str, dict[str, Any]], units: Sequence[Unit], choices: Choices
) -> tuple[dict[str, dict[str, Any]], str]:
    """Returns the records with "split" and "group" (what stayed together) added, and what was held out.

    Raises:
        DataError: see `draw_splits`.
    """
    splits, split_by = draw_splits(units, choices.val_fraction, choices.test_fraction, choices.seed)
    by_patient = split_by.endswith("patient")
    groups = {unit.id: unit.patient or unit.series if by_patient else unit.series for unit in units}
    return {one: {**records[one], "group": groups[one], "split": splits[one]} for one in groups}, split_by


def choose_labels(records: Mapping[str, dict[str, Any]], task: str, choices: Choices) -> dict[str, dict[str, Any]]:
    """Returns the records with "used" added: False for training images beyond the label subset."""
    training = [
        Unit(one, "", record["group"], label_numbers(record, task))
        for one, record in records.items()
        if record["split"] == "training"
    ]
    groups = {unit.id: unit.series for unit in training}
    used = label_subset(training, groups, choices.labels_per_class, choices.label_fraction, choices.label_seed)
    return {one: {**record, "used": record["split"] != "training" or one in used} for one, record in records.items()}


def check_classes(records: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> None:
    """Refuses classes that cannot be learned.

    Raises:
        DataError: fewer than two classes (one where several may hold), or one without an image in training.
    """
    there: set[int] = set()
    single = False
    for record in records:
        single = single or isinstance(record["label"], int)
        if record["split"] == "training" and record["used"]:
            there.update(label_numbers(record, CLASSIFICATION))
    if len(classes) < 1 + single:
        raise DataError(f"The labels name {len(classes)} class, and telling classes apart needs at least two.")
    lacking = [name for number, name in enumerate(classes) if number not in there]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(classes)} classes (such as {lacking[0]!r}) have no image in training, so they "
            "cannot be learned; give images of them, put some of them into training, or take their labels away."
        )


def compare(
    records: Mapping[str, dict[str, Any]], names: Mapping[str, set[str]], digests: Mapping[str, str], choices: Choices
) -> dict[str, Any]:
    """Returns the result of the leakage guard, with the counts of duplicates.

    Raises:
        DataError: see `check_leakage`.
        RunFolderError: see `check_leakage`.
    """
    return {**check_leakage(records, names, digests, choices.pretrain_run), **count_duplicates(records.values())}


def label_numbers(record: Mapping[str, Any], task: str) -> tuple[int, ...]:
    """Returns the class numbers of a record's label."""
    if task != CLASSIFICATION:
        return ()
    label = record["label"]
    return (label,) if isinstance(label, int) else tuple(n for n, value in enumerate(label) if value)


def describe(
    records: Mapping[str, dict[str, Any]],
    task: str,
    classes: Sequence[str],
    split_by: str,
    excluded: Sequence[Excluded],
    leakage: Mapping[str, Any],
) -> str:
    """Returns a table of what is used, what is left out, and the sentences on duplicates and leakage."""
    used = [record for record in records.values() if record["used"]]
    rows: list[tuple[str, list[dict[str, Any]]]] = [("images", used)]
    if task == CLASSIFICATION:
        rows += [
            (f"class {name}", [r for r in used if number in label_numbers(r, task)])
            for number, name in enumerate(classes)
        ]
    width = max(len(name) for name, _ in rows)
    lines = [f"Using {len(used)} labelled images (split by: {split_by}):", f"  {'':{width}}  {'  '.join(SPLITS)}"]
    for name, members in rows:
        counts = (sum(r["split"] == split for r in members) for split in SPLITS)
        cells = (f"{count:{len(split)}d}" for count, split in zip(counts, SPLITS, strict=True))
        lines.append(f"  {name:{width}}  {'  '.join(cells)}")
    unused = len(records) - len(used)
    if unused:
        lines.append(f"{unused} further training images are outside the label subset: their labels are not used.")
    lines += describe_left_out(excluded)
    lines += [describe_duplicates(leakage), leakage["message"]]
    return "\n".join(lines)
