# SPDX-License-Identifier: Apache-2.0
"""The head of a made-up patient: nested, slightly deformed ellipsoids, one tissue number per point.

Sizes are in millimetres and roughly those of an adult head. The patient's axes are x = left to right, y = back to
front, z = feet to head, with the origin in the middle of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

__all__ = ["BRAIN_AXES", "Tissue", "draw_tissues"]

# semi-axes of the brain with its cortex, before the patient's own size is drawn
BRAIN_AXES = (63.0, 81.0, 90.0)
# how far the layers around the brain reach beyond it
_CSF, _SKULL, _SCALP = 4.0, 11.0, 18.0
_CORTEX = 10.0


class Tissue(IntEnum):
    """What a point of the head consists of."""

    AIR = 0
    SCALP = 1
    SKULL = 2
    CSF = 3
    GREY = 4
    WHITE = 5


def _radius(
    points: Sequence[np.ndarray], axes: Sequence[float], centre: Sequence[float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Distance from an ellipsoid's centre, in units of its own radius in that direction (1 = on its surface)."""
    squares = [((p - c) / a) ** 2 for p, a, c in zip(points, axes, centre, strict=True)]
    return np.sqrt(squares[0] + squares[1] + squares[2])


def _deform(points: Sequence[np.ndarray], rng: np.random.RandomState, amplitude: float) -> list[np.ndarray]:
    """Shifts points by a sum of a few long waves, so that no head is a perfect ellipsoid (amplitude in mm)."""
    shifted = []
    for p in points:
        shift = np.zeros_like(p)
        for _ in range(3):
            wave = rng.uniform(-1.0, 1.0, size=3) * 2.0 * np.pi / 110.0
            phase = rng.uniform(0.0, 2.0 * np.pi)
            shift += np.sin(sum(float(k) * q for k, q in zip(wave, points, strict=True)) + np.float32(phase))
        shifted.append(p + np.float32(amplitude / 3.0) * shift)
    return shifted


def draw_tissues(x: np.ndarray, y: np.ndarray, z: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draws one patient's head and says what each point of the scan consists of.

    Args:
        x: coordinates in mm, float32 of shape (X, 1, 1), left to right.
        y: coordinates in mm, (1, Y, 1), back to front.
        z: coordinates in mm, (1, 1, Z), feet to head.
        rng: where size, pose and shape are drawn from.

    Returns:
        :class:`Tissue` numbers, uint8 of shape (X, Y, Z).
    """
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    size = rng.uniform(0.9, 1.05) * rng.uniform(0.95, 1.05, size=3)
    angles = np.deg2rad(rng.uniform(-12.0, 12.0, size=3) * (1.0, 0.5, 0.5))
    shift = rng.uniform(-5.0, 5.0, size=3)

    # turn about the feet-head axis first (seen in every slice), then nod and tilt
    px, py, pz = (np.broadcast_to(p, shape) - np.float32(s) for p, s in zip((x, y, z), shift, strict=True))
    for (a, b), angle in zip(((0, 1), (1, 2), (0, 2)), angles, strict=True):
        points = [px, py, pz]
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        points[a], points[b] = cos * points[a] + sin * points[b], cos * points[b] - sin * points[a]
        px, py, pz = points
    head = _deform([px, py, pz], rng, amplitude=6.0)

    brain = [float(a * s) for a, s in zip(BRAIN_AXES, size, strict=True)]
    tissues = np.full(shape, Tissue.AIR, dtype=np.uint8)
    for tissue, margin in ((Tissue.SCALP, _SCALP), (Tissue.SKULL, _SKULL), (Tissue.CSF, _CSF), (Tissue.GREY, 0.0)):
        tissues[_radius(head, [a + margin for a in brain]) < 1.0] = tissue

    # the inner border of the cortex is folded: its radius waves around the head
    folds, phase = rng.randint(9, 15), rng.uniform(0.0, 2.0 * np.pi)
    around = np.arctan2(head[1], head[0])
    wave = np.float32(rng.uniform(0.05, 0.09)) * np.sin(folds * around + head[2] / np.float32(9.0) + np.float32(phase))
    tissues[_radius(head, [a - _CORTEX for a in brain]) < 1.0 + wave] = Tissue.WHITE

    # deep grey nuclei and lateral ventricles, in pairs
    width, length, height = rng.uniform(5.0, 9.0), rng.uniform(20.0, 32.0), rng.uniform(20.0, 35.0)
    apart, front = width + rng.uniform(3.0, 6.0), rng.uniform(-8.0, 6.0)
    for side in (-1.0, 1.0):
        nucleus = (side * (apart + 14.0), front + 6.0, -6.0)
        tissues[_radius(head, (9.0, 17.0, 22.0), nucleus) < 1.0] = Tissue.GREY
        # the horns spread towards the back
        spread = [head[0] + np.float32(side * 0.2) * head[1], head[1], head[2]]
        tissues[_radius(spread, (width, length, height), (side * apart, front, 4.0)) < 1.0] = Tissue.CSF
    return tissues
