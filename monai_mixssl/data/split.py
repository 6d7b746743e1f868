# SPDX-License-Identifier: Apache-2.0
"""Holds images out for validation: by patient, else by series or file, never by slice or patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_mixssl.data.records import ScanImage
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["split_by_group"]


def split_by_group(images: Sequence[ScanImage], val_fraction: float, seed: int = 0) -> tuple[list[str], list[str], str]:
    """Splits images so that no patient is on both sides.

    The draw depends on the seed and the order of the images only, not on their ids: the same data split the same way in
    every run. Where all images that name a patient name the same one (an anonymised set often does), series are held
    out instead.

    Args:
        images: in the order of the scan.
        val_fraction: share of groups to hold out, in (0, 1); at least one group, and at least one is left for training.
        seed: seed of the draw.

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
    count = min(max(1, round(val_fraction * len(groups))), len(groups) - 1)
    drawn = np.random.RandomState(seed).permutation(len(groups))[:count]
    held_out = {groups[number] for number in drawn}

    def validates(image: ScanImage) -> bool:
        return (image.group if by == "patient" else image.series) in held_out

    train = [image.id for image in images if not validates(image)]
    validation = [image.id for image in images if validates(image)]
    if by == "series" and all(image.kind != "dicom" for image in images):
        by = "file"
    return train, validation, by
