# SPDX-License-Identifier: Apache-2.0
"""Labelled data, written down by id in the same `manifest.json` as pretraining's, and read back."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.data.labels.labelled_data import LabelledData
from monai_mixssl.data.manifest import refuse_other_format, write_excluded
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.records import Excluded, ScanImage
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import RunFolderError

__all__ = ["DIGESTS", "load_labelled", "read_choices", "read_found", "read_index", "write_labelled"]

FORMAT = 1
# in private/: paths of images and masks, contents of images, and where another run's prepared images lie
PAIRS, DIGESTS, PREPARED_IN = "pairs.json", "digests.json", "prepared_in"


def write_labelled(output: Path, data: LabelledData, choices: dict[str, Any], found: dict[str, int]) -> None:
    """Writes `excluded.jsonl`, what belongs into `private/`, and last of all `manifest.json`.

    Args:
        output: the run's output folder.
        data: what is used.
        choices: how it was split and thinned.
        found: counts of what the scan found.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    private = PrivateFolder(output)
    write_excluded(output, data.excluded)
    if data.paths:
        write_json(private.path / PAIRS, data.paths, "the paths of images and masks")
    if data.folder != private.prepared:
        folder = str(data.folder.absolute()).encode("utf-8", errors="surrogateescape")
        write_atomically(private.path / PREPARED_IN, lambda file: file.write(folder), "the place of prepared images")
    manifest = {
        "format": FORMAT,
        "task": data.task,
        "data_hash": data.data_hash,
        "classes": data.classes,
        "label_values": data.label_values,
        "multi_label": data.multi_label,
        "settings": None if data.settings is None else data.settings.as_dict(),
        "split": {"by": data.split_by, **choices},
        "leakage": data.leakage,
        "found": found,
        "left_out": dict(Counter(one.reason for one in data.excluded)),
        "summary": data.summary,
        "images": list(data.records.values()),
    }
    write_json(output / "manifest.json", manifest, "manifest.json", indent=1)


def load_labelled(output_dir: str | os.PathLike[str]) -> LabelledData:
    """Rebuilds labelled data from a run's output folder; the data themselves are not looked at.

    Raises:
        RunFolderError: there is no complete manifest of labelled data, or one of another format.
    """
    output = Path(output_dir).expanduser().absolute()
    try:
        manifest = json.loads((output / "manifest.json").read_text())
        refuse_other_format(manifest, FORMAT, "manifest.json")
        excluded = [Excluded(**json.loads(line)) for line in (output / "excluded.jsonl").read_text().splitlines()]
        folder = output / "private" / "prepared"
        borrowed, pairs = output / "private" / PREPARED_IN, output / "private" / PAIRS
        if borrowed.exists():
            folder = Path(borrowed.read_bytes().decode("utf-8", errors="surrogateescape"))
        settings = manifest["settings"]
        data = LabelledData(
            task=manifest["task"],
            folder=folder,
            records={record["id"]: record for record in manifest["images"]},
            excluded=excluded,
            classes=manifest["classes"],
            multi_label=manifest["multi_label"],
            settings=None if settings is None else PrepareSettings(**settings),
            split_by=manifest["split"]["by"],
            leakage=manifest["leakage"],
            summary=manifest["summary"],
            label_values=manifest["label_values"],
            paths={one: (image, mask) for one, (image, mask) in json.loads(pairs.read_text()).items()}
            if pairs.exists()
            else {},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"The folder holds no manifest.json of labelled data that can be read ({type(error).__name__}); give the "
            "output folder of a fine-tuning run, or start a new one."
        ) from None
    if data.data_hash != manifest["data_hash"]:
        raise RunFolderError("manifest.json was changed after it was written; start a new run.")
    return data


def read_choices(output: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns how the data of a run were split and thinned, once `load_labelled` has read its folder."""
    choices: dict[str, Any] = json.loads((Path(output).expanduser() / "manifest.json").read_text())["split"]
    choices.pop("by")
    return choices


def read_found(output: str | os.PathLike[str]) -> dict[str, int]:
    """Returns the counts of what the scan of a run found, once `load_labelled` has read its folder."""
    found: dict[str, int] = json.loads((Path(output).expanduser() / "manifest.json").read_text())["found"]
    return found


def read_index(private: Path) -> list[ScanImage]:
    """Returns what the scan of a run found.

    Raises:
        RunFolderError: the index is gone.
    """
    try:
        return [ScanImage.from_dict(value) for value in json.loads((private / "index.json").read_text())]
    except (OSError, ValueError, TypeError, KeyError):
        raise RunFolderError("The folder of data_from holds no private/index.json; give the whole folder.") from None
