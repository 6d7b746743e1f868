# SPDX-License-Identifier: Apache-2.0
"""Holds images out for validation: by patient, else by series or file, never by slice or patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from monai_mixssl.data.records import ScanImage
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["split_by_group"]


def split_by_group(
    images: Sequence[ScanImage], val_fraction: float, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> tuple[list[str], list[str], str]:
    """Splits images so that no patient is on both sides.

    The draw depends on the seed and the order of the images only, not on their ids: the same data split the same way in
    every run. Where all images that name a patient name the same one (an anonymised set often does), series are held
    out instead.

    Args:
        images: in the order of the scan.
        val_fraction: share to hold out, in (0, 1), as near as whole groups come to it; at least one group, and at least
            one is left for training.
        seed: seed of the draw.
        sizes: how much each image counts, by id: its number of slices in 2D. None: each counts one.

    Returns:
        Ids for training, ids for validation, both in the order given; and what was held out:
        "patient", "series", or "file" where the files name neither.

    Raises:
        ConfigError: `val_fraction` is out of its range.
        DataError: fewer than two groups, so that training and validation cannot both have an image.
    """
    if not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction!r}; use a share between 0 and 1, such as 0.1.")
    by = "patient" if any(image.patient for image in images) else "series"
    groups = list(dict.fromkeys(image.group for image in images))
    if len(groups) < 2:
        by = "series"
        groups = list(dict.fromkeys(image.series for image in images))
    if len(groups) < 2:
        raise DataError(
            f"{len(groups)} usable patient, series or file was found, and training and validation need one each; "
            "give more data."
        )

    def group_of(image: ScanImage) -> str:
        return image.group if by == "patient" else image.series

    weights = dict.fromkeys(groups, 0)
    for image in images:
        weights[group_of(image)] += 1 if sizes is None else sizes[image.id]
    order = [groups[number] for number in np.random.RandomState(seed).permutation(len(groups))]
    held_out = _hold_out(order, weights, val_fraction * sum(weights.values()))
    train = [image.id for image in images if group_of(image) not in held_out]
    validation = [image.id for image in images if group_of(image) in held_out]
    if by == "series" and all(image.kind != "dicom" for image in images):
        by = "file"
    return train, validation, by


def _hold_out(order: Sequence[str], weights: Mapping[str, int], wanted: float) -> set[str]:
    """Takes groups in the order drawn, passing over those that would lead further past the share than it lacks."""
    held_out: set[str] = set()
    weight = 0
    for group in order:
        if weight + weights[group] / 2 <= wanted and len(held_out) < len(order) - 1:
            held_out.add(group)
            weight += weights[group]
    # every group is larger than twice the share: the smallest, the first drawn of them
    return held_out or {min(order, key=lambda group: weights[group])}
