# SPDX-License-Identifier: Apache-2.0
"""Remembers what a scan has seen, so that a second one opens no file that has not changed.

Two files below `private/`. `result.json` is what the scan found; it counts where no file was added, taken away or
changed. `headers.json` is what the header of each file says, for all other times. A file has not changed where its
place below the data folder, its size and its times (of content and status, in nanoseconds) are as before.

What is written under another version of the rules, of a library or of the salt is not used, nor is a damaged file:
each begins with a hash of the rest. UIDs and patients' ids stand in them as salted hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import nibabel
import PIL
import pydicom
import SimpleITK as sitk

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.dicom_header import DicomFrame, DicomHeader
from monai_mixssl.data.dicom_traits import Traits
from monai_mixssl.data.file_header import PASSING, FileHeader, PlainHeader
from monai_mixssl.data.find import Found
from monai_mixssl.data.identity import short_id
from monai_mixssl.data.pause_gc import pause_gc
from monai_mixssl.data.records import LeftOut, Part, ScanImage

__all__ = ["ScanIndex"]

RULES = 7  # raised whenever the same files would be read, grouped or left out differently

# fields of a DICOM header that differ from file to file; all others are the same for most files of a series
_OWN = ("sop_instance", "instance", "tie")
_SHARED = tuple(one.name for one in fields(DicomHeader) if one.name not in (*_OWN, "frames"))
_FRAME = tuple(one.name for one in fields(DicomFrame) if one.name != "position")
_own_values, _shared_values, _frame_values = (attrgetter(*names) for names in (_OWN, _SHARED, _FRAME))


class ScanIndex:
    """What was seen in the data folder of one output folder.

    Args:
        folder: where it is kept; created on saving.
        salt: secret of the ids.
        keep: which of `dicom_rules.KEEPABLE` are taken all the same.
    """

    def __init__(self, folder: str | Path, salt: bytes, keep: Collection[str] = ()) -> None:
        self.folder = Path(folder)
        libraries = [pydicom.__version__, nibabel.__version__, PIL.__version__, sitk.Version.VersionString()]
        known = [*_SHARED, *_FRAME, *Traits._fields, *PlainHeader._fields, *Part._fields]
        known += [one.name for one in fields(ScanImage)]
        self.version: list[Any] = [RULES, *libraries, " ".join(known), sorted(keep), short_id(salt, "index")]

    def result(self, found: Found) -> Any:
        """Returns what was saved for exactly these files, None where nothing was."""
        content = self._load("result.json")
        return content["result"] if content is not None and content.get("state") == found.state() else None

    def save_result(self, found: Found, result: Any) -> None:
        """Saves what a scan of these files found, of JSON types.

        Raises:
            RunFolderError: the disk is full or the folder cannot be written.
        """
        self._save("result.json", {"state": found.state(), "result": result})

    def forget_result(self) -> None:
        """Takes away what was found before."""
        (self.folder / "result.json").unlink(missing_ok=True)

    @pause_gc()
    def headers(self, found: Found) -> dict[str, FileHeader]:
        """Returns the header of each file that has not changed, by key."""
        content = self._load("headers.json")
        if content is None:
            return {}
        known: dict[str, FileHeader] = {}
        try:
            shared = [dict(zip(_SHARED, _frozen(values), strict=True)) for values in content["shared"]]
            frames = [_frame_fields(values) for values in content["frames"]]
            files = content["files"]
            for file in found.files:
                entry = files.get(file.key)
                if entry is not None and entry[:3] == [file.size, file.modified, file.changed]:
                    known[file.key] = _decoded(entry[3], shared, frames)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):  # whole, but not as it is written now
            return {}
        return known

    def save_headers(self, found: Found, headers: Mapping[str, FileHeader]) -> None:
        """Saves the header of each file; those of files that are gone are forgotten.

        Raises:
            RunFolderError: the disk is full or the folder cannot be written.
        """
        shared: Table = {}
        frames: Table = {}
        files = {}
        for key, _, size, modified, changed in found.files:
            header = headers.get(key)
            if header is None or (isinstance(header, LeftOut) and header.reason in PASSING):
                continue
            files[key] = [size, modified, changed, _encoded(header, shared, frames)]
        self._save("headers.json", {"shared": list(shared), "frames": list(frames), "files": files})

    def _load(self, name: str) -> Any:
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        digest, _, text = content.partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            return None
        try:
            value = json.loads(text)
            return value if value["version"] == self.version else None
        except (ValueError, KeyError, TypeError, RecursionError):  # whole, but not written by this class
            return None

    def _save(self, name: str, value: dict[str, Any]) -> None:
        text = json.dumps({"version": self.version, **value}, separators=(",", ":")).encode()
        content = hashlib.sha256(text).hexdigest().encode() + b"\n" + text
        self.folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.folder / name, lambda file: file.write(content), "the index of the scan")


Table = dict[tuple[Any, ...], int]
"""All values that occur together, and a number for each; in the order of the numbers."""


def _encoded(header: FileHeader, shared: Table, frames: Table) -> list[Any]:
    if isinstance(header, LeftOut):
        return ["-", header.reason, header.detail]
    if isinstance(header, PlainHeader):
        return [*header]
    common = shared.setdefault(_shared_values(header), len(shared))
    own = [[frames.setdefault(_frame_values(frame), len(frames)), frame.position] for frame in header.frames]
    return ["dicom", common, *_own_values(header), own]


def _decoded(entry: list[Any], shared: list[dict[str, Any]], frames: list[dict[str, Any]]) -> FileHeader:
    if entry[0] == "-":
        return LeftOut(*entry[1:])
    if entry[0] != "dicom":
        return PlainHeader(*_frozen(entry))
    own = tuple(DicomFrame(**frames[number], position=_frozen(position)) for number, position in entry[-1])
    return DicomHeader(**shared[entry[1]], **dict(zip(_OWN, entry[2:-1], strict=True)), frames=own)


def _frame_fields(values: list[Any]) -> dict[str, Any]:
    named = dict(zip(_FRAME, _frozen(values), strict=True))
    return {**named, "traits": Traits(*named["traits"])}


def _frozen(value: Any) -> Any:
    """Turns lists into tuples, at every depth."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
