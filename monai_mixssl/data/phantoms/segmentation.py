# SPDX-License-Identifier: Apache-2.0
"""The embedded default of segmentation: made-up patients with masks, laid out as the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
from pathlib import Path

from monai_mixssl.data.phantoms.dataset import PATIENTS
from monai_mixssl.data.phantoms.nifti_writer import write_nifti
from monai_mixssl.data.phantoms.volume import phantom_with_mask
from monai_mixssl.errors import ConfigError

__all__ = ["SEGMENTATION_CLASSES", "SEGMENTATION_SEED", "write_segmentation_phantoms"]

SEGMENTATION_CLASSES = ("background", "brain", "lesion")
SEGMENTATION_SEED = 2  # pretraining takes 0 and classification 1: no patient is in two of the sets


def write_segmentation_phantoms(
    folder: str | Path,
    *,
    seed: int = SEGMENTATION_SEED,
    patients: int = PATIENTS,
    image_size: int = 64,
    slices: int = 12,
) -> Path:
    """Writes a set of phantoms with masks; the same bytes for the same arguments.

    ``folder`` gets ``imagesTr/<patient>.nii.gz``, ``labelsTr/<patient>.nii.gz`` (0 outside the brain, 1 brain,
    2 lesion) and ``dataset.json``, which is written last: where it stands, the set is complete. Half of the patients
    have lesions; what tells a lesion from a harmless spot is its shape.

    Args:
        folder: made if it does not exist; may hold an earlier copy of the same set, but nothing else.
        seed: number of the set.
        patients: how many patients; of every twelve in a row, six have lesions.
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
    names = [f"PHANTOM-{seed}-{index:04d}.nii.gz" for index in range(patients)]
    expected = {folder / part / name for part in ("imagesTr", "labelsTr") for name in names}
    expected |= {folder / "dataset.json", folder / "dataset.json.part"}
    if any(found.is_file() and found not in expected for found in folder.rglob("*")):
        raise ConfigError("The folder for the phantoms holds other files: give one that is empty or does not exist.")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        phantom, mask = phantom_with_mask(index, seed=seed, image_size=image_size, slices=slices)
        write_nifti(phantom, folder / "imagesTr" / name)
        write_nifti(phantom._replace(array=mask), folder / "labelsTr" / name)
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    description = {
        "name": "Phantoms",
        "description": "Made-up heads with lesions",
        "licence": "Apache-2.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI or CT"},
        "labels": {str(number): name for number, name in enumerate(SEGMENTATION_CLASSES)},
        "numTraining": patients,
        "numTest": 0,
        "training": training,
        "test": [],
    }
    unfinished = folder / "dataset.json.part"
    unfinished.write_text(json.dumps(description, indent=1), encoding="utf-8")
    unfinished.replace(folder / "dataset.json")
    return folder
