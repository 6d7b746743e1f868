# SPDX-License-Identifier: Apache-2.0
"""From labelled images to `LabelledData`: splits, label subset, duplicates, leakage, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_mixssl.data.labels.assign import match_rows, patient_names
from monai_mixssl.data.labels.choices import Choices
from monai_mixssl.data.labels.duplicates import count_duplicates, describe_duplicates
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.labels.leakage import check_leakage
from monai_mixssl.data.labels.manifest import write_labelled
from monai_mixssl.data.labels.split import Unit, draw_splits
from monai_mixssl.data.labels.subset import describe_shortage, label_subset
from monai_mixssl.data.labels.table import CLASSIFICATION, SPLITS, LabelTable
from monai_mixssl.data.records import ScanImage
from monai_mixssl.data.summary import describe_left_out, describe_left_out_slices
from monai_mixssl.errors import DataError

__all__ = ["finish", "label_numbers", "split_records"]


def split_records(
    records: Mapping[str, dict[str, Any]], units: Sequence[Unit], choices: Choices
) -> tuple[dict[str, dict[str, Any]], str]:
    """Returns the records with "split" and "group" (what stayed together) added, and what was held out.

    Raises:
        DataError: see `draw_splits`.
    """
    shares = (0.0, 0.0) if choices.evaluate else (choices.val_fraction, choices.test_fraction)
    splits, split_by = draw_splits(units, *shares, choices.seed)
    by_patient = split_by.endswith("patient")
    groups = {unit.id: unit.patient or unit.series if by_patient else unit.series for unit in units}
    return {one: {**records[one], "group": groups[one], "split": splits[one]} for one in groups}, split_by


def finish(
    output: Path,
    data: LabelledData,
    table: LabelTable,
    images: Sequence[ScanImage],
    choices: Choices,
    chosen: dict[str, Any],
    found: dict[str, int],
    digests: Mapping[str, str],
    report: Callable[[str], Any],
) -> LabelledData:
    """Thins the training labels, compares with the pretraining, and writes the manifest.

    Args:
        output: the run's output folder.
        data: split, and not thinned yet.
        table: the labels as they were read.
        images: what the scan found.
        choices: how to thin, and what to compare with.
        chosen: the same, as the manifest is to hold it.
        found: counts of what the scan found.
        digests: hash of each image's content.
        report: is given what is used.

    Raises:
        DataError: classes cannot be learned, or a test patient or image is known from the pretraining.
        RunFolderError: the disk is full, or `pretrain_run` is none.
    """
    for note in table.notes:  # names that the user gave: for the console alone
        report(note)
    records, notes = _choose_labels(data, choices)
    notes += [] if choices.evaluate else _check_classes(records.values(), data)
    names = patient_names(images, match_rows(table, images)) if choices.pretrain_run is not None else {}
    leakage = check_leakage(records, names, digests, choices.pretrain_run)
    leakage |= count_duplicates(records.values())
    data = replace(data, records=records, leakage=leakage)
    data = replace(
        data, summary="\n".join([*_describe(data), *notes, describe_duplicates(leakage), leakage["message"]])
    )
    write_labelled(output, data, chosen, found)
    report(data.summary)
    return data


def _choose_labels(data: LabelledData, choices: Choices) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Returns the records with "used" added (False for training images beyond the label subset), and what it lacks."""
    training = [
        Unit(one, "", record["group"], label_numbers(record, data.task))
        for one, record in data.records.items()
        if record["split"] == "training"
    ]
    groups = {unit.id: unit.series for unit in training}
    used = label_subset(training, groups, choices.labels_per_class, choices.label_fraction, choices.label_seed)
    classes = data.classes if data.task == CLASSIFICATION else []
    notes = describe_shortage(training, groups, choices.labels_per_class, classes)
    return {
        one: {**record, "used": record["split"] != "training" or one in used} for one, record in data.records.items()
    }, notes


def _check_classes(records: Iterable[Mapping[str, Any]], data: LabelledData) -> list[str]:
    """Refuses classes that cannot be learned in classification, and notes those that segmentation cannot learn.

    A mask may well lack a class; an image whose class no training image has, can only be wrong.
    """
    training = [record for record in records if record["split"] == "training" and record["used"]]
    if data.task != CLASSIFICATION:
        shown = {value for record in training for value in record["values"]}
        lacking = [name for name, value in zip(data.classes, data.label_values, strict=True) if value not in shown]
        return [f"No training mask shows {', '.join(repr(name) for name in lacking)}."] if lacking else []
    least = 1 if data.multi_label else 2
    if len(data.classes) < least:
        raise DataError(f"The labels name {len(data.classes)} classes, and at least {least} are needed to tell apart.")
    there = {number for record in training for number in label_numbers(record, data.task)}
    lacking = [name for number, name in enumerate(data.classes) if number not in there]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(data.classes)} classes (such as {lacking[0]!r}) have no image in training, so "
            "they cannot be learned; give images of them, put some into training, or take their labels away."
        )
    return []


def label_numbers(record: Mapping[str, Any], task: str) -> tuple[int, ...]:
    """Returns the class numbers of a record's label."""
    if task != CLASSIFICATION:
        return ()
    label = record["label"]
    return (label,) if isinstance(label, int) else tuple(n for n, value in enumerate(label) if value)


def _describe(data: LabelledData) -> list[str]:
    """Returns a table of what is used, and what is left out."""
    used = [record for record in data.records.values() if record["used"]]
    rows = [("images", used)]
    if data.task == CLASSIFICATION:
        rows += [
            (f"class {name}", [r for r in used if number in label_numbers(r, data.task)])
            for number, name in enumerate(data.classes)
        ]
    width = max(len(name) for name, _ in rows)
    lines = [f"Using {len(used)} labelled images (split by: {data.split_by}):", f"  {'':{width}}  {'  '.join(SPLITS)}"]
    for name, members in rows:
        counts = (sum(r["split"] == split for r in members) for split in SPLITS)
        cells = (f"{count:{len(split)}d}" for count, split in zip(counts, SPLITS, strict=True))
        lines.append(f"  {name:{width}}  {'  '.join(cells)}")
    unused = len(data.records) - len(used)
    if unused:
        lines.append(f"{unused} further training images are outside the label subset: their labels are not used.")
    lines += describe_left_out(data.excluded)
    if data.settings is not None:  # segmentation, which has none, takes images whole
        lines += describe_left_out_slices(used, data.settings.min_foreground)
    return lines
