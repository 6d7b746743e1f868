# SPDX-License-Identifier: Apache-2.0
"""Labelled images, split and ready for fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_mixssl.data.identity import list_hash
from monai_mixssl.data.labels.table import CLASSIFICATION, SPLITS
from monai_mixssl.data.records import Excluded
from monai_mixssl.data.settings import PrepareSettings

__all__ = ["LabelledData"]


@dataclass(frozen=True)
class LabelledData:
    """Labelled images in three splits.

    Attributes:
        task: "classification" or "segmentation".
        folder: classification: where the prepared arrays lie, for `LoadPreparedd`.
        records: what is known of each image, by id, JSON types only and free of identifiers: "split" ("training",
            "validation" or "test"), "used" (False for training images beyond the label subset), "group" (hashed
            patient, series or file), "content" (hash of the pixels), "shape", for classification "label".
        excluded: what is left out, by id, with the reason.
        classes: names in the order of their numbers; segmentation: background first.
        multi_label: several labels may hold for one image.
        settings: classification: how the images were prepared.
        split_by: "patient", "series" or "file"; with "given, " in front where the list of labels decides all of it.
        leakage: {"checked": bool, "message": str, counts …}, see `leakage`.
        summary: what is used, as text for the console.
        label_values: segmentation: the value in the masks that stands for each of `classes`.
        paths: segmentation: (image, mask) of each record. Private.
    """

    task: str
    folder: Path
    records: dict[str, dict[str, Any]]
    excluded: list[Excluded]
    classes: list[str]
    multi_label: bool
    settings: PrepareSettings | None
    split_by: str
    leakage: dict[str, Any]
    summary: str
    label_values: list[int] = field(default_factory=list)
    paths: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    @property
    def train(self) -> list[dict[str, Any]]:
        """Datalist for training, the label subset alone.

        Classification: {"image": id, "id": id, "label": class number, or a list of 0.0 and 1.0 where several may
        hold}, in 2D with "slice": number, a slice per entry. Segmentation: {"image": path, "label": path, "id": id}.
        """
        return self._items("training")

    @property
    def validation(self) -> list[dict[str, Any]]:
        """Datalist for validation, as `train`."""
        return self._items("validation")

    @property
    def test(self) -> list[dict[str, Any]]:
        """Datalist for the test, as `train`; empty where nothing is held out for it."""
        return self._items("test")

    @property
    def data_hash(self) -> str:
        """SHA-256 over ids, splits, labels and what is used: another one means another training."""
        return list_hash(
            f"{image_id} {record['split']} {record['used']} {record.get('label')}"
            for image_id, record in self.records.items()
        )

    @property
    def largest(self) -> tuple[int, ...]:
        """The largest size along each spatial axis (classification in 2D: rows, columns)."""
        skip = 0
        if self.settings is not None:
            skip = 2 if self.settings.spatial_dims == 2 else 1
        return tuple(max(sizes) for sizes in zip(*(r["shape"][skip:] for r in self.records.values()), strict=True))

    def counts(self) -> dict[str, int]:
        """Returns how many images each split holds, the label subset alone for training."""
        return {split: len(self._used(split)) for split in SPLITS}

    def _used(self, split: str) -> list[tuple[str, dict[str, Any]]]:
        return [(one, record) for one, record in self.records.items() if record["split"] == split and record["used"]]

    def _items(self, split: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for image_id, record in self._used(split):
            if self.task != CLASSIFICATION:
                image, mask = self.paths[image_id]
                items.append({"image": image, "label": mask, "id": image_id})
                continue
            item = {"image": image_id, "id": image_id, "label": record["label"]}
            if self.settings is not None and self.settings.spatial_dims == 2:
                items.extend({**item, "slice": number} for number in range(record["shape"][0]))
            else:
                items.append(item)
        return items
