# SPDX-License-Identifier: Apache-2.0
"""Reads single tags of a DICOM file, and says which identifying ones it fills.

pydicom finds the elements; their values are decoded here, since building its data set and converting each value takes
longer than all the rest of a scan. What is out of the ordinary is left to pydicom.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any, BinaryIO

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filereader import data_element_generator, read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

__all__ = ["IDENTIFYING", "DicomTags"]

IDENTIFYING = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson",
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "MedicalRecordLocator", "AccessionNumber", "StudyID",
    "PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime",
    "PatientAddress", "PatientTelephoneNumbers", "PatientAge", "PatientSex", "EthnicGroup", "Occupation",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
    "ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
    "RequestingPhysician", "OperatorsName",
    "PatientComments", "AdditionalPatientHistory", "ImageComments", "StudyDescription", "SeriesDescription",
    "ProtocolName", "RequestedProcedureDescription",
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip

PIXELS = 0x7FE00008  # float, double and integer pixels begin here; what follows is not needed
UNDEFINED = 0xFFFFFFFF
CHARACTERS = 0x00080005
SYNTAX = 0x00020010
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
ODD = {"1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}  # big endian, and GE's own mixture
LARGEST_HEADER = 2**26  # bytes that are unpacked of a deflated file: its pixels are not needed
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
TEXTS = {"CS", "UI", "LO", "SH", "TM", "DA", "DT", "AS", "DS", "IS"}

IDENTIFYING_TAGS = tuple(int(tag_for_keyword(keyword) or 0) for keyword in IDENTIFYING)


class DicomTags:
    """The wanted elements of one file as they are stored, and the identifying ones.

    Args:
        file: at its beginning.
        wanted: keywords, or tags as numbers (private ones have no keyword).

    Attributes:
        syntax: UID of the transfer syntax, "" where the file does not say.
        private: number of private elements at the top level.
        pixels: whether there are any.
        truncated: the file ends in the middle of an element before them.
        unpacked: bytes of the data set of a deflated file, None where they were not counted.

    Raises:
        Exception: of many kinds, where the file is damaged.
    """

    def __init__(self, file: BinaryIO, wanted: tuple[str | int, ...]) -> None:
        tags: list[BaseTag | int] = list(_tags_for(wanted))
        self.private = 0
        self.pixels = self.truncated = False
        self.syntax = ""
        self.unpacked: int | None = None
        self.elements: dict[int, Any] = {}
        if not self._read_usual(file, tags):
            file.seek(0)
            dataset = read_partial(file, self._at_pixels, force=True, specific_tags=tags)
            self.syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
            self.elements = {int(tag): dataset.get_item(tag) for tag in dataset.keys()}  # noqa: SIM118 (no values yet)

    def _read_usual(self, file: BinaryIO, tags: list[BaseTag | int]) -> bool:
        """Reads a file with preamble and transfer syntax, little endian; returns False for any other."""
        if file.read(132)[128:] != b"DICM":
            return False
        for element in data_element_generator(file, False, True, stop_when=_behind_meta):
            if element.tag == SYNTAX:
                self.syntax = _texts(element.value)[0]
        if not self.syntax or self.syntax in ODD:
            return False
        stream: Any = file
        if self.syntax == DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), LARGEST_HEADER)
            stream, self.unpacked = io.BytesIO(data), len(data) if len(data) < LARGEST_HEADER else None
        implicit = self.syntax == IMPLICIT
        for element in data_element_generator(stream, implicit, True, self._at_pixels, specific_tags=tags):
            self.elements[int(element.tag)] = element
            if isinstance(element, RawDataElement) and len(element.value or b"") < element.length < UNDEFINED:
                self.truncated = True
        if not self.pixels:
            place = stream.tell()
            self.truncated = self.truncated or place > stream.seek(0, io.SEEK_END)
        return True

    def _at_pixels(self, tag: int, vr: str | None, length: int) -> bool:
        number = int(tag)  # comparing pydicom's tags takes longer than reading them
        if number & 0x10000:
            self.private += 1
        self.pixels = number >= PIXELS
        return self.pixels

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self.elements

    def get(self, keyword: str | int, default: Any = None) -> Any:
        """Returns a value as pydicom would, a list where there are several; `default` where it is missing or empty."""
        element = self.elements.get(keyword if isinstance(keyword, int) else _tag(keyword))
        value = None if element is None else self._value(element)
        return default if value is None or value in ("", b"") else value

    def texts(self, keyword: str) -> list[str]:
        """Returns all values of a tag as texts, none where it is missing or empty."""
        value = self.get(keyword, [])
        return [str(one).strip() for one in (value if isinstance(value, list) else [value])]

    def identifying(self) -> tuple[str, ...]:
        """Returns the keywords of the identifying tags that are filled; never a value."""
        elements = self.elements
        return tuple(
            keyword
            for keyword, tag in zip(IDENTIFYING, IDENTIFYING_TAGS, strict=True)
            if tag in elements and elements[tag].value and elements[tag].value.strip(b" \0")
        )

    def _value(self, element: Any) -> Any:
        if not isinstance(element, RawDataElement):
            return element.value  # a sequence: pydicom reads those of undefined length at once
        raw, vr = element.value, element.VR or _vr(int(element.tag))
        if not raw:
            return None
        if vr in BINARY:
            count, code = len(raw) // struct.calcsize(BINARY[vr]), BINARY[vr]
            values: list[Any] = list(struct.unpack(f"{'<' if element.is_little_endian else '>'}{count}{code}", raw))
        elif vr not in TEXTS or not raw.isascii():
            return self._by_pydicom(element)
        else:
            values = _texts(raw)
            if vr in ("DS", "IS"):
                values = [float(one) if vr == "DS" else int(float(one)) for one in values if one]
        return values if len(values) > 1 else values[0] if values else None

    def _by_pydicom(self, element: Any) -> Any:
        characters = self.elements.get(CHARACTERS)
        encodings = None if characters is None else convert_encodings(_texts(characters.value))
        value = convert_raw_data_element(element, encoding=encodings).value
        return list(value) if isinstance(value, MultiValue | tuple) else value


@functools.cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


@functools.cache
def _vr(tag: int) -> str:
    """Value representation by the standard, for files that do not state it; "UN" where unknown."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


@functools.cache
def _tags_for(wanted: tuple[str | int, ...]) -> tuple[int, ...]:
    tags = {one if isinstance(one, int) else _tag(one) for one in wanted}
    return tuple(sorted({*tags, *IDENTIFYING_TAGS, CHARACTERS}))


def _behind_meta(tag: int, vr: str | None, length: int) -> bool:
    return int(tag) > 0x0002FFFF


def _texts(raw: bytes | None) -> list[str]:
    return [part.strip(" \0") for part in (raw or b"").decode("ascii", errors="replace").split("\\")]
