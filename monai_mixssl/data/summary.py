# SPDX-License-Identifier: Apache-2.0
"""Says in plain text what was found and what is left out. Names ids, never paths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_mixssl.data.foreground import TOO_LITTLE
from monai_mixssl.data.records import Excluded, ScanImage

__all__ = ["count_reasons", "describe_left_out", "describe_left_out_slices", "found_counts", "summarize"]

IDS_SHOWN = 3


def found_counts(images: Iterable[ScanImage]) -> dict[str, int]:
    """Counts images by what they are: {"DICOM MR volume": 3, "NIfTI volume": 260, …}."""
    names = {"dicom": "DICOM", "nifti": "NIfTI", "itk": "NRRD or MetaImage", "image": "PNG or JPEG"}
    counts: Counter[str] = Counter()
    for image in images:
        volume = len(image.shape) == 3 and 1 not in image.shape
        counts[" ".join(filter(None, [names[image.kind], image.modality, "volume" if volume else "image"]))] += 1
    return dict(counts)


def summarize(images: Sequence[ScanImage], excluded: Sequence[Excluded], title: str = "Found") -> str:
    """Describes what a scan found, or (with another title) what is used after preparing it."""
    lines = [f"{title} {_number(len(images), 'image or volume', 'images and volumes')}:"]
    lines += [f"  {count:6d}  {name}" for name, count in found_counts(images).items()]
    notes = Counter(note for image in images for note in image.notes)
    if notes:
        lines.append("Taken with a note:")
        lines += [f"  {count:6d}  {note}" for note, count in notes.most_common()]
    lines += describe_left_out(excluded)
    return "\n".join(lines)


def describe_left_out(excluded: Sequence[Excluded]) -> list[str]:
    """Returns the lines that say what is left out, and why; none where nothing is."""
    lines: list[str] = []
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in excluded:
        by_reason[one.reason].append(one.id)
    if by_reason:
        lines.append(f"Left out {_number(len(excluded), 'file or image', 'files and images')}:")
        for reason, ids in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
            more = ", …" if len(ids) > IDS_SHOWN else ""
            lines.append(f"  {len(ids):6d}  {reason} ({', '.join(ids[:IDS_SHOWN])}{more})")
        lines.append("All are listed in excluded.jsonl; private/files.csv says which file is behind an id.")
    return lines


def describe_left_out_slices(records: Iterable[Mapping[str, Any]], min_foreground: float) -> list[str]:
    """Returns the line that says how many slices of the volumes used are left out, and why; none where none is.

    Records of 3D, and of a version that did not count them, say nothing.
    """
    volumes = [record for record in records if record.get("found_slices", 0) > 1]  # a picture is no slice
    counts: Counter[str] = Counter()
    for record in volumes:
        counts.update({reason: len(numbers) for reason, numbers in record["left_out_slices"].items()})
    if not counts:
        return []
    names = {reason: reason for reason in counts} | {TOO_LITTLE: f"{TOO_LITTLE} (min_foreground {min_foreground:g})"}
    if len(counts) == 1:
        said = names[next(iter(counts))]
    else:
        said = ", ".join(f"{count} {names[reason]}" for reason, count in counts.most_common())
    total = sum(record["found_slices"] for record in volumes)
    return [f"{counts.total()} of {total} slices left out: {said}; manifest.json lists them by image."]


def count_reasons(excluded: Iterable[Excluded]) -> str:
    """Returns "<reason>: <count>, …" of what is left out, the commonest first, for a sentence."""
    return ", ".join(f"{reason}: {count}" for reason, count in Counter(one.reason for one in excluded).most_common())


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
