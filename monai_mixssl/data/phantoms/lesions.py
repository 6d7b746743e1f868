# SPDX-License-Identifier: Apache-2.0
"""Focal findings in the brain: lesions (rings) and harmless look-alikes (solid spots).

A lesion differs from its look-alikes in shape alone. Every slice holds one or two findings, drawn in the same way in
patients with and without lesions: the same sizes, places and contrasts, brighter or darker than the brain. In a patient
with lesions, one finding of each slice is a ring with a core of the opposite sign. So neither the number of findings,
nor their brightness, nor the slice's position gives the label away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_mixssl.data.phantoms.acquisition import Contrast
from monai_mixssl.data.phantoms.anatomy import Tissue

__all__ = ["Finding", "draw_findings", "inside_finding", "paint_finding"]

# how many neighbouring slices one set of findings spans
_SLAB = 4
# the ring's core, as a share of the outer radius
_CORE = 0.55


class Finding(NamedTuple):
    """One focal finding: an ellipse that spans some neighbouring slices.

    Attributes:
        ring: a lesion; else a solid spot.
        slices: the slices that it spans.
        centre: x and y in mm.
        axes: the ellipse's semi-axes in mm.
        angle: of its first axis, in radians.
        contrast: signed difference from the brain, as a share of the acquisition's contrast, in ±[0.6, 1].
    """

    ring: bool
    slices: range
    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float
    contrast: float


def draw_findings(slices: int, lesion: bool, rng: np.random.RandomState) -> list[Finding]:
    """Draws a patient's findings.

    Args:
        slices: number of slices of the scan.
        lesion: True: each slice shows exactly one ring; False: none does.
        rng: where the findings are drawn from.
    """
    findings: list[Finding] = []
    for first in range(-rng.randint(_SLAB), slices, _SLAB):
        span = range(max(first, 0), min(first + _SLAB, slices))
        for number in range(rng.randint(1, 3)):
            radius, stretch = rng.uniform(15.0, 21.0), rng.uniform(0.85, 1.15)
            contrast = rng.uniform(0.6, 1.0) * (1.0, -1.0)[rng.randint(2)]
            axes, angle = (radius * stretch, radius / stretch), rng.uniform(0.0, 2.0 * np.pi)
            for _ in range(20):  # findings may not overlap; one that finds no place is left out
                away, direction = np.sqrt(rng.uniform(0.0, 1.0)), rng.uniform(0.0, 2.0 * np.pi)
                centre = (float(22.0 * away * np.cos(direction)), float(38.0 * away * np.sin(direction)))
                others = [f for f in findings if f.slices == span]
                if all(np.hypot(*np.subtract(centre, f.centre)) > max(axes) + max(f.axes) for f in others):
                    findings.append(Finding(lesion and number == 0, span, centre, axes, angle, contrast))
                    break
    return findings


def paint_finding(
    image: np.ndarray, tissues: np.ndarray, finding: Finding, x: np.ndarray, y: np.ndarray, look: Contrast
) -> None:
    """Paints a finding into the image, in place, where there is no bone.

    Args:
        image: intensities, (X, Y, Z).
        tissues: :class:`Tissue` numbers, (X, Y, Z).
        finding: what to paint.
        x: coordinates in mm, (X, 1, 1).
        y: coordinates in mm, (1, Y, 1).
        look: the brain's intensity and that of findings.
    """
    radius = _radius(finding, x, y)
    amount = finding.contrast * look.finding
    core = finding.ring & (radius < _CORE)
    values = np.where(core, look.brain - 0.6 * amount, look.brain + amount)
    for k in finding.slices:
        inside = (radius < 1.0) & (tissues[..., k] >= Tissue.CSF)
        image[..., k][inside] = values[inside]


def inside_finding(finding: Finding, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of a slice a finding covers, its core included.

    Args:
        finding: the finding.
        x: coordinates in mm, (X, 1, 1).
        y: coordinates in mm, (1, Y, 1).

    Returns:
        bool (X, Y).
    """
    return np.asarray(_radius(finding, x, y) < 1.0)


def _radius(finding: Finding, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from the centre in units of the ellipse's own radius in that direction, (X, Y)."""
    cos, sin = np.cos(finding.angle), np.sin(finding.angle)
    dx, dy = x[..., 0] - finding.centre[0], y[..., 0] - finding.centre[1]
    along, across = (cos * dx + sin * dy) / finding.axes[0], (cos * dy - sin * dx) / finding.axes[1]
    return np.asarray(np.sqrt(along**2 + across**2))
