# SPDX-License-Identifier: Apache-2.0
"""Looks at every image and its mask once: whether they fit, which values the mask holds, the image's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from monai_mixssl.data.content import content_digest
from monai_mixssl.data.label_maps import MOST_CLASSES, grid_of, read_mask, read_one
from monai_mixssl.data.records import Excluded, LeftOut, ScanImage
from monai_mixssl.errors import DataError

__all__ = ["check_pairs", "mask_classes"]


def check_pairs(
    images: Sequence[ScanImage],
    masks: Mapping[str, Path],
    spatial_dims: int,
    *,
    num_workers: int = 0,
    progress: bool = True,
) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[Excluded]]:
    """Reads images and masks.

    Args:
        images: what the scan found.
        masks: file of each image's mask, by id.
        spatial_dims: 2, or 3: single images are left out.
        num_workers: processes; the result does not depend on it.
        progress: show a progress bar on stderr.

    Returns:
        By id a record of each usable pair ("shape": three sizes as stored, "values": those of the mask, …) and the
        digest of its image's content; and what is left out.
    """
    loader = DataLoader(
        _Pairs(list(images), [str(masks[image.id]) for image in images], spatial_dims),
        batch_size=1,
        collate_fn=_first,
        num_workers=min(num_workers, len(images) // 2),
        generator=torch.Generator(),  # the loader would otherwise draw its workers' seeds from torch's global one
    )
    records, digests, excluded = {}, {}, []
    bar = tqdm(loader, "checking masks", len(images), disable=not progress, unit="image", smoothing=0)
    for image, (record, digest, reason) in zip(images, bar, strict=True):
        if record is None:
            excluded.append(Excluded(image.id, *reason))
        else:
            records[image.id], digests[image.id] = record, digest
    return records, digests, excluded


def mask_classes(
    records: Mapping[str, Mapping[str, Any]], classes: Sequence[str], values: Sequence[int]
) -> tuple[list[str], list[int], list[Excluded]]:
    """Decides which classes there are: those that the list names, else every value that a mask holds.

    Args:
        records: from `check_pairs`.
        classes, values: what the list names; empty where it does not.

    Returns:
        Names, background first, the value in the masks of each, and the pairs whose mask holds another value.

    Raises:
        DataError: no class but background, or more than can be.
    """
    there = {value for record in records.values() for value in record["values"]}
    if not classes:
        values = [0, *sorted(there - {0})]
        classes = ["background", *(str(value) for value in values[1:])]
    elif 0 not in values:  # what has no name is background
        classes, values = ["background", *classes], [0, *values]
    if len(classes) < 2:
        raise DataError("The masks hold nothing but 0, which is background; give masks that show something.")
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"The masks hold {len(classes)} different values, and at most {MOST_CLASSES} classes can be told apart; "
            "give masks whose values are class numbers (in PNG, not in JPEG, which changes values)."
        )
    strange = {one: sorted(set(record["values"]) - set(values)) for one, record in records.items()}
    excluded = [
        Excluded(one, "mask values that are no class", ", ".join(map(str, found[:5])))
        for one, found in strange.items()
        if found
    ]
    return list(classes), [int(value) for value in values], excluded


class _Pairs(Dataset[Any]):
    """Gives for each pair (record, digest, []) or (None, "", [reason, detail])."""

    def __init__(self, images: list[ScanImage], masks: list[str], spatial_dims: int) -> None:
        self.images, self.masks, self.spatial_dims = images, masks, spatial_dims

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[dict[str, Any] | None, str, list[str]]:
        try:
            record, digest = self._check(self.images[index], self.masks[index])
        except LeftOut as reason:
            return None, "", [reason.reason, reason.detail]
        except MemoryError:
            return None, "", ["more memory needed than there is", ""]
        except Exception as error:  # whatever a damaged file does to a library, the run goes on
            return None, "", ["cannot be read", type(error).__name__]
        return record, digest, []

    def _check(self, image: ScanImage, mask: str) -> tuple[dict[str, Any], str]:
        _, volume = read_one(image)
        grid = grid_of(volume)
        if self.spatial_dims == 3:
            if 1 in grid.shape:
                raise LeftOut("a single image, and spatial_dims is 3")
            if volume.affine is None:
                raise LeftOut("frames without positions, and spatial_dims is 3")
        if not np.isfinite(volume.array).all():
            raise LeftOut("NaN or infinite values")
        if volume.array.min() == volume.array.max():
            raise LeftOut("constant image")
        values = np.unique(read_mask(mask, grid))
        record = {
            "id": image.id,
            "kind": image.kind,
            "modality": volume.modality,
            "shape": list(grid.shape),
            "spacing": None if volume.spacing is None else [round(step, 6) for step in volume.spacing],
            # of what is no mask, a few values show as much as a million of them
            "values": [int(value) for value in values[: MOST_CLASSES + 2]],
            "notes": list(image.notes),
        }
        return record, content_digest(volume)


def _first(batch: list[Any]) -> Any:
    return batch[0]
