# SPDX-License-Identifier: Apache-2.0
"""The embedded default: a set of made-up patients, half of it DICOM series and half NIfTI files, with labels."""

from __future__ import annotations

import csv
from pathlib import Path

from monai_mixssl.data.phantoms.dicom_writer import write_dicom_series
from monai_mixssl.data.phantoms.nifti_writer import write_nifti
from monai_mixssl.data.phantoms.volume import phantom_volume
from monai_mixssl.errors import ConfigError

__all__ = ["PATIENTS", "write_phantoms"]

PATIENTS = 60


def write_phantoms(
    folder: str | Path, *, seed: int = 0, patients: int = PATIENTS, image_size: int = 64, slices: int = 12
) -> Path:
    """Writes a set of phantoms; the same bytes for the same arguments.

    ``folder`` gets ``dicom/<patient>/0001.dcm, …`` for patients of even number, ``nifti/<patient>.nii.gz`` for those
    of odd number, and ``labels.csv`` (path relative to ``folder``, patient, label 0 or 1), which is written last: where
    it stands, the set is complete.

    Args:
        folder: made if it does not exist; may hold an earlier copy of the same set, but nothing else.
        seed: number of the set.
        patients: how many patients; multiples of 12 have as many with lesions as without, for each protocol and format.
        image_size: pixels along each side of a slice.
        slices: slices per patient.

    Returns:
        ``folder``.

    Raises:
        ConfigError: ``patients`` is less than 1, ``folder`` holds other files, or see :func:`phantom_volume`.
    """
    folder = Path(folder)
    if patients < 1:
        raise ConfigError(f"A set of phantoms needs at least 1 patient, not {patients}.")
    rows: list[tuple[str, str, int]] = []
    ids = [f"PHANTOM-{seed}-{index:04d}" for index in range(patients)]
    paths = [f"nifti/{i}.nii.gz" if n % 2 else f"dicom/{i}" for n, i in enumerate(ids)]
    expected = {folder / "labels.csv", *(folder / p for p in paths[1::2])}
    expected |= {folder / p / f"{k + 1:04d}.dcm" for p in paths[::2] for k in range(slices)}
    if any(found.is_file() and found not in expected for found in folder.rglob("*")):
        raise ConfigError("The folder for the phantoms holds other files: give one that is empty or does not exist.")

    (folder / "nifti").mkdir(parents=True, exist_ok=True)
    for index, (patient, path) in enumerate(zip(ids, paths, strict=True)):
        phantom = phantom_volume(index, seed=seed, image_size=image_size, slices=slices)
        if index % 2:
            write_nifti(phantom, folder / path)
        else:
            (folder / path).mkdir(parents=True, exist_ok=True)
            write_dicom_series(phantom, folder / path, patient=patient, key=f"{seed}/{index}/{image_size}/{slices}")
        rows.append((path, patient, phantom.label))

    unfinished = folder / "labels.csv.part"
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "patient", "label"))
        writer.writerows(rows)
    unfinished.replace(folder / "labels.csv")
    return folder
