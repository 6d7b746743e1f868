# SPDX-License-Identifier: Apache-2.0
"""What preparing will need, from the headers alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_mixssl.data.records import ScanImage
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import RunFolderError

__all__ = ["Estimate", "check_disk", "estimate"]

# Measured with a 300 × 300 × 300 int16 NIfTI file: float32 copies of a volume alive at once while it is prepared
COPIES = 4
COPIES_RESAMPLING = 11
# Measured on one core of a busy machine, over gzipped NIfTI, DICOM series and PNG files
VALUES_PER_SECOND = 5e6
SECONDS_PER_FILE = 4e-3
SPARE = 200 * 2**20  # bytes left free for everything else


@dataclass(frozen=True)
class Estimate:
    """Upper bounds: cropping to the foreground and leaving out make the real figures smaller.

    Attributes:
        images: images and volumes.
        values: values to prepare, after resampling.
        disk_bytes: size of the prepared arrays.
        memory_bytes: memory of all processes together while preparing, beyond that of the libraries.
        seconds: time to prepare.
    """

    images: int
    values: int
    disk_bytes: int
    memory_bytes: int
    seconds: float

    def text(self) -> str:
        """Returns one line for the console."""
        return (
            f"Preparing {self.images} images needs at most about {self.disk_bytes / 2**20:.0f} MB of disk, "
            f"{self.memory_bytes / 2**20:.0f} MB of memory and {max(1.0, self.seconds):.0f} s."
        )


def estimate(images: Sequence[ScanImage], settings: PrepareSettings, num_workers: int = 0) -> Estimate:
    """Estimates what `prepare_images` needs."""
    sizes = [_values(image, settings) for image in images]
    files = len({part.path for image in images for part in image.parts})
    processes = max(1, num_workers)
    largest = max((max(math.prod(image.shape), size) for image, size in zip(images, sizes, strict=True)), default=0)
    copies = COPIES if settings.spacing is None else COPIES_RESAMPLING
    return Estimate(
        images=len(images),
        values=sum(sizes),
        disk_bytes=2 * sum(sizes) + 4096 * len(images),  # float16, and a block for each record
        memory_bytes=4 * copies * largest * processes,
        seconds=(sum(sizes) / VALUES_PER_SECOND + files * SECONDS_PER_FILE) / processes,
    )


def check_disk(folder: Path, needed: int) -> None:
    """Stops before any work where the disk is too small.

    Raises:
        RunFolderError: less is free on the disk of `folder` than `needed` bytes and a reserve of 200 MB.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise RunFolderError(
            f"The disk of output_dir has {free / 2**30:.1f} GB free and preparing may need "
            f"{(needed + SPARE) / 2**30:.1f} GB; free some space or choose another output_dir."
        )


def _values(image: ScanImage, settings: PrepareSettings) -> int:
    values = float(settings.in_channels * math.prod(image.shape))
    if settings.spacing is not None and image.spacing is not None:
        # PrepareSettings has made a tuple of whatever was given, which its types do not say
        smallest = sorted(image.spacing)[: len(settings.spacing)]  # type: ignore[arg-type]
        values *= math.prod(smallest) / math.prod(settings.spacing[: len(smallest)])  # type: ignore[index]
    return math.ceil(values)
