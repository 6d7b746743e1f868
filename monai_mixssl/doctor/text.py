# SPDX-License-Identifier: Apache-2.0
"""An examination in words. Names no file, no path and no value of an identifying tag."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from monai_mixssl.doctor.advice import Advice
from monai_mixssl.doctor.examination import Examination, Geometry

__all__ = ["command_for", "describe"]

TAGS_SHOWN = 12


def describe(examination: Examination, advice: Advice | None, command: str, listed: bool) -> str:
    """Returns the report.

    Args:
        examination: the facts.
        advice: settings to begin with; None where nothing can be used.
        command: the line to type.
        listed: whether `excluded.jsonl` is written.
    """
    lines = _found(examination)
    lines += ["", *_left_out(examination, listed)]
    if examination.geometry:
        lines += ["", *_geometry(examination.geometry)]
    if examination.intensities or examination.unreadable:
        lines += ["", *_intensities(examination)]
    lines += ["", *_identifiers(examination)]
    if advice is not None:
        lines += ["", "To begin with (rules of thumb):"]
        for key, value in advice.settings.items():
            shown = "as stored" if value is None else value
            lines.append(f"  {key:14s} {shown!s:10s} {advice.reasons[key]}")
        lines += ["", f"  {command}"]
    return "\n".join(lines)


def command_for(advice: Advice, dataset_dir: Sequence[str], output_dir: str | None) -> str:
    """Returns the command that pretrains with these settings; folders as the user has typed them."""
    words = ["python", "-m", "monai.bundle", "run", "pretrain", "--workflow_name", "monai_mixssl.PretrainWorkflow"]
    words += ["--dataset_dir", ",".join(dataset_dir), "--output_dir", output_dir or "my_run"]
    for key, value in advice.settings.items():
        if value is not None and (key, value) not in (("spatial_dims", 2), ("normalization", "auto")):  # the defaults
            words += [f"--{key}", str(value)]
    return shlex.join(words)


def _found(examination: Examination) -> list[str]:
    lines = [f"{examination.files} files hold {examination.images} images and volumes:"]
    lines += [f"  {count:7d}  {name}" for name, count in examination.found.items()]
    if examination.series:
        lines.append(f"DICOM: {examination.series} series; {examination.patients} patients are named.")
    if examination.notes:
        lines.append("Unusual:")
        lines += [f"  {count:7d}  {note}" for note, count in examination.notes.items()]
    return lines


def _left_out(examination: Examination, listed: bool) -> list[str]:
    total = sum(examination.left_out.values())
    if not total:
        return ["Nothing is left out."]
    lines = [
        f"Left out {total}, of which {examination.damaged} damaged or unreadable "
        f"({examination.damaged_share:.1%} of what should be images):"
    ]
    lines += [f"  {count:7d}  {reason}" for reason, count in examination.left_out.items()]
    if listed:
        lines.append("All are listed in excluded.jsonl by id; private/files.csv says which file is behind an id.")
    else:
        lines.append("With --output_dir they are listed, by id.")
    return lines


def _geometry(geometry: dict[str, Geometry]) -> list[str]:
    table: list[tuple[str, ...]] = [("Smallest / median / largest", "images", "size", "slices", "pixel mm", "slice mm")]
    for name, one in geometry.items():
        cells = (_range(values) for values in (one.size, one.slices, one.spacing, one.distance))
        table.append((f"  {name}", str(one.images), *cells))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _intensities(examination: Examination) -> list[str]:
    count = sum(one.images for one in examination.intensities.values()) + sum(examination.unreadable.values())
    lines = [f"Values of {count} images, read at random:"]
    for name, one in examination.intensities.items():
        looks = ", look like Hounsfield units" if one.hounsfield else ""
        lines.append(
            f"  {one.images:7d}  {name}: {one.lowest:g} to {one.highest:g}, most between {one.low:g} and {one.high:g}"
            f"{looks}"
        )
    lines += [f"  {count:7d}  cannot be used: {reason}" for reason, count in examination.unreadable.items()]
    return lines


def _identifiers(examination: Examination) -> list[str]:
    if not examination.dicom_files:
        return ["Identifiers: there are no DICOM headers. File and folder names may hold names, too: nobody can tell."]
    shown = list(examination.identifying.items())[:TAGS_SHOWN]
    lines = [
        f"Identifiers in {examination.dicom_files} DICOM files (number of files in which the tag is filled; "
        "no value is kept):"
    ]
    lines += [f"  {count:7d}  {keyword}" for keyword, count in shown]
    more = len(examination.identifying) - len(shown)
    if more:
        lines.append(f"           and {more} further tags (--json lists them)")
    lines.append(f"  {examination.with_private_tags:7d}  private tags, which may hold anything")
    lines.append("File and folder names may hold names, too: nobody can tell. Runs keep both in private/ alone.")
    return lines


def _range(values: tuple[float, ...]) -> str:
    if not values:
        return "-"
    if values[0] == values[-1]:
        return f"{values[0]:.4g}"
    return " / ".join(f"{value:.4g}" for value in values)
