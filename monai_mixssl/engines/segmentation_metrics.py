# SPDX-License-Identifier: Apache-2.0
"""How well a mask agrees with the true one: overlap, and distances of surfaces in millimetres."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_distance import compute_average_surface_distance

__all__ = ["case_scores", "mean_scores"]

SCORES = ("dice", "surface_distance", "hausdorff95")


def case_scores(
    predicted: torch.Tensor,
    true: torch.Tensor,
    num_classes: int,
    spacing: Sequence[float],
    *,
    distances: bool = True,
) -> list[dict[str, Any]]:
    """Scores of one image, for each class but background.

    A class that is in neither mask has no score. One that is in the true mask alone has Dice 0 and no distance; one
    that is in the predicted mask alone has neither: such false alarms are counted apart, as MONAI leaves them out of
    the mean.

    Args:
        predicted: class numbers, (x, y, z).
        true: the same shape.
        num_classes: number of classes, background included.
        spacing: millimetres along each axis; a slice of a single voxel's thickness is measured in its plane.
        distances: compute the distances, too; they take longer than the network.

    Returns:
        One dictionary a class: ``dice`` in [0, 1], ``surface_distance`` (mean over both surfaces) and ``hausdorff95``
        (95th percentile, the larger of both directions) in the unit of ``spacing``, None where not defined;
        ``true_voxels`` and ``predicted_voxels``.
    """
    thick = [axis for axis, size in enumerate(true.shape) if size > 1]
    if len(thick) == 2:
        predicted, true = (mask.squeeze(({0, 1, 2} - {*thick}).pop()) for mask in (predicted, true))
    steps = [float(spacing[axis]) for axis in thick] if len(thick) == 2 else [float(step) for step in spacing]
    scores = []
    for number in range(1, num_classes):
        ours, theirs = ((mask == number)[None, None] for mask in (predicted, true))
        entry: dict[str, Any] = dict.fromkeys(SCORES)
        entry |= {"true_voxels": int(theirs.sum()), "predicted_voxels": int(ours.sum())}
        if entry["true_voxels"]:
            entry["dice"] = float(compute_dice(ours, theirs, include_background=True))
            if distances and entry["predicted_voxels"]:
                entry |= _distances(ours, theirs, steps)
        scores.append(entry)
    return scores


def mean_scores(cases: Sequence[Sequence[Mapping[str, Any]]], classes: Sequence[str]) -> dict[str, Any]:
    """Means over images of what :py:func:`case_scores` gives.

    Args:
        cases: scores by image and class.
        classes: names, background first.

    Returns:
        ``count`` (images), ``mean_dice``, ``mean_surface_distance`` and ``mean_hausdorff95`` (mean of the classes'
        means), and ``classes``: by name ``dice``, its standard deviation ``dice_sd``, ``surface_distance``,
        ``hausdorff95``, ``images`` (that show the class), ``missed`` (of these, those where nothing was predicted: no
        distance is defined) and ``false_alarms`` (images that do not show it, where it was predicted). None where not
        defined.
    """
    by_class: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(classes[1:]):
        entries = [case[number] for case in cases]
        dice = [entry["dice"] for entry in entries if entry["dice"] is not None]
        by_class[name] = {
            "dice": _mean(dice),
            "dice_sd": _spread(dice),
            **{score: _mean([e[score] for e in entries if e[score] is not None]) for score in SCORES[1:]},
            "images": len(dice),
            "missed": sum(bool(e["true_voxels"]) and not e["predicted_voxels"] for e in entries),
            "false_alarms": sum(bool(e["predicted_voxels"]) and not e["true_voxels"] for e in entries),
        }
    means = {
        f"mean_{score}": _mean([one[score] for one in by_class.values() if one[score] is not None]) for score in SCORES
    }
    return {"count": len(cases), **means, "classes": by_class}


def _distances(ours: torch.Tensor, theirs: torch.Tensor, spacing: Sequence[float]) -> dict[str, float | None]:
    arguments: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        # MONAI warns of an argument that its own metrics give
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*", category=FutureWarning)
        found = {
            "surface_distance": float(compute_average_surface_distance(ours, theirs, symmetric=True, **arguments)),
            "hausdorff95": float(compute_hausdorff_distance(ours, theirs, percentile=95, **arguments)),
        }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    """Standard deviation of the sample."""
    return float(torch.tensor(values, dtype=torch.float64).std()) if len(values) > 1 else None
