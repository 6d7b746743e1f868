# SPDX-License-Identifier: Apache-2.0
"""The picture of a comparison. Needs matplotlib (extra ``[bundle]``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.utils import optional_import

from monai_mixssl.compare.plan import ARMS
from monai_mixssl.compare.report import HEADINGS, Comparison, Row
from monai_mixssl.data.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    HAS_MATPLOTLIB = True
else:
    Figure, HAS_MATPLOTLIB = optional_import("matplotlib.figure", name="Figure")

__all__ = ["HAS_MATPLOTLIB", "draw_comparison"]

_COLOURS = {"scratch": "#888a85", "pretrained": "#3465a4"}
_SHIFT = {"scratch": -0.06, "pretrained": 0.06}  # side by side, or the bars of one hide those of the other


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Left: mean and standard deviation of both arms against the labels. Right: differences with their intervals.

    A row of the picture for each protocol; small dots are single seeds.

    Args:
        path: the PNG to write.
        comparison: at least one row.

    Raises:
        OptionalImportError: without matplotlib.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    protocols = list(dict.fromkeys(row.protocol for row in comparison.rows))
    figure = Figure(figsize=(8.4, 3.2 * len(protocols) + 0.4), layout="constrained")
    grid = figure.subplots(len(protocols), 2, squeeze=False)
    for axes, protocol in zip(grid, protocols, strict=True):
        rows = [row for row in comparison.rows if row.protocol == protocol]
        baseline = HEADINGS[protocol][1]
        _scores(axes[0], rows, comparison.plan.metric.replace("_", " "), {"scratch": baseline})
        _differences(axes[1], rows)
        axes[0].set_title(f"{protocol}: mean and standard deviation over seeds", fontsize=10)
        axes[1].set_title(f"pretrained minus {baseline}, 95 % interval", fontsize=10)
    write_atomically(path, lambda file: figure.savefig(file, dpi=130, format="png"), "comparison.png")


def _scores(axis: Axes, rows: list[Row], metric: str, names: Mapping[str, str]) -> None:
    for arm in ARMS:
        shown = [(place, row) for place, row in enumerate(rows) if row.scores[arm]]
        for place, row in shown:
            values = list(row.scores[arm].values())
            axis.scatter([place + _SHIFT[arm]] * len(values), values, s=8, color=_COLOURS[arm], alpha=0.4, linewidths=0)
        axis.errorbar(
            [place + _SHIFT[arm] for place, _ in shown],
            [row.spreads[arm].mean or 0.0 for _, row in shown],
            yerr=[row.spreads[arm].deviation or 0.0 for _, row in shown],
            color=_COLOURS[arm],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
            label=names.get(arm, arm),
        )
    axis.set_ylabel(metric)
    axis.legend(frameon=False, fontsize=8)
    _label(axis, rows)


def _differences(axis: Axes, rows: list[Row]) -> None:
    axis.axhline(0.0, color=_COLOURS["scratch"], linewidth=1)
    for place, row in enumerate(rows):
        difference = row.difference
        if difference.mean is None:
            continue
        points = [100 * value for value in difference.values]
        axis.scatter([place + 0.1] * len(points), points, s=8, color=_COLOURS["pretrained"], alpha=0.4, linewidths=0)
        ends: Any = None
        if difference.low is not None and difference.high is not None:
            ends = [[100 * (difference.mean - difference.low)], [100 * (difference.high - difference.mean)]]
        axis.errorbar([place], [100 * difference.mean], yerr=ends, color=_COLOURS["pretrained"], marker="o", capsize=4)
    axis.set_ylabel("points")
    _label(axis, rows)


def _label(axis: Axes, rows: list[Row]) -> None:
    """Amounts of labels as they were asked for, with the number of images that this comes to."""
    texts = [
        row.amount.name if row.labelled is None else f"{row.amount.name}\n({row.labelled:.0f} images)" for row in rows
    ]
    axis.set_xticks(range(len(rows)), texts)
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_xlabel("labels")
    axis.grid(alpha=0.3, axis="y")
