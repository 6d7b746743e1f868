# SPDX-License-Identifier: Apache-2.0
"""What a run trains on, written down: `manifest.json` and `excluded.jsonl`, by id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.data.identity import list_hash
from monai_mixssl.data.prepared_file import is_whole
from monai_mixssl.data.records import Excluded
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import RunFolderError

__all__ = ["PreparedData", "load_prepared", "missing_arrays", "write_excluded", "write_manifest"]

FORMAT = 1


@dataclass(frozen=True)
class PreparedData:
    """Prepared images, ready for a MONAI `Dataset` with `LoadPreparedd` as its first transform.

    Attributes:
        folder: where the arrays lie (`private/prepared`).
        records: what was done to each image, by id, in the order of the scan; "split" is "training" or "validation".
        excluded: what is left out.
        settings: how the images were prepared; belongs into checkpoints.
        split_by: "patient", "series" or "file", or None where nothing is held out.
        summary: what was found and left out, as text for the console.
    """

    folder: Path
    records: dict[str, dict[str, Any]]
    excluded: list[Excluded]
    settings: PrepareSettings
    split_by: str | None
    summary: str

    @property
    def train(self) -> list[dict[str, Any]]:
        """Datalist for training: {"image": id, "id": id}, in 2D with "slice": number, a slice per entry.

        The transforms replace "image" by what they load; "id" stays, for messages and tables.
        """
        return self._items("training")

    @property
    def validation(self) -> list[dict[str, Any]]:
        """Datalist for validation; empty where nothing is held out."""
        return self._items("validation")

    @property
    def data_hash(self) -> str:
        """SHA-256 over the sorted ids: a checkpoint that carries another was trained on other images."""
        return list_hash(self.records)

    def _items(self, split: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for image_id, record in self.records.items():
            if record["split"] != split:
                continue
            if self.settings.spatial_dims == 3:
                items.append({"image": image_id, "id": image_id})
            else:
                items.extend({"image": image_id, "id": image_id, "slice": k} for k in range(record["shape"][0]))
        return items


def write_excluded(output_dir: Path, excluded: Sequence[Excluded]) -> None:
    """Writes `excluded.jsonl`: one {"id", "reason", "detail"} a line.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    lines = "".join(json.dumps(asdict(one)) + "\n" for one in excluded).encode()
    write_atomically(output_dir / "excluded.jsonl", lambda file: file.write(lines), "excluded.jsonl")


def write_manifest(output_dir: Path, data: PreparedData, found: dict[str, int], choices: dict[str, Any]) -> None:
    """Writes `manifest.json`, last of all: where it stands, the preparation is complete.

    Args:
        output_dir: the run's output folder.
        data: what is used.
        found: counts of what the scan found, see `summary.found_counts`.
        choices: seed and share of the split.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    manifest = {
        "format": FORMAT,
        "data_hash": data.data_hash,
        "settings": data.settings.as_dict(),
        "split": {"by": data.split_by, **choices},
        "found": found,
        "left_out": dict(Counter(one.reason for one in data.excluded)),
        "summary": data.summary,
        "images": list(data.records.values()),
    }
    write_json(output_dir / "manifest.json", manifest, "manifest.json", indent=1)


def refuse_other_format(content: Any, known: int, name: str) -> None:
    """Refuses a file that another version of this package has written in another form.

    Args:
        content: what the file holds; one that says no format is left to who reads it.
        known: the format that this version reads.
        name: of the file.

    Raises:
        RunFolderError: the format is another one.
    """
    found = content.get("format", known) if isinstance(content, dict) else known
    if type(found) is not int or found != known:
        shown = found if type(found) is int else "another kind"
        raise RunFolderError(
            f"{name} is of format {shown}, and this version of monai-mixssl reads {known}; go on with the version that "
            "versions.json names, or choose a new folder."
        )


def load_prepared(output_dir: str | Path) -> PreparedData:
    """Rebuilds what a run trains on from its output folder; the data themselves are not looked at.

    Raises:
        RunFolderError: there is no complete manifest, or one of another format, or prepared arrays are missing.
    """
    folder = Path(output_dir)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        refuse_other_format(manifest, FORMAT, "manifest.json")
        excluded = [Excluded(**json.loads(line)) for line in (folder / "excluded.jsonl").read_text().splitlines()]
        data = PreparedData(
            folder=folder / "private" / "prepared",
            records={record["id"]: record for record in manifest["images"]},
            excluded=excluded,
            settings=PrepareSettings(**manifest["settings"]),
            split_by=manifest["split"]["by"],
            summary=manifest["summary"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"output_dir holds no manifest.json that can be read ({type(error).__name__}); start a new run."
        ) from None
    if data.data_hash != manifest["data_hash"]:
        raise RunFolderError("manifest.json was changed after it was written; start a new run.")
    return data


def missing_arrays(data: PreparedData) -> Sequence[str]:
    """Returns the ids whose prepared array is not there, or not whole."""

    return [one for one, record in data.records.items() if not is_whole(data.folder, one, record["bytes"])]
