# SPDX-License-Identifier: Apache-2.0
"""Which rescale a DICOM frame needs, and which one GDCM applies to it.

GDCM knows one rescale a file. Where frames differ, its values are put right afterwards, so what it applies must be
known: a test goes through every storage class of the standard.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

__all__ = [
    "BY_FUNCTIONAL_GROUP",
    "RESCALE_TAGS",
    "Rescale",
    "correction",
    "decoder_rescale",
    "frame_rescale",
    "rescale_notes",
    "root_rescale",
]

Rescale = tuple[float, float]
"""Slope and intercept."""

RESCALE_TAGS = ["RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"]
NONE: Rescale = (1.0, 0.0)
# Storage classes whose rescale GDCM takes from the functional groups, if it is there
BY_FUNCTIONAL_GROUP = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{ending}"
    for ending in (
        "2.1", "2.2",  # enhanced CT, and converted to it
        "4.1", "4.4",  # MR
        "128.1", "130",  # PET
        "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5",  # X-ray in three dimensions, breast tomosynthesis
        "66.4",  # segmentation
    )
)  # fmt: skip


def root_rescale(dataset: Any) -> Rescale:
    """The rescale of a classic file; a missing or unusable slope counts as 1, a missing intercept as 0."""
    return _pair(dataset) or NONE


def frame_rescale(frame: Dataset, shared: Dataset, root: Rescale) -> Rescale:
    """The rescale that a frame of a multi-frame file needs: its own, else the shared one, else the file's."""
    return _group(frame) or _group(shared) or root


def decoder_rescale(sop_class: str, first: Dataset, shared: Dataset, root: Rescale) -> Rescale:
    """The rescale that GDCM applies to every frame of a file.

    Args:
        sop_class: UID of the storage class.
        first: functional groups of the first frame.
        shared: functional groups that all frames share.
        root: see `root_rescale`.
    """
    if sop_class in BY_FUNCTIONAL_GROUP:
        return _group(shared) or _group(first) or root
    return root


def correction(needed: Rescale, applied: Rescale) -> Rescale:
    """Gain and offset that turn values rescaled by `applied` into values rescaled by `needed`."""
    if needed == applied:
        return NONE
    gain = needed[0] / applied[0]
    return gain, needed[1] - applied[1] * gain


def rescale_notes(dataset: Any, modality: str, in_groups: bool = False) -> tuple[str, ...]:
    """Says what is unusual about a file's rescale, so that nothing is made up in silence.

    Args:
        dataset: holds `RESCALE_TAGS`.
        modality: CT and PET state a rescale by the standard, other kinds of image need none.
        in_groups: the functional groups state a rescale.
    """
    notes = []
    if dataset.get("ModalityLUTSequence"):
        notes.append("modality lookup table, not applied")
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    missing = [name for name, value in (("slope", slope), ("intercept", intercept)) if value is None or value == ""]
    if in_groups:
        return tuple(notes)
    if len(missing) == 2 and modality in ("CT", "PT"):
        notes.append("no rescale tags, values as stored")
    elif len(missing) == 1:
        notes.append(f"no rescale {missing[0]}, taken as {1 if missing == ['slope'] else 0}")
    if not missing and _number(slope) == 0:
        notes.append("rescale slope of 0, taken as 1")
    for name, value, instead in (("slope", slope, 1), ("intercept", intercept, 0)):
        if value is not None and value != "" and _number(value) is None:
            notes.append(f"rescale {name} that is no number, taken as {instead}")
    return tuple(notes)


def _group(item: Dataset) -> Rescale | None:
    content = item.get("PixelValueTransformationSequence")
    return _pair(content[0]) if content else None


def _pair(item: Any) -> Rescale | None:
    slope, intercept = _number(item.get("RescaleSlope")), _number(item.get("RescaleIntercept"))
    if slope is None and intercept is None:
        return None
    return slope or 1.0, intercept or 0.0


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return number if abs(number) < 1e30 else None
