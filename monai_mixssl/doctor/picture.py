# SPDX-License-Identifier: Apache-2.0
"""Histograms of sizes and spacings. Needs matplotlib (extra ``[bundle]``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.utils import optional_import

from monai_mixssl.data.atomic import disk_errors, write_atomically
from monai_mixssl.data.records import ScanImage
from monai_mixssl.doctor.examination import group_name, is_volume, slices_last

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    HAS_MATPLOTLIB = True
else:
    Figure, HAS_MATPLOTLIB = optional_import("matplotlib.figure", name="Figure")

__all__ = ["HAS_MATPLOTLIB", "draw_histograms"]

BINS = 30


def draw_histograms(path: Path, images: Sequence[ScanImage]) -> None:
    """Draws size within slices, number of slices, pixel spacing and slice distance, stacked by kind.

    Args:
        path: the PNG to write; its folder is made.
        images: what the scan found.

    Raises:
        OptionalImportError: without matplotlib.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    measures: dict[str, dict[str, list[float]]] = {
        "pixels along a side of a slice": defaultdict(list),
        "slices": defaultdict(list),
        "pixel spacing, mm": defaultdict(list),
        "slice distance, mm": defaultdict(list),
    }
    size, slices, spacing, distance = measures.values()
    for image in map(slices_last, images):
        name = group_name(image)
        size[name] += [float(side) for side in image.shape[:2]]
        if image.spacing is not None:
            spacing[name] += image.spacing[:2]
        if is_volume(image):
            slices[name].append(float(image.shape[2]))
            if image.spacing is not None:
                distance[name].append(image.spacing[2])
    colours = {name: f"C{number % 10}" for number, name in enumerate(sorted({group_name(image) for image in images}))}
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axis, (title, groups) in zip(figure.subplots(2, 2).flat, measures.items(), strict=True):
        _panel(axis, title, groups, colours)
    handles = [_patch(colour) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside lower center", ncols=3, fontsize=8)
    with disk_errors("the picture"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, dpi=110, format="png"), "the picture")


def _panel(axis: Any, title: str, groups: dict[str, list[float]], colours: dict[str, str]) -> None:
    axis.set_title(title, fontsize=10)
    values = [value for group in groups.values() for value in group]
    if not values:
        axis.text(0.5, 0.5, "not stated", ha="center", va="center", transform=axis.transAxes, color="#888a85")
        axis.set_xticks([])
        axis.set_yticks([])
        return
    low, high = min(values), max(values)
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low * 0.9, low * 1.1])
    names = sorted(groups)
    axis.hist([groups[name] for name in names], edges, stacked=True, color=[colours[name] for name in names])
    axis.tick_params(labelsize=8)


def _patch(colour: str) -> Any:
    from matplotlib.patches import Patch  # here: without matplotlib nothing of this module is called

    return Patch(color=colour)
