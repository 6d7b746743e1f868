# SPDX-License-Identifier: Apache-2.0
"""What the scan says about an image, and about a file that is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from monai_mixssl.errors import UnreadableImageError

__all__ = ["Excluded", "LeftOut", "Part", "ScanImage"]


class LeftOut(UnreadableImageError):
    """One file or image cannot be used; the run goes on without it.

    Args:
        reason: a short phrase that is the same for all files of its kind, so that they can be counted.
        detail: numbers that belong to this file alone.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[LeftOut], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class Excluded:
    """A file, folder or image that is left out, by its id."""

    id: str
    reason: str
    detail: str = ""


class Part(NamedTuple):
    """One slice of a DICOM volume, one volume of a NIfTI file, or a picture.

    Attributes:
        path: the file. Private.
        number: frame of a multi-frame DICOM file, tile of a mosaic, or last index of a 4D NIfTI file, from 0.
        gain, offset: the decoded values times `gain` plus `offset` are the right ones. Other than (1, 0) where frames
            of one file differ in rescale, which the decoder does not see.
        tiles: tiles along each side of a Siemens mosaic, 0 for any other file.
    """

    path: str
    number: int = 0
    gain: float = 1.0
    offset: float = 0.0
    tiles: int = 0


@dataclass(frozen=True)
class ScanImage:
    """One image or volume that the scan found.

    Attributes:
        id: 12 hexadecimal digits.
        patient: hashed patient, "" where unknown.
        series: hashed series, or the hashed file where there is no series.
        kind: "dicom", "nifti", "itk" (NRRD, MetaImage) or "image" (PNG, JPEG).
        modality: DICOM modality ("CT", "MR", …), "" where unknown.
        shape: spatial shape as stored, first axis along a row of pixels (x), 2 or 3 sizes.
        spacing: millimetres per voxel along each of `shape`, None where the file states none.
        affine: 4×4 voxel-to-world matrix in RAS+ millimetres, for DICOM with positions; else None.
        channels: values per voxel as stored (1, or 3 for colour).
        parts: where the pixels are, in slice order. Private.
        notes: what is unusual ("uneven slice spacing", …).
        positions: centre of the first pixel of each slice, RAS+ millimetres, where `affine` does not say it: the stack
            is tilted, uneven, or lacks slices. Else empty.
    """

    id: str
    patient: str
    series: str
    kind: str
    modality: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    affine: tuple[tuple[float, ...], ...] | None
    channels: int
    parts: tuple[Part, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    positions: tuple[tuple[float, ...], ...] = ()

    @property
    def group(self) -> str:
        """What must stay on one side of a split: the patient, else the series, else the file."""
        return self.patient or self.series

    def as_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold; paths included, so for `private/` only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ScanImage:
        """Rebuilds what `as_dict` gave, also after a way through JSON."""
        fields = dict(value)
        for name in ("shape", "notes"):
            fields[name] = tuple(fields[name])
        fields["spacing"] = None if fields["spacing"] is None else tuple(fields["spacing"])
        fields["affine"] = None if fields["affine"] is None else tuple(tuple(row) for row in fields["affine"])
        fields["positions"] = tuple(tuple(place) for place in fields.get("positions", ()))
        fields["parts"] = tuple(Part(*part) for part in fields["parts"])
        return cls(**fields)
