# SPDX-License-Identifier: Apache-2.0
"""Drawing: what the picture handler puts on its pages. Needs matplotlib (extra ``[bundle]``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.utils import optional_import

from monai_mixssl.data.orientation import upright

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure, _ = optional_import("matplotlib.figure", name="Figure")

__all__ = ["draw_examples", "draw_losses", "draw_transparencies"]

_BLUE, _ORANGE, _GREY = "#3465a4", "#ce5c00", "#888a85"


def draw_examples(path: Path, examples: Sequence[dict[str, Any]], title: str) -> None:
    """One row an example: target, source, blend, reconstruction, absolute error.

    Args:
        path: the PNG to write.
        examples: each with ``target``, ``source``, ``blend``, ``reconstruction`` ((C, \\*spatial), intensities in
            [0, 1]; of volumes the middle slice is shown, of several channels the first), ``id``, ``transparency`` and
            ``predicted`` (mean values in [0, 1]).
        title: above the page.
    """
    columns = ("target", "source", "blend", "reconstruction", "error")
    figure = Figure(figsize=(2.0 * len(columns), 2.1 * len(examples) + 0.7), layout="constrained")
    axes = figure.subplots(len(examples), len(columns), squeeze=False)
    figure.suptitle(title, fontsize=11)
    shown = None
    for row, example in zip(axes, examples, strict=True):
        error = (torch.as_tensor(example["reconstruction"]) - torch.as_tensor(example["target"])).abs()
        for axis, name in zip(row, columns, strict=True):
            picture = _slice(error if name == "error" else example[name])
            if name == "error":
                shown = axis.imshow(picture, cmap="magma", vmin=0.0, vmax=0.5)
            else:
                axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(example["id"], fontsize=7)
        row[2].set_xlabel(f"t {example['transparency']:.2f}, predicted {example['predicted']:.2f}", fontsize=8)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=10)
    if shown is not None:
        figure.colorbar(shown, ax=axes[:, -1], shrink=0.8, label="absolute error")
    _save(figure, path)


def draw_transparencies(path: Path, true: np.ndarray, predicted: np.ndarray, r2: float, title: str) -> None:
    """Predicted against true transparency, one dot an image (of a map: its mean); (N,) each, in [0, 1]."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axis.scatter(true, predicted, s=10, color=_BLUE, alpha=0.6, linewidths=0)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="true transparency", ylabel="predicted transparency")
    axis.set_aspect("equal")
    axis.set_title(f"{title}: R² {r2:.2f}, {len(true)} held-out images", fontsize=10)
    _save(figure, path)


def draw_losses(path: Path, log: Sequence[dict[str, Any]]) -> None:
    """The objectives over the iterations, training as a line and validation as dots, from the JSON-lines log.

    The agreement of two views has a panel where it is trained.
    """
    names = ["reconstruction_loss", "transparency_loss"]
    if any(line.get("agreement_loss") is not None for line in log):
        names.append("agreement_loss")
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    axes = figure.subplots(1, len(names))
    for axis, name in zip(axes, names, strict=True):
        for event, key, style in (
            ("train", name, {"color": _BLUE, "linewidth": 1, "label": "training"}),
            ("validation", f"val_{name}", {"color": _ORANGE, "marker": "o", "markersize": 4, "label": "validation"}),
        ):
            lines = [line for line in log if line["event"] == event and line.get(key) is not None]
            axis.plot([line["iteration"] for line in lines], [line[key] for line in lines], **style)
        axis.set(xlabel="iteration", title=name.replace("_", " "), yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False)
    _save(figure, path)


def _slice(image: Any) -> np.ndarray:
    """The first channel; of a volume the middle axial slice, upright as a viewer shows it."""
    array = torch.as_tensor(image)[:1].float().cpu().numpy()
    if array.ndim == 4:
        array = upright(array, 2)[array.shape[-1] // 2]
    picture: np.ndarray = array[0]
    return picture


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=130)
    os.replace(temporary, path)
