# SPDX-License-Identifier: Apache-2.0
"""Focal findings in the brain: lesions (rings) and harmless look-alikes (solid and two-toned spots).

A lesion differs from its look-alikes in shape alone. Every slice holds one to three findings, drawn in the same way in
patients with and without lesions: the same sizes, places and contrasts, brighter or darker than the brain. In a slice
with a lesion, one of them is a ring with a core of the opposite sign. So neither the number of findings, nor their
brightness, nor the slice's position gives the label away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Finding", "draw_findings", "paint_finding"]

# how many neighbouring slices one set of findings spans
_SLAB = 4
# the ring's core, as a share of the outer radius
_CORE = 0.55


class Finding(NamedTuple):
    """One focal finding: an ellipse that spans some neighbouring slices.

    Attributes:
        kind: "ring" (the lesion), "solid" or "halves" (look-alikes).
        slices: the slices that it spans.
        centre: x and y in mm.
        axes: the ellipse's semi-axes in mm.
        angle: of its first axis, in radians.
        contrast: signed difference from the brain, as a share of the acquisition's contrast, in ±[0.6, 1].
    """

    kind: str
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
        ring = 0 if lesion else -1
        for number in range(rng.randint(1, 4)):
            radius, stretch = rng.uniform(14.0, 21.0), rng.uniform(0.85, 1.15)
            look_alike = ("solid", "halves")[rng.randint(2)]
            contrast = rng.uniform(0.6, 1.0) * (1.0, -1.0)[rng.randint(2)]
            angle = rng.uniform(0.0, 2.0 * np.pi)
            for _ in range(20):  # findings may not overlap; one that finds no place is left out
                away, direction = np.sqrt(rng.uniform(0.02, 1.0)), rng.uniform(0.0, 2.0 * np.pi)
                centre = (float(28.0 * away * np.cos(direction)), float(42.0 * away * np.sin(direction)))
                if all(
                    np.hypot(centre[0] - f.centre[0], centre[1] - f.centre[1]) > radius + max(f.axes) + 4.0
                    for f in findings
                    if f.slices == span
                ):
                    kind = "ring" if number == ring else look_alike
                    findings.append(Finding(kind, span, centre, (radius * stretch, radius / stretch), angle, contrast))
                    break
    return findings


def paint_finding(
    image: np.ndarray, finding: Finding, x: np.ndarray, y: np.ndarray, brain: float, contrast: float
) -> None:
    """Paints a finding into the image, in place.

    Args:
        image: intensities, (X, Y, Z).
        finding: what to paint.
        x: coordinates in mm, (X, 1, 1).
        y: coordinates in mm, (1, Y, 1).
        brain: the brain's mean intensity.
        contrast: intensity difference that a finding of contrast 1 has.
    """
    cos, sin = np.cos(finding.angle), np.sin(finding.angle)
    dx, dy = x[..., 0] - finding.centre[0], y[..., 0] - finding.centre[1]
    along, across = (cos * dx + sin * dy) / finding.axes[0], (cos * dy - sin * dx) / finding.axes[1]
    radius = np.sqrt(along**2 + across**2)
    if finding.kind == "ring":
        opposite = radius < _CORE
    elif finding.kind == "halves":
        opposite = along < 0.35
    else:
        opposite = np.zeros(radius.shape, dtype=bool)
    amount = finding.contrast * contrast
    values = np.where(opposite, brain - 0.6 * amount, brain + amount)
    inside = radius < 1.0
    for k in finding.slices:
        image[..., k][inside] = values[inside]
