# SPDX-License-Identifier: Apache-2.0
"""Which DICOM objects are no image to train on: told by class, modality and a few tags, each with its own reason."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Protocol

from monai_mixssl.data.records import LeftOut
from monai_mixssl.errors import ConfigError

__all__ = ["KEEPABLE", "RULE_TAGS", "check_keep", "refuse_by_rule"]

RULE_TAGS = ("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation", "SeriesDescription", "Rows", "Columns")

# what may be taken all the same, by the name that a user types
KEEPABLE = {
    "burned_in": "DICOM with burned-in annotation",
    "localizer": "DICOM localizer",
    "screenshot": "DICOM screenshot",
    "secondary_capture": "DICOM secondary capture",
}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DIRECTORY = "1.2.840.10008.1.3.10"

# by SOP class, below 1.2.840.10008.5.1.4.1.1: the longest start that fits decides
CLASSES = {
    "7": "DICOM secondary capture",
    "9": "DICOM waveform",
    "11": "DICOM presentation state",
    "4.2": "DICOM spectroscopy",
    "66": "DICOM raw data",
    "66.1": "DICOM registration",
    "66.2": "DICOM registration",
    "66.3": "DICOM registration",
    "66.4": "DICOM segmentation",
    "66.5": "DICOM segmentation",
    "66.6": "DICOM segmentation",
    "66.7": "DICOM segmentation",
    "67": "DICOM value mapping",
    "77.1.6": "DICOM whole-slide image",
    "88": "DICOM structured report",
    "88.22": "DICOM structured report",
    "88.59": "DICOM key object selection",
    "88.67": "DICOM dose report",
    "88.68": "DICOM dose report",
    "88.74": "DICOM dose report",
    "104": "DICOM encapsulated document",
    "481.2": "DICOM radiotherapy dose",
    "481.3": "DICOM radiotherapy contours",
    "481.4": "DICOM radiotherapy plan or record",
    "481.5": "DICOM radiotherapy plan or record",
    "481.6": "DICOM radiotherapy plan or record",
    "481.7": "DICOM radiotherapy plan or record",
    "481.8": "DICOM radiotherapy plan or record",
    "481.9": "DICOM radiotherapy plan or record",
}  # fmt: skip

# where the class is missing or unknown
MODALITIES = {
    "SR": "DICOM structured report",
    "KO": "DICOM key object selection",
    "PR": "DICOM presentation state",
    "SEG": "DICOM segmentation",
    "REG": "DICOM registration",
    "FID": "DICOM registration",
    "RTSTRUCT": "DICOM radiotherapy contours",
    "RTDOSE": "DICOM radiotherapy dose",
    "RTPLAN": "DICOM radiotherapy plan or record",
    "RTRECORD": "DICOM radiotherapy plan or record",
    "PLAN": "DICOM radiotherapy plan or record",
    "DOC": "DICOM encapsulated document",
    "ECG": "DICOM waveform",
    "EEG": "DICOM waveform",
    "EMG": "DICOM waveform",
    "HD": "DICOM waveform",
    "RESP": "DICOM waveform",
    "AU": "DICOM waveform",
    "RWV": "DICOM value mapping",
}  # fmt: skip

LOCALIZER_TYPES = {"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SCANOGRAM", "SURVEY"}
# MR localizers mostly do not say so in ImageType. Whole words of the description, which is not kept
LOCALIZER_WORDS = re.compile(
    r"(?<![a-z])(locali[sz]ers?|scouts?|survey|surview|topograms?|scanograms?|3[- ]?(plane|pl)[- ]?loc)(?![a-z])",
    re.IGNORECASE,
)
SCREENSHOT_TYPES = {"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN SHOT", "SCREEN CAPTURE", "CSA REPORT"}
DOSE_TYPES = {"DOSE_INFO", "DOSE INFO", "DOSE REPORT"}


class Tags(Protocol):
    """What the rules ask: `DicomTags`, or something like it."""

    def get(self, keyword: str, default: Any = None) -> Any:
        """Value of a tag, or the default."""

    def texts(self, keyword: str) -> list[str]:
        """All values of a tag."""

    def __contains__(self, keyword: str) -> bool: ...


def check_keep(keep: Collection[str]) -> frozenset[str]:
    """Returns the names as a set.

    Raises:
        ConfigError: one of them is none of `KEEPABLE`.
    """
    unknown = sorted(set(keep) - set(KEEPABLE))
    if isinstance(keep, str) or unknown:
        raise ConfigError(f"keep is {keep!r}; use a list of {', '.join(KEEPABLE)}.")
    return frozenset(keep)


def refuse_by_rule(tags: Tags, keep: Collection[str] = ()) -> None:
    """Leaves out what is no image, shows no patient, or may show a name.

    Args:
        tags: those of `RULE_TAGS`, and DirectoryRecordSequence.
        keep: which of `KEEPABLE` are taken all the same.

    Raises:
        LeftOut: with a reason that is the same for all objects of its kind.
    """
    sop_class, modality = str(tags.get("SOPClassUID", "")), str(tags.get("Modality", "")).upper()
    if sop_class == _DIRECTORY or "DirectoryRecordSequence" in tags:
        raise LeftOut("DICOM directory, no image")
    reason = _by_class(sop_class) or MODALITIES.get(modality, "")
    if reason and reason != KEEPABLE["secondary_capture"]:
        raise LeftOut(reason)
    if not tags.get("Rows") or not tags.get("Columns"):
        raise LeftOut("DICOM without pixels")
    types = {text.upper() for text in tags.texts("ImageType")}
    if types & DOSE_TYPES:
        raise LeftOut("DICOM dose report")
    applies = {
        "burned_in": str(tags.get("BurnedInAnnotation", "")).upper() == "YES",
        "screenshot": bool(types & SCREENSHOT_TYPES),
        "secondary_capture": bool(reason),
        "localizer": bool(types & LOCALIZER_TYPES)
        or any(LOCALIZER_WORDS.search(text) for text in tags.texts("SeriesDescription")),
    }
    for name, applied in applies.items():
        if applied and name not in keep:
            raise LeftOut(KEEPABLE[name])


def _by_class(sop_class: str) -> str:
    if not sop_class.startswith(_STORAGE):
        return ""
    parts = sop_class[len(_STORAGE) :].split(".")
    for length in range(len(parts), 0, -1):
        reason = CLASSES.get(".".join(parts[:length]))
        if reason:
            return reason
    return ""
