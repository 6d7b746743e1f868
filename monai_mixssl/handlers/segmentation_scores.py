# SPDX-License-Identifier: Apache-2.0
"""Scores of all masks that an evaluator predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.data import decollate_batch
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.engines.segmentation_metrics import case_scores, mean_scores
from monai_mixssl.handlers.own_masks import MASKS

__all__ = ["SegmentationScores"]


class SegmentationScores:
    """Compare masks with the true ones on the images' own grids, and add the means to the evaluator's metrics.

    These are ``val_mean_dice``, ``val_dice_<class>`` for each class but background, and with ``distances``
    ``val_mean_surface_distance`` and ``val_mean_hausdorff95``; not a number where nothing defines them.

    Args:
        classes: names, background first.
        distances: compute distances of surfaces, too.
        gather: take the images of all processes together, where there are several; False where one evaluates alone.

    Attributes:
        cases: by id, the scores of each class, see :py:func:`~monai_mixssl.engines.segmentation_metrics.case_scores`.
        unit: of the distances, ``"mm"``, or ``"pixels"`` where a file states no spacing.
    """

    def __init__(self, classes: Sequence[str], distances: bool = False, gather: bool = True) -> None:
        self.classes = list(classes)
        self.distances = distances
        self.gather = gather
        self.cases: dict[str, list[dict[str, Any]]] = {}
        self._units: set[str] = set()

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator, after :py:class:`~monai_mixssl.handlers.OwnMasks`, before what logs metrics."""
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._compare)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._average)

    @property
    def unit(self) -> str:
        """What the distances are measured in."""
        return " and ".join(sorted(self._units)) or "mm"

    def means(self) -> dict[str, Any]:
        """Means over all images, see :py:func:`~monai_mixssl.engines.segmentation_metrics.mean_scores`."""
        return mean_scores([self.cases[one] for one in sorted(self.cases)], self.classes)

    def _clear(self) -> None:
        self.cases.clear()
        self._units.clear()

    def _compare(self, engine: Workflow) -> None:
        labels = decollate_batch(engine.state.batch[Keys.LABEL])
        for image_id, mask, label in zip(engine.state.batch["id"], engine.state.output[MASKS], labels, strict=True):
            steps = [float(step) for step in torch.as_tensor(label.meta["spacing"]).flatten()]
            self._units.add("mm" if any(steps) else "pixels")
            self.cases[str(image_id)] = case_scores(
                mask,
                label.as_tensor()[0].cpu(),
                len(self.classes),
                steps if any(steps) else [1.0] * 3,
                distances=self.distances,
            )

    def _average(self, engine: Workflow) -> None:
        if self.gather and dist.is_available() and dist.is_initialized():
            parts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, (self.cases, self._units))
            self.cases = {one: scores for cases, _ in parts for one, scores in cases.items()}
            self._units = {unit for _, units in parts for unit in units}
        means = self.means()
        names = ("mean_dice", "mean_surface_distance", "mean_hausdorff95")[: 3 if self.distances else 1]
        values = {f"val_{name}": means[name] for name in names}
        values |= {f"val_dice_{name}": one["dice"] for name, one in means["classes"].items()}
        engine.state.metrics.update({name: math.nan if value is None else value for name, value in values.items()})
