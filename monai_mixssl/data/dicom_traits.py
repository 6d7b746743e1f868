# SPDX-License-Identifier: Apache-2.0
"""What tells apart the images that one DICOM series holds at one position: kind, echo, b-value, time, …"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["NO_TRAITS", "TRAIT_TAGS", "Traits", "file_traits", "frame_traits"]

Numbers = tuple[float, ...]

# Siemens keeps b-value and direction of classic files in private elements, below the creator named first
_SIEMENS, _SIEMENS_B, _SIEMENS_DIRECTION = 0x00190010, 0x0019100C, 0x0019100E
_PHILIPS, _PHILIPS_B = 0x20010010, 0x20011003
_GE, _GE_B = 0x00430010, 0x00431039
_GE_OFFSET = 1e9  # GE adds it to some b-values

TRAIT_TAGS: tuple[str | int, ...] = (
    "ImageType", "ComplexImageComponent", "EchoNumbers", "EchoTime", "DiffusionBValue", "DiffusionGradientOrientation",
    "TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "AcquisitionTime", "AcquisitionDateTime",
    _SIEMENS, _SIEMENS_B, _SIEMENS_DIRECTION, _PHILIPS, _PHILIPS_B, _GE, _GE_B,
)  # fmt: skip


class Traits(NamedTuple):
    """None where the header is silent. Times are seconds of the day, or milliseconds after the trigger.

    `kind` should be codes, but may be any text: it is hashed before it leaves the scan.
    """

    kind: str | None = None
    echo: float | None = None
    echo_time: float | None = None
    b_value: float | None = None
    direction: Numbers | None = None
    time_point: float | None = None
    acquisition: float | None = None
    trigger: float | None = None
    time: float | None = None
    dimensions: Numbers = ()

    @property
    def when(self) -> Numbers:
        """Sorts images at one position by time, as far as the header says."""
        order = (self.time_point, self.acquisition, self.trigger, self.time)
        return tuple(-1.0 if one is None else one for one in order)


NO_TRAITS = Traits()


def file_traits(tags: Any) -> Traits:
    """Traits of a classic file, which shows one image.

    Args:
        tags: `DicomTags` with `TRAIT_TAGS`.
    """

    def get(tag: str | int, default: Any = None) -> Any:
        try:
            return tags.get(tag, default)
        except Exception:  # a value that cannot be read tells nothing apart, and is no reason to refuse the file
            return default

    siemens = str(get(_SIEMENS, "")).upper().startswith("SIEMENS")
    b_value = _number(get("DiffusionBValue"))
    direction = _numbers(get("DiffusionGradientOrientation"))
    if siemens:
        b_value = _number(get(_SIEMENS_B)) if b_value is None else b_value
        direction = direction or _numbers(get(_SIEMENS_DIRECTION))
    if b_value is None and str(get(_PHILIPS, "")).upper().startswith("PHILIPS"):
        b_value = _number(get(_PHILIPS_B))
    if b_value is None and str(get(_GE, "")).upper().startswith("GEMS"):
        b_value = _number(get(_GE_B))
        b_value = b_value if b_value is None or b_value < _GE_OFFSET else b_value - _GE_OFFSET
    return Traits(
        kind=_kind([*tags.texts("ImageType")[2:], *tags.texts("ComplexImageComponent")]),
        echo=_number(get("EchoNumbers")),
        echo_time=_number(get("EchoTime")),
        b_value=b_value,
        direction=direction,
        time_point=_number(get("TemporalPositionIdentifier")),
        acquisition=_number(get("AcquisitionNumber")),
        trigger=_number(get("TriggerTime")),
        time=_seconds(get("AcquisitionTime"), get("AcquisitionDateTime")),
    )


def frame_traits(item: Any, shared: Any, common: Traits) -> Traits:
    """Traits of one frame of an enhanced file.

    Args:
        item: functional groups of the frame, a pydicom data set.
        shared: functional groups that all frames share.
        common: traits of the file, for what the groups do not say.
    """

    def look(sequence: str, *keywords: str) -> Any:
        for holder in (item, shared):
            content = holder.get(sequence)
            if content:
                for keyword in keywords:
                    value = content[0].get(keyword)
                    if value is not None and value != "":
                        return value
        return None

    kinds: list[str] = []
    for modality in ("MR", "CT", "PET", "XAXRF", "XRay3D", "USImage"):
        kinds += [str(one) for one in _list(look(f"{modality}ImageFrameTypeSequence", "FrameType"))]
        kinds += [str(one) for one in _list(look(f"{modality}ImageFrameTypeSequence", "ComplexImageComponent"))]
    gradient = look("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    direction = _numbers(gradient[0].get("DiffusionGradientOrientation")) if gradient else None
    own = Traits(
        kind=_kind(kinds[2:]),
        echo=None,
        echo_time=_number(look("MREchoSequence", "EffectiveEchoTime")),
        b_value=_number(look("MRDiffusionSequence", "DiffusionBValue")),
        direction=direction,
        time_point=_number(look("FrameContentSequence", "TemporalPositionIndex")),
        acquisition=_number(look("FrameContentSequence", "FrameAcquisitionNumber")),
        trigger=_number(look("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime")),
        time=_seconds(None, look("FrameContentSequence", "FrameAcquisitionDateTime", "FrameReferenceDateTime")),
        dimensions=_numbers(look("FrameContentSequence", "DimensionIndexValues")) or (),
    )
    merged: list[Any] = [mine if mine is not None else of_file for mine, of_file in zip(own, common, strict=True)]
    return Traits(*merged)


def _list(value: Any) -> Iterable[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _kind(values: list[str]) -> str | None:
    return "\\".join(value.strip().upper() for value in values) or None


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bytes):  # private elements of files that do not state their type
        value = value.decode("ascii", errors="ignore").split("\\")[0].strip(" \0")
    elif isinstance(value, Iterable) and not isinstance(value, str):
        value = next(iter(value), None)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return round(number, 3) if abs(number) < 1e12 else None


def _numbers(value: Any) -> Numbers | None:
    if value is None or isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    numbers = [_number(one) for one in value]
    return tuple(one for one in numbers if one is not None) if numbers and None not in numbers else None


def _seconds(time: Any, moment: Any) -> float | None:
    """Seconds of the day, of a time (HHMMSS.ffffff) or else of a moment (YYYYMMDDHHMMSS.ffffff)."""
    text = str(time).strip() if time is not None else str(moment or "").strip()[8:]
    found = re.match(r"(\d\d)(\d\d)?(\d\d(?:\.\d+)?)?", text.replace(":", ""))
    if not found:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return round(3600 * hours + 60 * minutes + seconds, 3)
