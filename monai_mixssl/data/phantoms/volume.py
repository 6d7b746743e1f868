# SPDX-License-Identifier: Apache-2.0
"""One made-up patient's scan, in memory: the generator that the written files come from, too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_mixssl.data.phantoms.acquisition import PROTOCOLS, draw_contrast, draw_scan
from monai_mixssl.data.phantoms.anatomy import Tissue, draw_tissues
from monai_mixssl.data.phantoms.lesions import Finding, draw_findings, inside_finding, paint_finding
from monai_mixssl.errors import ConfigError

__all__ = ["Phantom", "phantom_volume", "phantom_with_mask"]

# in-plane field of view and thickness of the scanned block, in mm: independent of the number of pixels and slices
_FIELD_OF_VIEW, _BLOCK = 232.0, 104.0
# points per pixel and axis in the plane, averaged: borders between tissues come out smooth
_OVERSAMPLING = 2


class Phantom(NamedTuple):
    """One patient's scan and what is known about it.

    Attributes:
        array: whole numbers as the scanner stores them (MR: arbitrary scale, CT: Hounsfield units), int16 of shape
            (X, Y, Z): left to right, back to front, feet to head. Slices lie along Z.
        label: 1 if every slice shows a lesion, 0 if none does. It holds for the volume and for each of its slices.
        protocol: "T1", "T2" or "CT".
        affine: voxel indices to mm, right-anterior-superior (the convention of NIfTI), float64 (4, 4).
    """

    array: np.ndarray
    label: int
    protocol: str
    affine: np.ndarray

    @property
    def modality(self) -> str:
        """The DICOM modality, "MR" or "CT"."""
        return "CT" if self.protocol == "CT" else "MR"


def _affine(spacing: tuple[float, float, float], shape: tuple[int, int, int], rng: np.random.RandomState) -> np.ndarray:
    """A scan tilted by up to 8 degrees about the left-right axis, its middle near the scanner's."""
    angle = np.deg2rad(rng.uniform(-8.0, 8.0))
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = rng.uniform(-10.0, 10.0, size=3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2.0)
    # as many digits as a DICOM decimal string can hold
    return np.round(affine, 6)


def phantom_volume(index: int, *, seed: int = 0, image_size: int = 64, slices: int = 12) -> Phantom:
    """Makes the scan of one patient, the same each time for the same arguments.

    The protocols take turns (T1, T2, CT); of every twelve patients in a row, six have lesions, two of each protocol.

    Args:
        index: number of the patient, from 0 and without an upper end.
        seed: number of the set. Patients of different sets have nothing in common.
        image_size: pixels along each side of a slice, at least 16.
        slices: number of slices, at least 1.

    Raises:
        ConfigError: an argument is out of range.
    """
    return phantom_with_mask(index, seed=seed, image_size=image_size, slices=slices)[0]


def phantom_with_mask(
    index: int, *, seed: int = 0, image_size: int = 64, slices: int = 12
) -> tuple[Phantom, np.ndarray]:
    """Makes the scan that :func:`phantom_volume` makes of the same arguments, and says what is where in it.

    Returns:
        The scan, and a mask of its shape, uint8: 0 outside the brain, 1 brain (with ventricles, the fluid around it and
        harmless spots), 2 lesion (the ring with its core). A voxel is what most of it is.
    """
    if index < 0 or seed < 0:
        raise ConfigError(f"index and seed of a phantom must be 0 or more, not {index} and {seed}.")
    if image_size < 16 or slices < 1:
        raise ConfigError(f"A phantom needs image_size >= 16 and slices >= 1, not {image_size} and {slices}.")
    rng = np.random.RandomState([seed, index])
    protocol, label = PROTOCOLS[index // 2 % 3], (index + index // 6) % 2

    field, block = _FIELD_OF_VIEW * rng.uniform(0.97, 1.03), _BLOCK * rng.uniform(0.97, 1.03)
    fine = image_size * _OVERSAMPLING
    in_plane = ((np.arange(fine) + 0.5) / fine - 0.5).astype(np.float32) * np.float32(field)
    through = ((np.arange(slices) + 0.5) / slices - 0.5).astype(np.float32) * np.float32(block)
    x, y, z = in_plane[:, None, None], in_plane[None, :, None], through[None, None, :]

    contrast = draw_contrast(protocol, rng)
    tissues = draw_tissues(x, y, z, rng)
    ideal = contrast.values[tissues]
    findings = draw_findings(slices, bool(label), rng)
    for finding in findings:
        paint_finding(ideal, tissues, finding, x, y, contrast)
    ideal = ideal.reshape(image_size, _OVERSAMPLING, image_size, _OVERSAMPLING, slices).mean(axis=(1, 3))
    array = draw_scan(ideal, protocol, rng)
    spacing = (field / image_size, field / image_size, block / slices)
    phantom = Phantom(array, label, protocol, _affine(spacing, array.shape, rng))
    return phantom, _mask(tissues, findings, x, y)


def _mask(tissues: np.ndarray, findings: list[Finding], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brain and lesions, (X, Y, Z), from points that are as many times finer in the plane as voxels are averaged."""
    brain = tissues >= Tissue.CSF
    lesion = np.zeros_like(brain)
    for finding in findings:
        if finding.ring:
            for k in finding.slices:
                lesion[..., k] |= inside_finding(finding, x, y) & brain[..., k]

    def mostly(points: np.ndarray) -> np.ndarray:
        size = points.shape[0] // _OVERSAMPLING
        voxels = points.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING, -1)
        return np.asarray(voxels.mean(axis=(1, 3)) >= 0.5)

    return np.where(mostly(lesion), 2, mostly(brain)).astype(np.uint8)
