# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to data for training, in one call: scan, prepare, split, write down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_mixssl.data.atomic import write_json
from monai_mixssl.data.damage import check_bad_share
from monai_mixssl.data.estimate import check_disk, estimate
from monai_mixssl.data.find import DatasetDir, data_roots
from monai_mixssl.data.manifest import PreparedData, load_prepared, missing_arrays, write_excluded, write_manifest
from monai_mixssl.data.prepare import prepare_images, still_to_prepare
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.processes import default_workers
from monai_mixssl.data.records import Excluded, ScanImage
from monai_mixssl.data.restore import restore_arrays
from monai_mixssl.data.scan import ScanResult, scan
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.data.split import split_by_group
from monai_mixssl.data.summary import count_reasons, describe_left_out_slices, found_counts, summarize
from monai_mixssl.errors import DataError, RunFolderError

__all__ = ["check_settings", "prepare_data", "prepare_scan", "write_files_table", "write_index"]

KEYS = {"max_pad": "max_pad_factor"}  # what the user types, where the setting has another name

logger = logging.getLogger(__name__)


def prepare_data(
    dataset_dir: DatasetDir,
    output_dir: str | Path,
    *,
    spatial_dims: int = 2,
    in_channels: int = 1,
    patch_size: int | Sequence[int] = 64,
    spacing: float | Sequence[float] | None = None,
    normalization: str = "auto",
    min_foreground: float = 0.1,
    max_pad: float = 2.0,
    geometry: str = "accept",
    val_fraction: float | None = 0.1,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
    resume: bool = False,
    report: Callable[[str], Any] = logger.info,
    keep: Sequence[str] = (),
    max_bad_share: float = 0.5,
) -> PreparedData:
    """Scans a data folder, prepares what can be used, splits it and writes the manifest.

    Args:
        dataset_dir: a folder, several (a list, or separated by commas), or a MONAI datalist JSON; only read.
        output_dir: the run's output folder; gets `manifest.json`, `excluded.jsonl` and `private/`.
        spatial_dims, in_channels, patch_size, spacing, normalization, min_foreground, max_pad, geometry: see
            `PrepareSettings`.
        val_fraction: share of patients, series or files held out; None: nothing is (inference).
        seed: seed of the split.
        num_workers: processes; None: one per core, at most 4. The result does not depend on it.
        progress: show progress bars on stderr.
        resume: take the manifest of `output_dir` as it stands, if there is one: the run goes on with the same images
            even where `dataset_dir` has changed since.
        report: is given what was found, left out and estimated, as text.
        keep: DICOM images that are left out by rule and are to be taken all the same, see `scan`.
        max_bad_share: share of damaged and unreadable files above which to stop, see `check_bad_share`.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: nothing usable found, too much of it damaged, or not enough for training and validation.
        RunFolderError: the disk is full or too small, or the manifest belongs to other settings.
    """
    settings = PrepareSettings(
        spatial_dims,
        in_channels,
        patch_size if isinstance(patch_size, int) else tuple(patch_size),
        spacing if spacing is None or isinstance(spacing, (int, float)) else tuple(spacing),
        normalization,
        min_foreground,
        max_pad,
        geometry,
    )
    output = Path(output_dir)
    workers = default_workers() if num_workers is None else num_workers
    if resume and (output / "manifest.json").exists():
        return _resume(output, settings, workers, progress, max_bad_share)
    data_roots(dataset_dir)  # a misspelt folder leaves no output folder behind
    private = PrivateFolder(output)
    found = scan(
        dataset_dir,
        salt=private.salt(),
        skip=[output],
        num_workers=workers,
        progress=progress,
        index=private.scan,
        keep=keep,
    )
    images, records, excluded = prepare_scan(found, output, settings, workers, progress, report, max_bad_share)
    data = _split(output, images, records, excluded, settings, val_fraction, seed)
    write_manifest(output, data, found_counts(found.images), {"val_fraction": val_fraction, "seed": seed})
    return data


def prepare_scan(
    found: ScanResult,
    output: Path,
    settings: PrepareSettings,
    num_workers: int,
    progress: bool,
    report: Callable[[str], Any],
    max_bad_share: float = 1.0,
) -> tuple[list[ScanImage], list[dict[str, Any]], list[Excluded]]:
    """Prepares what a scan found, once the disk is known to be large enough, and writes down what is left out.

    Args:
        found: what the scan found, with the salt of `output`.
        output: the run's output folder.
        settings, num_workers, progress: see `prepare_images`.
        report: is given what was found, left out and estimated, as text.
        max_bad_share: see `check_bad_share`; asked after the scan, before the work, and after it.

    Returns:
        The images that can be used and their records, both in the order of the scan, and all that is left out.

    Raises:
        DataError: nothing was found, or too much of it is damaged.
        RunFolderError: the disk is full or too small.
    """
    private = PrivateFolder(output)
    write_index(private, found)
    report(summarize(found.images, found.excluded))
    write_excluded(output, found.excluded)
    if not found.images:
        reasons = f" ({count_reasons(found.excluded)})" if found.excluded else ""
        raise DataError(
            f"Nothing usable was found among {len(found.excluded)} files{reasons}; dataset_dir must hold DICOM, NIfTI, "
            "NRRD, MetaImage, PNG or JPEG images (excluded.jsonl in output_dir lists why each was left out)."
        )
    check_bad_share(found.images, found.excluded, max_bad_share)
    private.remove_leftovers()  # they take room on the disk
    # what a killed run has prepared already needs no room any more
    needed = estimate(still_to_prepare(found.images, private, settings), settings, num_workers)
    if needed.images:
        report(needed.text())
        check_disk(private.prepared, needed.disk_bytes)
    records, unusable = prepare_images(found.images, private, settings, num_workers=num_workers, progress=progress)
    excluded = found.excluded + unusable
    used = {record["id"] for record in records}
    write_files_table(private, found, left_out={image.id for image in found.images} - used)
    images = [image for image in found.images if image.id in used]
    write_excluded(output, excluded)
    if images:  # else there is a sentence for that
        check_bad_share(found.images, excluded, max_bad_share, used)
    return images, records, excluded


def write_index(private: PrivateFolder, found: ScanResult, more: Iterable[tuple[str, str, str, int]] = ()) -> None:
    """Writes what a scan found to `private/`: `index.json`, and `files.csv` with `more` rows of (id, use, path, part).

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    write_files_table(private, found, more)
    write_json(private.index, [image.as_dict() for image in found.images], "the index")


def write_files_table(
    private: PrivateFolder,
    found: ScanResult,
    more: Iterable[tuple[str, str, str, int]] = (),
    left_out: Collection[str] = (),
) -> None:
    """Writes `files.csv` to `private/`: which file is behind an id, and what it is used as.

    Args:
        private: where to.
        found: what the scan found.
        more: further rows of (id, use, path, part).
        left_out: ids of images that cannot be used all the same.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    rows = [
        (image.id, "left out" if image.id in left_out else "image", part.path, part.number)
        for image in found.images
        for part in image.parts
    ]
    rows += [(file_id, "left out", path, 0) for file_id, path in found.excluded_files]
    private.write_files([*rows, *more])


def _split(
    output: Path,
    images: Sequence[ScanImage],
    records: Sequence[dict[str, Any]],
    excluded: list[Excluded],
    settings: PrepareSettings,
    val_fraction: float | None,
    seed: int,
) -> PreparedData:
    split_by = None
    held_out: set[str] = set()
    if not images:
        raise DataError(
            f"None of the {len(excluded)} files and images found can be used ({count_reasons(excluded)}); give other "
            "images, or keys that fit these (excluded.jsonl in output_dir lists them by id)."
        )
    if val_fraction is not None:
        sizes = {record["id"]: _items(record, settings) for record in records}
        _, validation, split_by = split_by_group(images, val_fraction, seed, sizes)
        held_out = set(validation)
    groups = {image.id: image.group for image in images}
    return PreparedData(
        folder=PrivateFolder(output).prepared,
        records={
            record["id"]: {
                **record,
                "group": groups[record["id"]],
                "split": "validation" if record["id"] in held_out else "training",
            }
            for record in records
        },
        excluded=excluded,
        settings=settings,
        split_by=split_by,
        summary="\n".join(
            [summarize(images, excluded, "Using"), *describe_left_out_slices(records, settings.min_foreground)]
        ),
    )


def _items(record: dict[str, Any], settings: PrepareSettings) -> int:
    """How many items of the datalist an image gives: a volume one in 3D, its slices in 2D."""
    return int(record["shape"][0]) if settings.spatial_dims == 2 else 1


def _resume(
    output: Path, settings: PrepareSettings, workers: int, progress: bool, max_bad_share: float
) -> PreparedData:
    data = load_prepared(output)
    check_settings(data.settings, settings)
    most = int(max_bad_share * len(data.records))
    restore_arrays(missing_arrays(data), output, workers, progress, most)
    return data


def check_settings(before: PrepareSettings, now: PrepareSettings) -> None:
    """Refuses to go on with images that were prepared otherwise.

    Raises:
        RunFolderError: the settings differ; those that do are named.
    """
    if before != now:
        first, second = before.as_dict(), now.as_dict()
        changed = ", ".join(KEYS.get(name, name) for name in second if second[name] != first[name])
        raise RunFolderError(
            f"The run in output_dir was prepared with another {changed}; resume it with the same settings, or start "
            "a new run in another folder."
        )
