# SPDX-License-Identifier: Apache-2.0
"""Makes sure that a run whose data are taken over was made from the labels that are given now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_mixssl.data.identity import short_id
from monai_mixssl.data.labels.assign import match_rows
from monai_mixssl.data.labels.build import label_numbers
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.labels.npz_form import unpacked_rows
from monai_mixssl.data.labels.table import LabelRow, LabelTable
from monai_mixssl.data.records import ScanImage
from monai_mixssl.errors import RunFolderError

__all__ = ["refuse_other_labels"]


def refuse_other_labels(data: LabelledData, table: LabelTable, images: Sequence[ScanImage]) -> None:
    """Refuses to take over images that the given labels do not name, or name with another label, patient or split.

    Args:
        data: what is to be taken over.
        table: the labels that are given now.
        images: what the scan of that run found.

    Raises:
        RunFolderError: with the number of such images.
    """
    private = data.folder.parent
    rows = match_rows(unpacked_rows(table, private / "npz"), [image for image in images if image.id in data.records])
    salt = _salt(private) if any(row.patient for row in rows.values()) else b""
    named = {row.split for row in table.rows}
    other = sum(one not in rows or _differs(data, one, rows[one], named, salt) for one in data.records)
    if other:
        raise RunFolderError(
            f"data_from was made from other data or labels: {other} of its {len(data.records)} images are not where "
            "dataset_dir says, or have another label, patient or split there; leave data_from out, or give the same "
            "dataset_dir."
        )


def _differs(data: LabelledData, image_id: str, row: LabelRow, named: set[str], salt: bytes) -> bool:
    record = data.records[image_id]
    # what the list does not name was drawn from its training
    drawn = row.split == "training" and record["split"] not in named
    if row.split and row.split != record["split"] and not drawn:
        return True
    if row.patient and data.split_by.endswith("patient") and record["group"] != short_id(salt, "patient", row.patient):
        return True
    if row.mask is not None:
        return data.paths.get(image_id) != (str(row.path), str(row.mask))
    return row.labels != label_numbers(record, data.task)


def _salt(private: Path) -> bytes:
    try:
        return bytes.fromhex((private / "salt").read_text().strip())
    except (OSError, ValueError):
        raise RunFolderError("The folder of data_from holds no private/salt; give the whole folder.") from None
