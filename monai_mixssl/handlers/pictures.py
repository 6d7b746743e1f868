# SPDX-License-Identifier: Apache-2.0
"""Pictures of what the network makes of held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.handlers.json_log import read_log
from monai_mixssl.handlers.panels import draw_examples, draw_losses, draw_transparencies

__all__ = ["TrainingPictures"]


class TrainingPictures:
    """After each validation, write examples, predicted against true transparency, and the loss curves.

    ``examples.png``, ``transparency.png`` and ``losses.png`` always show the newest state; ``examples_epoch_NNNN.png``
    stays for each validation.

    Args:
        folder: where the pictures go.
        validator: the engine after whose runs they are drawn.
        dataset: the validation data, indexable; its samples hold the blend and, under the postfixes below, target,
            matched source and transparency, and ``id``.
        log: the JSON-lines log to draw the curves from.
        count: number of examples, spread over the data set.
        key: the blend's key.
    """

    def __init__(
        self,
        folder: str | Path,
        validator: Workflow,
        dataset: Sequence[dict[str, Any]],
        log: str | Path,
        count: int = 6,
        key: str = "image",
    ) -> None:
        self.folder = Path(folder)
        self.validator = validator
        self.dataset = dataset
        self.log = Path(log)
        self.count = count
        self.key = key
        self._true: list[torch.Tensor] = []
        self._predicted: list[torch.Tensor] = []

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, after the handlers that validate and write the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.validator.add_event_handler(Events.STARTED, self._clear)
        self.validator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        self.validator.add_event_handler(Events.COMPLETED, self._draw, engine)

    def _clear(self) -> None:
        self._true.clear()
        self._predicted.clear()

    def _collect(self, validator: Workflow) -> None:
        output = validator.state.output
        self._true.append(_mean_per_image(output[Keys.LABEL]["transparency"]))
        self._predicted.append(_mean_per_image(output[Keys.PRED]["transparency"]))

    def _draw(self, validator: Workflow, trainer: Workflow) -> None:
        epoch = trainer.state.epoch
        metrics = validator.state.metrics
        title = (
            f"epoch {epoch}: SSIM to the target {metrics['reconstruction_ssim']:.3f} (reconstruction), "
            f"{metrics['blend_ssim']:.3f} (blend)"
        )
        examples = self._examples(validator)
        draw_examples(self.folder / f"examples_epoch_{epoch:04d}.png", examples, title)
        draw_examples(self.folder / "examples.png", examples, title)
        true, predicted = (torch.cat(values).numpy() for values in (self._true, self._predicted))
        draw_transparencies(
            self.folder / "transparency.png", true, predicted, metrics["transparency_r2"], f"epoch {epoch}"
        )
        if self.log.exists():
            draw_losses(self.folder / "losses.png", read_log(self.log))

    @torch.no_grad()
    def _examples(self, validator: Any) -> list[dict[str, Any]]:
        examples = []
        network = validator.network.eval()
        for index in np.unique(np.linspace(0, len(self.dataset) - 1, self.count).astype(int)):
            sample = self.dataset[int(index)]
            blend = torch.as_tensor(sample[self.key])
            prediction = network(blend[None].to(validator.state.device))
            examples.append(
                {
                    "id": str(sample.get("id", index)),
                    "target": sample[f"{self.key}_target"],
                    "source": sample[f"{self.key}_source"],
                    "blend": blend,
                    "reconstruction": prediction["reconstruction"][0].cpu(),
                    "transparency": float(torch.as_tensor(sample[f"{self.key}_transparency"]).mean()),
                    "predicted": float(prediction["transparency"].mean()),
                }
            )
        return examples


def _mean_per_image(values: torch.Tensor) -> torch.Tensor:
    return values.detach().float().reshape(len(values), -1).mean(1).cpu()
