# SPDX-License-Identifier: Apache-2.0
"""Facts about a folder of scans, from headers alone; counts and sizes, no names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from monai_mixssl.data.damage import damaged
from monai_mixssl.data.normalize import spread_sample
from monai_mixssl.data.orientation import slice_axis
from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import Excluded, LeftOut, ScanImage
from monai_mixssl.data.scan import ScanResult
from monai_mixssl.data.summary import found_counts

__all__ = [
    "Examination",
    "Geometry",
    "Intensity",
    "examine",
    "group_name",
    "is_volume",
    "sample_intensities",
    "slices_last",
]

QUANTILES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Geometry:
    """Smallest, median and largest value over the images of one kind.

    Attributes:
        images: how many they are.
        size: pixels along a side within the slices; both sides count.
        slices: of volumes.
        spacing: millimetres between pixels within the slices; empty where no file states it.
        distance: millimetres between slices.
    """

    images: int
    size: tuple[float, ...]
    slices: tuple[float, ...]
    spacing: tuple[float, ...]
    distance: tuple[float, ...]


@dataclass(frozen=True)
class Intensity:
    """Values of the images of one kind that were read, as stored.

    Attributes:
        images: how many were read.
        lowest, highest: over all of them.
        low, high: medians of their 0.5th and 99.5th percentiles.
        hounsfield: whether all look like Hounsfield units: air is about -1000, and values are whole.
    """

    images: int
    lowest: float
    highest: float
    low: float
    high: float
    hounsfield: bool


@dataclass
class Examination:
    """What is in a data folder.

    Attributes:
        files: that images were found in, and files left out.
        images: that can be used, volumes of 4D files counted one by one.
        found: counts by kind and modality.
        patients: that DICOM headers name; their number alone.
        series: DICOM series.
        notes: what is unusual, with counts.
        left_out: reasons, with counts.
        damaged: files left out that are broken or cannot be read.
        damaged_share: of them among these and the files in use.
        dicom_files: DICOM files that show images.
        identifying: in how many of those each identifying tag is filled.
        with_private_tags: in how many of those there are private tags.
        geometry: by kind.
        intensities: by kind, of the images that were read; empty where none was.
        unreadable: of the images that were to be read, reasons with counts.
    """

    files: int
    images: int
    found: dict[str, int]
    patients: int
    series: int
    notes: dict[str, int]
    left_out: dict[str, int]
    damaged: int
    damaged_share: float
    dicom_files: int
    identifying: dict[str, int]
    with_private_tags: int
    geometry: dict[str, Geometry]
    intensities: dict[str, Intensity] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)


def examine(found: ScanResult) -> Examination:
    """Counts and measures what a scan found."""
    used = len({part.path for image in found.images for part in image.parts})
    broken = len(damaged(found.excluded))
    groups: dict[str, list[ScanImage]] = defaultdict(list)
    for image in found.images:
        groups[group_name(image)].append(image)
    return Examination(
        files=used + len(found.excluded),
        images=len(found.images),
        found=found_counts(found.images),
        patients=len({image.patient for image in found.images} - {""}),
        series=len({image.series for image in found.images if image.kind == "dicom"}),
        notes=dict(Counter(note for image in found.images for note in image.notes).most_common()),
        left_out=dict(Counter(one.reason for one in found.excluded).most_common()),
        damaged=broken,
        damaged_share=broken / (broken + used) if broken else 0.0,
        dicom_files=found.dicom_files,
        identifying=dict(sorted(found.identifying.items(), key=lambda pair: (-pair[1], pair[0]))),
        with_private_tags=found.with_private_tags,
        geometry={name: _geometry(images) for name, images in sorted(groups.items())},
    )


def sample_intensities(
    examination: Examination, images: Sequence[ScanImage], count: int, seed: int = 0
) -> list[Excluded]:
    """Reads some images and adds what their values are like.

    Args:
        examination: is changed.
        images: what the scan found.
        count: how many to read at most, drawn at random.
        seed: of the draw.

    Returns:
        Those that cannot be read.
    """
    order = np.random.RandomState(seed).permutation(len(images))[:count]
    read: dict[str, list[tuple[float, float, float, float, bool]]] = defaultdict(list)
    unreadable = []
    for number in sorted(order):
        image = images[number]
        try:
            array = read_image(image).array
            if not np.isfinite(array).all():
                raise LeftOut("NaN or infinite values")
            read[group_name(image)].append(_values(array))
        except LeftOut as reason:
            unreadable.append(Excluded(image.id, reason.reason, reason.detail))
        except MemoryError:
            unreadable.append(Excluded(image.id, "more memory needed than there is"))
        except Exception as error:  # whatever a damaged file does to a library, the rest is looked at
            unreadable.append(Excluded(image.id, "cannot be read", type(error).__name__))
    for name, values in sorted(read.items()):
        lowest, low, high, highest, hounsfield = zip(*values, strict=True)
        examination.intensities[name] = Intensity(
            len(values), min(lowest), max(highest), float(np.median(low)), float(np.median(high)), all(hounsfield)
        )
    examination.unreadable = dict(Counter(one.reason for one in unreadable))
    return unreadable


def slices_last(image: ScanImage) -> ScanImage:
    """The image with its sizes and spacings in the order in which preparation cuts slices: the slices' axis last."""
    if len(image.shape) != 3 or image.kind not in ("nifti", "itk"):
        return image
    steps = image.spacing or (1.0, 1.0, 1.0)
    last = slice_axis(image.shape, np.diag([*steps[:3], 1.0]))
    order = [axis for axis in range(3) if axis != last] + [last]
    return replace(
        image,
        shape=tuple(image.shape[axis] for axis in order),
        spacing=None if image.spacing is None else tuple(image.spacing[axis] for axis in order),
    )


def is_volume(image: ScanImage) -> bool:
    """Whether an image has several slices and a place in a patient, as training in 3D needs it."""
    whole = len(image.shape) == 3 and slices_last(image).shape[2] > 1
    return whole and (image.kind != "dicom" or image.affine is not None)


def group_name(image: ScanImage) -> str:
    """What images are counted together: "CT volume", "volume of unknown modality", …"""
    what = "volume" if is_volume(image) else "image"
    return f"{image.modality} {what}" if image.modality else f"{what} of unknown modality"


def _geometry(images: Sequence[ScanImage]) -> Geometry:
    images = [slices_last(image) for image in images]
    volumes = [image for image in images if is_volume(image)]
    stated = [image for image in images if image.spacing is not None]
    return Geometry(
        images=len(images),
        size=_quantiles([size for image in images for size in image.shape[:2]]),
        slices=_quantiles([image.shape[2] for image in volumes]),
        spacing=_quantiles([step for image in stated for step in (image.spacing or ())[:2]]),
        distance=_quantiles([(image.spacing or ())[2] for image in volumes if image.spacing is not None]),
    )


def _quantiles(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in np.quantile(values, QUANTILES)) if values else ()


def _values(array: np.ndarray) -> tuple[float, float, float, float, bool]:
    flat = spread_sample(array, 200_000).astype(np.float64)
    low, high = (float(value) for value in np.percentile(flat, (0.5, 99.5)))
    lowest, highest = float(array.min()), float(array.max())
    # air lies at -1000, what surrounds the circle of a scanner often further down; bone is bright
    hounsfield = bool(-4096 <= lowest <= -900 and 100 < highest <= 32767 and (flat == np.rint(flat)).all())
    return lowest, low, high, highest, hounsfield
