# SPDX-License-Identifier: Apache-2.0
"""Prepares every image once and keeps the result, so that training reads small arrays instead of scans.

Each image is written whole before its record is, and both are moved into place: a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import nibabel
import numpy as np
import PIL
import pydicom
import SimpleITK as sitk
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import monai_mixssl
from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.data.content import content_digest, content_id
from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.prepare_image import prepare_image
from monai_mixssl.data.prepared_file import is_whole
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import Excluded, LeftOut, ScanImage
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import RunFolderError

__all__ = ["prepare_images", "read_digests", "still_to_prepare"]

# what decodes and resamples: another version may give other values, and half of each would be a mixture
READ_BY = [
    monai_mixssl.__version__,
    *(str(module.__version__) for module in (pydicom, nibabel, PIL, np, monai, torch)),
    sitk.Version.VersionString(),
]


def prepare_images(
    images: Sequence[ScanImage],
    private: PrivateFolder,
    settings: PrepareSettings,
    *,
    num_workers: int = 0,
    progress: bool = True,
    again: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[dict[str, Any]], list[Excluded]]:
    """Reads and prepares images into `private/prepared/<id>.npy`; what is there already is used again.

    Args:
        images: what the scan found.
        private: where the results go.
        settings: how to prepare.
        num_workers: processes that read and prepare; 0: this one.
        progress: show a progress bar on stderr.
        again: records of images, by id, that are to be prepared anew whatever is there, since it is damaged: an image
            of which another record or other values would come now is left out, and nothing is written.

    Returns:
        The records of the images that can be used, in the order given, and what is left out. "content" of a record is
        the same for images whose decoded values are the same, see `content_digest`.

    Raises:
        RunFolderError: the disk is full.
    """
    if again is None:
        private.remove_leftovers()
    work = _Work(list(images), private.prepared, settings, private.salt(), again)
    loader = DataLoader(
        work,
        batch_size=1,
        collate_fn=_first,
        num_workers=min(num_workers, len(images) // 2),  # starting a process for one image is not worth it
        generator=torch.Generator(),  # the loader would otherwise draw its workers' seeds from torch's global one
    )
    records, excluded = [], []
    bar = tqdm(loader, "preparing", len(images), disable=not progress, unit="image", smoothing=0)
    for image, (outcome, value) in zip(images, bar, strict=True):
        if outcome == "stop":
            raise RunFolderError(value)
        if outcome == "left out":
            excluded.append(Excluded(image.id, *value))
        else:
            records.append(value)
    return records, excluded


def still_to_prepare(images: Sequence[ScanImage], private: PrivateFolder, settings: PrepareSettings) -> list[ScanImage]:
    """Returns the images that `prepare_images` would read: those without a result that is whole and up to date."""

    def known(image: ScanImage) -> bool:
        try:
            return _known(private.prepared, image.id, _key(image, settings)) is not None
        except LeftOut:  # its files are gone: nothing will be written
            return True

    return [image for image in images if not known(image)]


def read_digests(folder: Path, image_ids: Iterable[str]) -> dict[str, str]:
    """Reads the content digests of prepared images, by id; images that were prepared without one are not among them.

    Args:
        folder: where the prepared arrays lie.
        image_ids: of which images.
    """
    digests = {}
    for image_id in image_ids:
        try:
            digests[image_id] = str(json.loads((folder / f"{image_id}.json").read_text())["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return digests


class _Work(Dataset[Any]):
    """Gives for each image ("done", record), ("left out", [reason, detail]) or ("stop", sentence)."""

    def __init__(
        self,
        images: list[ScanImage],
        folder: Path,
        settings: PrepareSettings,
        salt: bytes,
        again: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        self.images, self.folder, self.settings, self.salt, self.again = images, folder, settings, salt, again

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        image = self.images[index]
        try:
            key = _key(image, self.settings)
            known = _known(self.folder, image.id, key) if self.again is None else None
            if known is None:
                known, digest, lasting = self._prepare(image)
                # a file that cannot be read for the moment is no reason to forget what was made of it
                if known[0] == "done" or (self.again is None and lasting):
                    written = {"key": key, "outcome": known, "digest": digest}
                    write_json(self.folder / f"{image.id}.json", written, "prepared images")
            return known
        except LeftOut as reason:  # the files are gone: nothing to remember
            return "left out", [reason.reason, reason.detail]
        except RunFolderError as error:  # an exception would lose its sentence on the way through the loader
            return "stop", str(error)

    def _prepare(self, image: ScanImage) -> tuple[tuple[str, Any], str, bool]:
        """The outcome, the content's digest, and whether it is remembered.

        What cannot be read is not: too little memory or a disk that fails for the moment look the same to the
        libraries below, and reading a broken file again costs little.
        """
        try:
            volume = read_image(image, self.settings.geometry)
            array, record = prepare_image(image, volume, self.settings)
            digest = content_digest(volume)
        except LeftOut as reason:
            return ("left out", [reason.reason, reason.detail]), "", not is_damage(reason.reason)
        except MemoryError:
            return ("left out", ["more memory needed than there is", ""]), "", False
        except Exception as error:  # whatever a damaged file does to a library, the run goes on
            return ("left out", ["cannot be read", type(error).__name__]), "", False
        record |= {"content": content_id(self.salt, digest)}
        if self.again is not None and _differ(self.again[image.id], record):
            return ("left out", ["differs from what was prepared before", ""]), "", True
        path = self.folder / f"{image.id}.npy"
        write_atomically(path, lambda file: np.save(file, array), "prepared images")
        return ("done", {**record, "bytes": path.stat().st_size}), digest, True


def _first(batch: list[Any]) -> Any:
    return batch[0]


def _differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two records of an image differ in what both hold, as JSON keeps it: another version may write more."""
    kept = json.loads(json.dumps(now))
    return any(before[name] != value for name, value in kept.items() if name in before)


def _key(image: ScanImage, settings: PrepareSettings) -> str:
    """Hashes all that the result depends on: settings, versions, what the scan said, size and time of the files."""
    files = []
    for path in dict.fromkeys(part.path for part in image.parts):
        try:
            status = os.stat(path)
        except OSError:
            raise LeftOut("the file does not exist any more") from None
        files.append((status.st_size, status.st_mtime_ns))
    text = json.dumps([settings.fingerprint(), READ_BY, image.as_dict(), files], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def _known(folder: Path, image_id: str, key: str) -> tuple[str, Any] | None:
    try:
        written = json.loads((folder / f"{image_id}.json").read_text())
        outcome, value = written["outcome"]
        if written["key"] != key:
            return None
        if outcome == "done" and "content" not in value:  # prepared by a version that did not hash it yet
            return None
        if outcome == "done" and "slices" in value and "found_slices" not in value:  # did not count what it left out
            return None
        if outcome == "done" and not is_whole(folder, image_id, value["bytes"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return outcome, value
