# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a classifier achieves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw_confusion"]

_MOST_NAMES = 30  # more classes than this leave no room for their names


def draw_confusion(path: Path, matrix: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Draw a confusion matrix, colours by share of the true class, numbers as counts.

    Args:
        path: the PNG file.
        matrix: (K, K), rows true, columns predicted; or (K, 2, 2), one for each label that may hold by itself.
        classes: K names.
        title: above the picture.
    """
    from matplotlib.figure import Figure

    if matrix.ndim == 2:
        side = min(12.0, 2.5 + 0.5 * len(classes))
        figure = Figure(figsize=(side, side), layout="constrained")
        _draw(figure.subplots(), matrix, classes)
        figure.suptitle(title, fontsize=10)
    else:
        columns = min(4, len(classes))
        rows = -(-len(classes) // columns)
        figure = Figure(figsize=(2.6 * columns, 2.8 * rows + 0.4), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis in axes[len(classes) :]:
            axis.set_axis_off()
        for axis, one, name in zip(axes, matrix, classes, strict=False):  # the grid may have places left over
            _draw(axis, one, ["no", "yes"])
            axis.set_title(name, fontsize=9)
        figure.suptitle(title, fontsize=10)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=130)
    os.replace(temporary, path)


def _draw(axis: Any, matrix: np.ndarray, names: Sequence[str]) -> None:
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axis.set(xlabel="predicted", ylabel="true")
    if len(names) > _MOST_NAMES:
        return
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    for row in range(len(names)):
        for column in range(len(names)):
            colour = "white" if share[row, column] > 0.6 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
