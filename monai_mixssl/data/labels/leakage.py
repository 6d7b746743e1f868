# SPDX-License-Identifier: Apache-2.0
"""Stops a fine-tuning whose test shows patients or images that the pretraining has seen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.data.content import content_id
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.labels.table import SPLITS
from monai_mixssl.data.manifest import FORMAT, refuse_other_format
from monai_mixssl.errors import DataError, RunFolderError

__all__ = ["check_leakage", "pretraining_hash"]

NOT_CHECKED = (
    "leakage not checked: whether the pretraining has seen test patients is unknown; give the pretraining run's output "
    "folder as pretrain_run."
)


def check_leakage(
    records: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, set[str]],
    digests: Mapping[str, str],
    pretrain_run: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """Compares labelled images with the list of a pretraining run, under that run's salt.

    Args:
        records: the labelled images, by id; "split" of each is used.
        names: what each image's patient is called in the table and in the header, see `patient_names`.
        digests: hash of each image's content, see `content_digest`.
        pretrain_run: the pretraining run's output folder with its `private/`; None: nothing is compared.

    Returns:
        JSON types only: {"checked": bool, "message": str} and, where a run is given, "pretraining" (hash of its data
        list), "pretraining_images", how many of them come "pretraining_without_content" and
        "pretraining_without_patient" (None: not known), "patients_compared", "images_without_patient", and by split
        "patients_shared" and "images_shared". "checked" is True where patients or contents could be compared at all.

    Raises:
        DataError: a patient or an image of the pretraining is in the test split.
        RunFolderError: `pretrain_run` is no output folder with `private/`, or of another format.
    """
    if pretrain_run is None:
        return {"checked": False, "message": NOT_CHECKED}
    manifest, salt = _pretraining(pretrain_run)
    groups = {image["group"] for image in manifest["images"]}
    contents = {image["content"] for image in manifest["images"] if "content" in image}
    without_content = sum("content" not in image for image in manifest["images"])
    own_names = [names.get(image_id, set()) for image_id in records]
    all_names = set().union(*own_names)
    unnamed = sum(not own for own in own_names)
    pretraining_patients = _patients(Path(pretrain_run).expanduser(), {image["id"] for image in manifest["images"]})
    several = len(groups if pretraining_patients is None else set(pretraining_patients) - {""}) > 1
    # a single name for everything is what anonymising leaves, and tells no patients apart; but where the pretraining
    # has this name among others, it is a patient's
    anonymous = len(all_names) == 1 and not unnamed and len(records) > 1
    if anonymous and several:
        anonymous = short_id(salt, "patient", *all_names) not in groups
    patients: dict[str, set[str]] = {split: set() for split in SPLITS}
    images: dict[str, set[str]] = {split: set() for split in SPLITS}
    for image_id, record in records.items():
        hashed = {short_id(salt, "patient", name) for name in names.get(image_id, ())}
        if not anonymous:
            patients[record["split"]] |= {record["group"]} if hashed & groups else set()
        if image_id in digests and content_id(salt, digests[image_id]) in contents:
            images[record["split"]].add(image_id)
    without_patient = None if pretraining_patients is None else pretraining_patients.count("")
    compared = bool(all_names) and not anonymous and without_patient != len(manifest["images"])
    result: dict[str, Any] = {
        "checked": compared or without_content < len(manifest["images"]),
        "pretraining": manifest["data_hash"],
        "pretraining_images": len(manifest["images"]),
        "pretraining_without_content": without_content,
        "pretraining_without_patient": without_patient,
        "patients_compared": compared,
        "images_without_patient": unnamed,
        "patients_shared": {split: len(patients[split]) for split in SPLITS},
        "images_shared": {split: len(images[split]) for split in SPLITS},
    }
    if patients["test"] or images["test"]:
        raise DataError(_refusal(records, patients["test"], images["test"]))
    result["message"] = _message(result, anonymous, len(records))
    return result


def pretraining_hash(pretrain_run: str | os.PathLike[str] | None) -> str | None:
    """Returns the hash of a pretraining run's data list, None where no run is given.

    Raises:
        RunFolderError: `pretrain_run` is no output folder with `private/`.
    """
    return None if pretrain_run is None else str(_pretraining(pretrain_run)[0]["data_hash"])


def _pretraining(pretrain_run: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    folder = Path(pretrain_run).expanduser()
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        refuse_other_format(manifest, FORMAT, "manifest.json of pretrain_run")
        _ = manifest["data_hash"], [(image["id"], image["group"]) for image in manifest["images"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"pretrain_run holds no manifest.json that can be read ({type(error).__name__}); give the output folder of "
            "a pretraining run."
        ) from None
    try:
        salt = bytes.fromhex((folder / "private" / "salt").read_text().strip())
    except PermissionError:
        raise RunFolderError(
            "private/ in pretrain_run is its owner's alone, and may not be read here, so patients cannot be compared; "
            "have its owner let you read it, or leave pretrain_run out (leakage is then not checked)."
        ) from None
    except (OSError, ValueError):
        raise RunFolderError(
            "pretrain_run holds no private/salt, without which patients cannot be compared; give the whole output "
            "folder, private/ included, or leave pretrain_run out (leakage is then not checked)."
        ) from None
    return manifest, salt


def _patients(folder: Path, used: set[str]) -> list[str] | None:
    """Returns the hashed patient of each pretraining image, "" where it names none; None where the index is gone."""
    try:
        index = json.loads((folder / "private" / "index.json").read_text())
        return [str(image["patient"] or "") for image in index if image["id"] in used]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refusal(records: Mapping[str, Mapping[str, Any]], patients: set[str], images: set[str]) -> str:
    test = {one: record for one, record in records.items() if record["split"] == "test"}
    found = []
    if patients:
        count = len({record["group"] for record in test.values()})
        theirs = min(one for one, record in test.items() if record["group"] in patients)
        found.append(f"{len(patients)} of {count} test patients (such as that of {theirs}) are in the pretraining list")
    if images:
        found.append(f"{len(images)} of {len(test)} test images (such as {min(images)}) are in the pretraining data")
    return (
        f"{', and '.join(found)}, so the test would measure what was seen before; give a test split (column split) of "
        "patients that the pretraining has not seen, or pretrain without them (private/files.csv says which file is "
        "behind an id)."
    )


def _message(result: Mapping[str, Any], anonymous: bool, total: int) -> str:
    if not result["checked"]:
        return (
            "leakage not checked: the images name no patients that could be compared, and the pretraining run recorded "
            "no content of its images (an older version made it)."
        )
    known = result["pretraining_images"] - result["pretraining_without_content"]
    what = ["no test patient"] * result["patients_compared"] + ["no test image"] * bool(known)
    shared = "; ".join(
        f"with {split}: {result['patients_shared'][split]} patients, {result['images_shared'][split]} images"
        for split in ("training", "validation")
    )
    checked = "leakage checked" if result["patients_compared"] else "leakage partly checked, by contents alone,"
    text = (
        f"{checked} against {result['pretraining_images']} pretraining images: {' and '.join(what)} among them "
        f"(shared {shared})."
    )
    if anonymous:
        text += " Patients were not compared: all labelled images name the same one."
    elif not result["patients_compared"]:
        side = "labelled" if result["images_without_patient"] == total else "pretraining"
        text += f" Patients were not compared: the {side} images name none."
    elif result["images_without_patient"]:
        text += f" {result['images_without_patient']} labelled images name no patient."
    if result["patients_compared"] and result["pretraining_without_patient"]:
        text += f" {result['pretraining_without_patient']} pretraining images name no patient."
    if result["pretraining_without_content"]:
        text += (
            f" Of {result['pretraining_without_content']} pretraining images the content is not recorded (an older "
            "version prepared them): copies of them are not found."
        )
    return text
