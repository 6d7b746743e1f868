# SPDX-License-Identifier: Apache-2.0
"""From labelled images to data for classification: labels, scan, preparation, splits, label subset, leakage."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_mixssl.data.labels.assign import scan_labelled
from monai_mixssl.data.labels.build import finish, split_records
from monai_mixssl.data.labels.choices import SPLIT_CHOICES, Choices, refuse_change
from monai_mixssl.data.labels.duplicates import contradictions
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.labels.manifest import load_labelled, read_choices, read_found, read_index
from monai_mixssl.data.labels.npz_form import write_npz_images
from monai_mixssl.data.labels.read import read_labels
from monai_mixssl.data.labels.split import Unit
from monai_mixssl.data.labels.table import CLASSIFICATION, LabelTable
from monai_mixssl.data.labels.taken_over import refuse_other_labels
from monai_mixssl.data.prepare import read_digests
from monai_mixssl.data.prepared_data import check_settings, prepare_scan
from monai_mixssl.data.prepared_file import is_whole
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.processes import default_workers
from monai_mixssl.data.records import Excluded, ScanImage
from monai_mixssl.data.restore import restore_arrays
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.data.summary import count_reasons, found_counts
from monai_mixssl.errors import ConfigError, DataError, RunFolderError

__all__ = ["classification_data"]

OTHER_LABEL = "the same image occurs with another label"


def classification_data(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    preparation: Mapping[str, Any],
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
    """Reads labels, prepares the images as pretraining does, splits them and writes the manifest.

    In 2D every slice of a volume bears the label of the volume.

    Args:
        dataset_dir: labelled images, see `read_labels`; only read.
        output_dir: the run's output folder; gets `manifest.json`, `excluded.jsonl` and `private/`.
        preparation: arguments of `PrepareSettings`; those of the pretraining, so that the encoder sees the same.
        val_fraction, test_fraction: shares of the images that are drawn where the labels give no split of that name.
        seed: of the draw.
        labels_per_class: use the labels of so many patients (series, files) a class in training; None: of all.
        label_fraction: or of this share of them.
        label_seed: of the choice; None: `seed`.
        pretrain_run: output folder of the pretraining run, for the leakage guard.
        data_from: output folder of another run on the same data, whose prepared images, ids and splits are taken; its
            val_fraction, test_fraction and seed stand in the manifest.
        num_workers: processes; None: one per core, at most 4. The result does not depend on it.
        progress: show progress bars on stderr.
        resume: take the manifest of `output_dir` as it stands, if there is one.
        evaluate: nothing is learned from these images: all are the test, whatever splits the labels name, and their
            classes need not be in training.
        report: is given what was found, left out and compared, as text.
        max_bad_share: share of damaged and unreadable files above which to stop, see `check_bad_share`; not asked
            with `evaluate`.

    Raises:
        ConfigError: a setting is out of its range, or `output_dir` lies among folders of classes.
        DataError: a mistake in the labels, too few images, or a test patient or image that the pretraining has seen.
        RunFolderError: the disk is full, or a folder belongs to other settings, data or labels, or is none of a run.
    """
    settings = _settings(preparation)
    label_seed = seed if label_seed is None else label_seed
    choices = Choices(
        val_fraction, test_fraction, seed, labels_per_class, label_fraction, label_seed, pretrain_run, evaluate
    )
    chosen = choices.as_dict()  # a wrong pretrain_run fails before any work
    output = Path(output_dir).expanduser().absolute()
    workers = default_workers() if num_workers is None else num_workers
    if resume and (output / "manifest.json").exists():
        taken = () if data_from is None else SPLIT_CHOICES
        return _resume(output, settings, chosen, workers, progress, taken, max_bad_share)
    table = read_labels(dataset_dir, CLASSIFICATION, output_dir=output, evaluate=evaluate)
    if data_from is None:
        share = 1.0 if evaluate else max_bad_share
        data, found, images = _prepare(table, output, settings, choices, workers, progress, report, share)
    else:
        data = load_labelled(data_from)
        _refuse_other(data, settings, table)
        found, images = read_found(data_from), read_index(data.folder.parent)
        refuse_other_labels(data, table, images)
        chosen |= {name: value for name, value in read_choices(data_from).items() if name in SPLIT_CHOICES}
    digests = read_digests(data.folder, data.records)
    return finish(output, data, table, images, choices, chosen, found, digests, report)


def _settings(preparation: Mapping[str, Any]) -> PrepareSettings:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in preparation.items()
    }
    try:
        return PrepareSettings(**values)
    except TypeError:
        raise ConfigError(
            f"preparation is {sorted(values)}; use the names {sorted(PrepareSettings.__dataclass_fields__)}."
        ) from None


def _prepare(
    table: LabelTable,
    output: Path,
    settings: PrepareSettings,
    choices: Choices,
    workers: int,
    progress: bool,
    report: Callable[[str], Any],
    max_bad_share: float,
) -> tuple[LabelledData, dict[str, int], list[ScanImage]]:
    private = PrivateFolder(output)
    if table.arrays is not None:
        table = write_npz_images(table, private.path / "npz", progress=progress)
        skip = [private.prepared]
    else:
        skip = [output]
    found, rows = scan_labelled(
        table, salt=private.salt(), skip=skip, num_workers=workers, progress=progress, index=private.scan
    )
    images, records, excluded = prepare_scan(found, output, settings, workers, progress, report, max_bad_share)
    if not images:
        raise DataError(
            f"None of the {len(excluded)} files and images found can be used ({count_reasons(excluded)}); give other "
            "images, or keys that fit these (excluded.jsonl in output_dir lists them by id)."
        )
    labelled: dict[str, dict[str, Any]] = {}
    units = []
    for image, record in zip(images, records, strict=True):
        row = rows[image.id]
        label: int | list[float] = row.labels[0] if not table.multi_label else [0.0] * len(table.classes)
        if isinstance(label, list):
            for number in row.labels:
                label[number] = 1.0
        labelled[image.id] = {**record, "label": label}
        is_file = image.kind != "dicom"
        units.append(Unit(image.id, image.patient, image.series, row.labels, row.split, record["content"], is_file))
    contrary = set(contradictions(labelled))
    excluded = [*excluded, *(Excluded(one, OTHER_LABEL) for one in labelled if one in contrary)]
    if len(contrary) == len(labelled):
        raise DataError("Every image occurs again with another label; correct the labels.")
    images = [image for image in images if image.id not in contrary]
    units = [unit for unit in units if unit.id not in contrary]
    labelled, split_by = split_records(labelled, units, choices)
    data = LabelledData(
        CLASSIFICATION,
        private.prepared,
        labelled,
        excluded,
        table.classes,
        table.multi_label,
        settings,
        split_by,
        {},
        "",
    )
    return data, found_counts(found.images), images


def _refuse_other(data: LabelledData, settings: PrepareSettings, table: LabelTable) -> None:
    if data.task != CLASSIFICATION or data.settings is None:
        raise RunFolderError("The run in data_from is one of segmentation; give one of classification.")
    if data.settings != settings:
        raise RunFolderError(
            "The run in data_from prepared its images with other settings; use the same, or leave data_from out."
        )
    if data.classes != table.classes or data.multi_label != table.multi_label:
        raise RunFolderError("The run in data_from has other classes; data_from takes runs on the same data.")


def _resume(
    output: Path,
    settings: PrepareSettings,
    chosen: dict[str, Any],
    workers: int,
    progress: bool,
    taken: Sequence[str] = (),
    max_bad_share: float = 0.5,
) -> LabelledData:
    data = load_labelled(output)
    if data.settings is None:
        raise RunFolderError("The run in output_dir is one of segmentation; start a new run in another folder.")
    check_settings(data.settings, settings)
    refuse_change(read_choices(output), chosen, taken)
    lost = [one for one, record in data.records.items() if not is_whole(data.folder, one, record["bytes"])]
    held_out = {one for one in lost if data.records[one]["split"] != "training"}
    owner = data.folder.parent.parent
    restore_arrays(held_out, owner, workers, progress)  # no score over fewer images than said
    restore_arrays({*lost} - held_out, owner, workers, progress, int(max_bad_share * len(data.records)))
    return data
