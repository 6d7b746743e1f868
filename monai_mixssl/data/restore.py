# SPDX-License-Identifier: Apache-2.0
"""Makes prepared images that are gone or damaged again, from the scans that they were made from."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai_mixssl.data.prepare import prepare_images
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.records import ScanImage
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import RunFolderError

__all__ = ["restore_array", "restore_arrays"]

logger = logging.getLogger(__name__)


def restore_arrays(
    missing: Iterable[str], output: Path, num_workers: int = 0, progress: bool = True, most: int = 0
) -> None:
    """Prepares images again whose arrays are gone or damaged, from the files that the run's index names.

    What comes out must be what the manifest says: an image whose file has changed since is lost, too.

    Args:
        missing: ids of the images.
        output: the run's output folder.
        num_workers, progress: see `prepare_images`.
        most: so many may be gone for good: others stand in for them in training.

    Raises:
        RunFolderError: more cannot be made again, or the disk is full.
    """
    wanted = set(missing)
    if not wanted:
        return
    lost = wanted - _restore(wanted, output, num_workers, progress)
    if len(lost) > most:
        raise RunFolderError(
            f"{len(lost)} prepared images of this run are gone and cannot be made again (such as {min(lost)}); "
            "put the data back (private/files.csv names the files), go on with the version of this package that began "
            "the run if another did, or start a new run."
        )
    if lost:
        logger.warning(f"{len(lost)} prepared images are gone and cannot be made again (such as {min(lost)}).")


def restore_array(prepared: Path, image_id: str) -> bool:
    """Prepares one image again in the middle of a run; returns whether it could be.

    Args:
        prepared: the folder of the arrays, `PreparedData.folder`.
        image_id: which image.
    """
    try:
        return bool(_restore({image_id}, prepared.parent.parent, 0, progress=False))
    except RunFolderError:  # the disk is full, or the folder another run's that may only be read
        return False


def _restore(wanted: set[str], output: Path, num_workers: int, progress: bool) -> set[str]:
    """Returns the ids of those that could be made again."""
    manifest, index = output / "manifest.json", output / "private" / "index.json"
    try:
        settings, records = _manifest(manifest, manifest.stat().st_mtime_ns)
        images = _index(index, index.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    known = [images[one] for one in sorted(wanted) if one in images and one in records]
    done, _ = prepare_images(
        known, PrivateFolder(output), settings, num_workers=num_workers, progress=progress, again=records
    )
    return {record["id"] for record in done}


# a worker that comes upon many damaged images reads these once; their time says whether they are still the same
@lru_cache(maxsize=1)
def _manifest(path: Path, _time: int) -> tuple[PrepareSettings, dict[str, dict[str, Any]]]:
    manifest = json.loads(path.read_text())
    return PrepareSettings(**manifest["settings"]), {record["id"]: record for record in manifest["images"]}


@lru_cache(maxsize=1)
def _index(path: Path, _time: int) -> dict[str, ScanImage]:
    images = [ScanImage.from_dict(value) for value in json.loads(path.read_text())]
    return {image.id: image for image in images}
