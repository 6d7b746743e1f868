# SPDX-License-Identifier: Apache-2.0
"""Slices with the outlines of true and predicted masks. Needs matplotlib (extra ``[bundle]``)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ignite.engine import Events
from monai.data import MetaTensor, decollate_batch
from monai.engines.workflow import Workflow
from monai.utils import convert_to_numpy, optional_import
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.network_grid import NetworkGrid
from monai_mixssl.data.orientation import to_ras, upright
from monai_mixssl.handlers.own_masks import MASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
else:
    Figure, _ = optional_import("matplotlib.figure", name="Figure")
    Line2D, _ = optional_import("matplotlib.lines", name="Line2D")

__all__ = ["Example", "SegmentationPictures", "draw_outlines", "shown_slices"]

_COLOURS = ("#4e9a06", "#ce5c00", "#3465a4", "#ad7fa8", "#c4a000", "#cc0000", "#06989a", "#8f5902")
_SLICES = 3
_MOST_IN_LEGEND = 12


class Example(NamedTuple):
    """One image as it is drawn, each part (slices, rows, columns), upright.

    Attributes:
        id: its id.
        image: intensities in [0, 1].
        true: class numbers, None where they are not known.
        predicted: class numbers.
        aspect: height of a pixel over its width.
    """

    id: str
    image: np.ndarray
    true: np.ndarray | None
    predicted: np.ndarray
    aspect: float


class SegmentationPictures:
    """After an evaluator's run, draw some of its images with the outlines of true (solid) and predicted (dashed) masks.

    Args:
        folder: where ``<name>.png`` goes, made where it does not exist.
        grid: the transform that has brought the images to the network's grid.
        classes: names, background first.
        ids: of the images to draw.
        name: of the file.
        keep: keep ``<name>_epoch_NNNN.png`` of each run, too.
    """

    def __init__(
        self,
        folder: str | Path,
        grid: NetworkGrid,
        classes: Sequence[str],
        ids: Collection[str],
        name: str = "masks",
        keep: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.grid = grid
        self.classes = list(classes)
        self.ids = set(ids)
        self.name = name
        self.keep = keep
        self._examples: dict[str, Example] = {}

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator, after :py:class:`~monai_mixssl.handlers.OwnMasks`."""
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _clear(self) -> None:
        self._examples.clear()

    def _collect(self, engine: Workflow) -> None:
        ids = [str(one) for one in engine.state.batch["id"]]
        if not self.ids.intersection(ids):
            return
        images = decollate_batch(engine.state.batch[Keys.IMAGE])
        labels = engine.state.batch.get(Keys.LABEL)
        for number, image_id in enumerate(ids):
            if image_id in self.ids:
                label = None if labels is None else labels[number]
                mask = engine.state.output[MASKS][number]
                self._examples[image_id] = self._example(image_id, images[number], label, mask)

    def _example(self, image_id: str, image: MetaTensor, label: Any, mask: Any) -> Example:
        own = self.grid.back(image.as_tensor(), image).cpu().numpy()
        affine = np.asarray(convert_to_numpy(image.meta["original_affine"]), dtype=float)
        axis = int(image.meta["slice_axis"])

        def slices(array: Any) -> tuple[np.ndarray, tuple[float, float]]:
            values = np.asarray(convert_to_numpy(array))[:1]
            if bool(image.meta["picture"]):  # stored as it is shown: (x, y, slices)
                return values[0].transpose(2, 1, 0), (float(affine[1, 1]), float(affine[0, 0]))
            turned, matrix, order = to_ras(values, affine)
            steps = np.linalg.norm(matrix[:3, :3], axis=0)
            across, down = (float(steps[other]) for other in range(3) if other != order[axis])
            return upright(turned, order[axis])[:, 0], (down, across)

        picture, (down, across) = slices(own)
        true = None if label is None else slices(label)[0]
        return Example(image_id, picture, true, slices(mask[None])[0], down / across)

    def _draw(self, engine: Workflow) -> None:
        if not self._examples:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        dice = engine.state.metrics.get("val_mean_dice", math.nan)
        title = (
            self.name.replace("_", " ") if math.isnan(dice) else f"{self.name.replace('_', ' ')}: mean Dice {dice:.3f}"
        )
        names = [f"{self.name}.png"]
        if self.keep:
            title = f"epoch {engine.state.epoch}, {title}"
            names.append(f"{self.name}_epoch_{engine.state.epoch:04d}.png")
        examples = [self._examples[one] for one in sorted(self._examples)]
        for name in names:
            draw_outlines(self.folder / name, examples, self.classes, title)


def shown_slices(example: Example, most: int = _SLICES) -> list[int]:
    """The slices to draw: evenly over those on which either mask shows something, or over all where none does."""
    marked = example.predicted > 0 if example.true is None else (example.predicted > 0) | (example.true > 0)
    found = np.flatnonzero(marked.any(axis=(1, 2)))
    candidates = found if found.size else np.arange(len(example.image))
    places = (np.arange(most) + 0.5) / most * len(candidates)
    return sorted({int(candidates[int(place)]) for place in places})


def draw_outlines(path: Path, examples: Sequence[Example], classes: Sequence[str], title: str) -> None:
    """One row an image: some of its slices, true outlines solid, predicted ones dashed, a colour a class.

    Args:
        path: the PNG to write.
        examples: at least one.
        classes: names, background first.
        title: above the page.
    """
    rows = [(example, shown_slices(example)) for example in examples]
    columns = max(len(numbers) for _, numbers in rows)
    figure = Figure(figsize=(2.6 * columns + 0.4, 2.6 * len(rows) + 1.0), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    figure.suptitle(title, fontsize=11)
    for line, (example, numbers) in zip(axes, rows, strict=True):
        line[0].set_ylabel(example.id, fontsize=7)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        for axis, number in zip(line, numbers, strict=False):  # pictures have one slice, volumes beside them more
            axis.imshow(example.image[number], cmap="gray", vmin=0.0, vmax=1.0, aspect=example.aspect)
            if len(example.image) > 1:
                axis.set_title(f"slice {number}", fontsize=8)
            for mask, style in ((example.true, "solid"), (example.predicted, "dashed")):
                if mask is not None:
                    _outline(axis, mask[number], style)
    figure.legend(handles=_legend(classes, any(e.true is not None for e in examples)), loc="outside lower center",
                  ncols=4, frameon=False, fontsize=8)  # fmt: skip
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=130), "pictures")


def _outline(axis: Any, mask: np.ndarray, style: str) -> None:
    if min(mask.shape) < 2:
        return  # no outline can be drawn of a single row of pixels
    for number in np.unique(mask[mask > 0]):
        inside = mask == number
        if inside.all():
            continue
        axis.contour(
            inside.astype(float), levels=[0.5], colors=[_colour(int(number))], linestyles=style, linewidths=1.2
        )


def _colour(number: int) -> str:
    return _COLOURS[(number - 1) % len(_COLOURS)]


def _legend(classes: Sequence[str], known: bool) -> list[Any]:
    names = [*classes[1 : _MOST_IN_LEGEND + 1]]
    handles = [Line2D([], [], color=_colour(number), label=name) for number, name in enumerate(names, start=1)]
    if len(classes) - 1 > len(names):
        handles.append(Line2D([], [], color="none", label=f"and {len(classes) - 1 - len(names)} more"))
    grey = "#555753"
    if known:
        handles.append(Line2D([], [], color=grey, linestyle="solid", label="true"))
    return [*handles, Line2D([], [], color=grey, linestyle="dashed", label="predicted")]
