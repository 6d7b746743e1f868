# SPDX-License-Identifier: Apache-2.0
"""What a classifier says about each image."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.engines.class_metrics import class_probabilities

__all__ = ["PredictionTable"]


class PredictionTable:
    """Collect ids, slice numbers, labels and probabilities of all that an evaluator sees.

    Args:
        multi_label: several labels may hold for one image.

    Attributes:
        ids: one an image or slice.
        slices: the slice's number in its volume, None where the image is not a slice.
        losses: sum of the batches' losses times their sizes, None where no loss is computed.
    """

    def __init__(self, multi_label: bool = False) -> None:
        self.multi_label = multi_label
        self.ids: list[str] = []
        self.slices: list[int | None] = []
        self.losses: float | None = None
        self._labels: list[torch.Tensor] = []
        self._probabilities: list[torch.Tensor] = []

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator that does not take its batches apart, and whose predictions are logits (B, K)."""
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)

    @property
    def probabilities(self) -> torch.Tensor:
        """float32 (N, K) on the CPU."""
        return torch.cat(self._probabilities) if self._probabilities else torch.zeros(0, 0)

    @property
    def labels(self) -> torch.Tensor | None:
        """(N,) class numbers, (N, K) of 0 and 1, or None where the batches hold none."""
        return torch.cat(self._labels) if self._labels else None

    @property
    def loss(self) -> float | None:
        """Mean loss over all images; None where there is none."""
        return None if self.losses is None or not self.ids else self.losses / len(self.ids)

    def _clear(self) -> None:
        self.losses = None
        for values in (self.ids, self.slices, self._labels, self._probabilities):
            values.clear()

    def _collect(self, engine: Workflow) -> None:
        batch, output = engine.state.batch, engine.state.output
        self.ids += [str(name) for name in batch["id"]]
        self.slices += _slice_numbers(batch[Keys.IMAGE], len(batch["id"]))
        self._probabilities.append(class_probabilities(output[Keys.PRED], self.multi_label).cpu())
        if output.get(Keys.LABEL) is not None:
            self._labels.append(output[Keys.LABEL].cpu())
        if Keys.LOSS in output:
            self.losses = (self.losses or 0.0) + float(output[Keys.LOSS]) * len(batch["id"])


def _slice_numbers(images: Any, count: int) -> list[int | None]:
    meta = images.meta if isinstance(images, MetaTensor) else {}
    if "slice" not in meta:
        return [None] * count
    numbers = torch.as_tensor(meta["slice"]).flatten().tolist()
    return [int(number) for number in numbers]
