# SPDX-License-Identifier: Apache-2.0
"""From images and masks to data for segmentation: pairs, checks, splits, label subset, leakage."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_mixssl.data.atomic import write_json
from monai_mixssl.data.content import content_id
from monai_mixssl.data.damage import check_bad_share
from monai_mixssl.data.labels.assign import scan_labelled
from monai_mixssl.data.labels.build import finish, split_records
from monai_mixssl.data.labels.choices import SPLIT_CHOICES, Choices, refuse_change
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.labels.manifest import DIGESTS, load_labelled, read_choices, read_found, read_index
from monai_mixssl.data.labels.pairs import check_pairs, mask_classes
from monai_mixssl.data.labels.read import read_labels
from monai_mixssl.data.labels.split import Unit
from monai_mixssl.data.labels.table import SEGMENTATION, LabelTable
from monai_mixssl.data.labels.taken_over import refuse_other_labels
from monai_mixssl.data.manifest import write_excluded
from monai_mixssl.data.prepared_data import write_files_table, write_index
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.processes import default_workers
from monai_mixssl.data.records import Excluded, ScanImage
from monai_mixssl.data.summary import count_reasons, found_counts, summarize
from monai_mixssl.errors import ConfigError, DataError, RunFolderError

__all__ = ["segmentation_data"]


def segmentation_data(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    spatial_dims: int = 3,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    label_seed: int | None = None,
    pretrain_run: str | os.PathLike[str] | None = None,
    data_from: str | os.PathLike[str] | None = None,
    num_workers: int | None = None,
    progress: bool = True,
    resume: bool = False,
    evaluate: bool = False,
    report: Callable[[str], Any] = print,
    max_bad_share: float = 0.5,
) -> LabelledData:
    """Pairs images with their masks, checks each pair, splits them and writes the manifest. Images stay where they are.

    Args:
        dataset_dir: images and masks, see `read_labels`; only read.
        output_dir: the run's output folder; gets `manifest.json`, `excluded.jsonl` and `private/`.
        spatial_dims: 2: pictures and volumes, slice by slice. 3: single images are left out.
        val_fraction, test_fraction, seed: see `classification_data`.
        labels_per_class: use the masks of so many patients (files) in training, whatever they show; None: of all.
        label_fraction: or of this share of them.
        label_seed, pretrain_run, data_from, num_workers, progress, resume, evaluate, report, max_bad_share: see
            `classification_data`.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: a mistake in the list, too few pairs, or a test patient or image that the pretraining has seen.
        RunFolderError: the disk is full, or a folder belongs to other settings or is none of a run.
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims is {spatial_dims!r}; use 2 or 3.")
    label_seed = seed if label_seed is None else label_seed
    choices = Choices(
        val_fraction, test_fraction, seed, labels_per_class, label_fraction, label_seed, pretrain_run, evaluate
    )
    chosen = {**choices.as_dict(), "spatial_dims": spatial_dims}
    output = Path(output_dir).expanduser().absolute()
    if resume and (output / "manifest.json").exists():
        return _resume(output, chosen, () if data_from is None else SPLIT_CHOICES, max_bad_share)
    table = read_labels(dataset_dir, SEGMENTATION, evaluate=evaluate)
    if data_from is None:
        workers = default_workers() if num_workers is None else num_workers
        share = 1.0 if evaluate else max_bad_share
        data, found, images = _check(table, output, spatial_dims, choices, workers, progress, report, share)
    else:
        data = load_labelled(data_from)
        before = read_choices(data_from)
        if data.task != SEGMENTATION or before.get("spatial_dims") != spatial_dims:
            raise RunFolderError(
                f"The run in data_from is not one of segmentation in {spatial_dims}D; give one, or leave it out."
            )
        found, images = read_found(data_from), read_index(data.folder.parent)
        refuse_other_labels(data, table, images)
        chosen |= {name: before[name] for name in SPLIT_CHOICES}
    digests = json.loads((data.folder.parent / DIGESTS).read_text())
    return finish(output, data, table, images, choices, chosen, found, digests, report)


def _check(
    table: LabelTable,
    output: Path,
    spatial_dims: int,
    choices: Choices,
    workers: int,
    progress: bool,
    report: Callable[[str], Any],
    max_bad_share: float,
) -> tuple[LabelledData, dict[str, int], list[ScanImage]]:
    private = PrivateFolder(output)
    salt = private.salt()
    found, rows = scan_labelled(
        table, salt=salt, skip=[private.path], num_workers=workers, progress=progress, index=private.scan
    )
    counts = Counter(str(rows[image.id].path) for image in found.images)
    several = [image for image in found.images if counts[str(rows[image.id].path)] > 1]
    masks = {image.id: row.mask for image in found.images if (row := rows[image.id]).mask is not None}
    mask_rows = [(one, "mask", str(path), 0) for one, path in masks.items()]
    write_index(private, found, mask_rows)
    report(summarize(found.images, found.excluded))
    left_out = {one.id for one in several}
    images = [image for image in found.images if image.id not in left_out]
    records, digests, excluded = check_pairs(images, masks, spatial_dims, num_workers=workers, progress=progress)
    excluded = [*found.excluded, *(Excluded(one.id, "several volumes for one mask") for one in several), *excluded]
    write_excluded(output, excluded)
    write_files_table(private, found, mask_rows, {one.id for one in excluded})
    if records:
        check_bad_share(found.images, excluded, max_bad_share, records)
    classes, values = table.classes, table.values
    if records:
        classes, values, strange = mask_classes(records, classes, values)
        excluded += strange
        write_excluded(output, excluded)
        write_files_table(private, found, mask_rows, {one.id for one in excluded})
        records = {one: record for one, record in records.items() if one not in {e.id for e in strange}}
    if not records:
        raise DataError(
            f"No image with a mask can be used ({count_reasons(excluded)}); put right what that names "
            "(excluded.jsonl in output_dir lists them by id)."
        )
    write_json(private.path / DIGESTS, digests, "the digests of the images")
    images = [image for image in images if image.id in records]
    records = {one: {**record, "content": content_id(salt, digests[one])} for one, record in records.items()}
    units = [
        Unit(i.id, i.patient, i.series, (), rows[i.id].split, records[i.id]["content"], i.kind != "dicom")
        for i in images
    ]
    records, split_by = split_records(records, units, choices)
    data = LabelledData(
        SEGMENTATION,
        private.prepared,
        records,
        excluded,
        classes,
        False,
        None,
        split_by,
        {},
        "",
        values,
        {image.id: (str(rows[image.id].path), str(masks[image.id])) for image in images},
    )
    return data, found_counts(found.images), images


def _resume(output: Path, chosen: dict[str, Any], taken: Sequence[str], max_bad_share: float) -> LabelledData:
    data = load_labelled(output)
    if data.task != SEGMENTATION:
        raise RunFolderError("The run in output_dir is not one of segmentation; start a new run in another folder.")
    refuse_change(read_choices(output), chosen, taken)
    gone = {one: sum(not os.path.exists(path) for path in pair) for one, pair in data.paths.items()}
    lost = [one for one, count in gone.items() if count]
    held_out = any(data.records[one]["split"] != "training" for one in lost)  # no score over fewer images than said
    if held_out or len(lost) > max_bad_share * len(data.records):
        raise RunFolderError(
            f"{sum(gone.values())} images and masks of this run are gone; put the data back (private/files.csv names "
            "the files), or start a new run."
        )
    return data
