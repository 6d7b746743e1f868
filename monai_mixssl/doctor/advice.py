# SPDX-License-Identifier: Apache-2.0
"""Settings to begin pretraining with, each with its reason. Rules of thumb, no measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monai_mixssl.data.records import ScanImage
from monai_mixssl.doctor.examination import Examination, is_volume, slices_last

__all__ = ["Advice", "advise"]

PATCHES = {2: (32, 64, 96, 128), 3: (32, 48, 64)}
SLICES = 16  # fewer are hardly a volume to a network
ANISOTROPIC = 3.0  # slice distance over pixel spacing, from which slices are better taken one by one
ALIKE = 1.5  # spacings within this factor are left as they are


@dataclass(frozen=True)
class Advice:
    """Settings of a pretraining, and why.

    Attributes:
        settings: by key of the configuration; spacing None: as stored.
        reasons: a sentence a setting.
    """

    settings: dict[str, int | float | str | None]
    reasons: dict[str, str]


def advise(examination: Examination, images: Sequence[ScanImage], spatial_dims: int | None = None) -> Advice:
    """Suggests settings for what a scan found.

    Args:
        examination: facts about it.
        images: at least one.
        spatial_dims: 2 or 3 where that is decided.
    """
    images = [slices_last(image) for image in images]
    volumes = [image for image in images if is_volume(image)]
    reasons: dict[str, str] = {}
    dims, reasons["spatial_dims"] = _dims(images, volumes)
    if spatial_dims is not None and spatial_dims != dims:
        dims, reasons["spatial_dims"] = spatial_dims, f"as asked for; else {dims}, since {reasons['spatial_dims']}"
    if dims == 3 and len(volumes) < len(images):
        single = len(images) - len(volumes)
        lost = f"{single} single images are left out" if volumes else "nothing can be trained on: there is no volume"
        reasons["spatial_dims"] += f"; in 3D {lost}"
    taken = volumes if dims == 3 and volumes else list(images)
    spacing, reasons["spacing"] = _spacing(taken, dims)
    patch, reasons["patch_size"] = _patch(taken, dims, spacing)
    rule, reasons["normalization"] = _normalization(examination, taken)
    settings: dict[str, int | float | str | None] = {
        "spatial_dims": dims, "patch_size": patch, "spacing": spacing, "normalization": rule,
    }  # fmt: skip
    return Advice(settings, reasons)


def _dims(images: Sequence[ScanImage], volumes: Sequence[ScanImage]) -> tuple[int, str]:
    if 2 * len(volumes) <= len(images):
        return 2, f"{len(images) - len(volumes)} of {len(images)} are single images"
    slices = float(np.median([image.shape[2] for image in volumes]))
    if slices < SLICES:
        return 2, f"half of the volumes have no more than {slices:g} slices"
    ratios = [max(image.spacing) / min(image.spacing) for image in volumes if image.spacing]
    ratio = float(np.median(ratios)) if ratios else 1.0
    if ratio > ANISOTROPIC:
        return 2, f"the distance of slices is {ratio:.1f} times that of pixels"
    return 3, f"most are volumes, of {slices:g} slices in the median, and voxels are nearly cubes ({ratio:.1f} to 1)"


def _spacing(images: Sequence[ScanImage], dims: int) -> tuple[float | None, str]:
    steps = [math.prod(image.spacing[:dims]) ** (1 / dims) for image in images if image.spacing]
    if not steps:
        return None, "no file states one"
    low, median, high = (float(step) for step in np.quantile(steps, (0.1, 0.5, 0.9)))
    shapes = [max(image.spacing[:dims]) / min(image.spacing[:dims]) for image in images if image.spacing]
    if high / low <= ALIKE and (dims == 2 or float(np.median(shapes)) <= ALIKE):
        return None, f"as stored: most lie between {low:.3g} and {high:.3g} mm"
    what = "pixels" if dims == 2 else "voxels (cubes of equal volume)"
    return float(f"{median:.2g}"), f"{what} differ, from {low:.3g} to {high:.3g} mm in most; this is the median"


def _patch(images: Sequence[ScanImage], dims: int, spacing: float | None) -> tuple[int, str]:
    sides = []
    for image in images:
        sizes = image.shape[:dims]
        if spacing is not None and image.spacing:
            sizes = tuple(round(size * step / spacing) for size, step in zip(sizes, image.spacing, strict=False))
        sides.append(min(sizes))
    side = float(np.median(sides))
    # of large images a part, so that two patches of one differ; small ones whole
    wanted = side if dims == 3 or side <= PATCHES[2][2] else side / 2
    patch = max([one for one in PATCHES[dims] if one <= wanted], default=PATCHES[dims][0])
    return patch, f"the shorter side is {side:g} {'voxels' if dims == 3 else 'pixels'} in the median"


def _normalization(examination: Examination, images: Sequence[ScanImage]) -> tuple[str, str]:
    modalities = {image.modality for image in images}
    unknown = {name: one for name, one in examination.intensities.items() if "unknown modality" in name}
    if modalities == {""} and unknown and all(one.hounsfield for one in unknown.values()):
        return "hounsfield", "no file states a modality, and the values that were read look like Hounsfield units"
    if modalities == {""}:
        hint = "" if unknown else "; --read 10 looks whether they are CT"
        return "auto", f"no file states a modality: percentiles of each image{hint}"
    others = ", ".join(sorted(modalities - {"CT", ""})) or "all else"
    if "CT" in modalities:
        return "auto", f"CT from -1000 to 1000 Hounsfield units; {others} by percentiles of each image"
    return "auto", f"{others} by percentiles of each image"
