# SPDX-License-Identifier: Apache-2.0
"""The log that programs read: one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.workflow import Workflow

__all__ = ["JsonLinesLog", "read_log", "scalars"]


class JsonLinesLog:
    """Append the losses of training and the metrics of validation to a file of JSON lines.

    Each line holds ``event`` (``"train"`` or ``"validation"``), ``epoch``, ``iteration``, ``seconds`` (wall-clock since
    this process began to train) and the scalars. When a run starts, the lines beyond its iteration are cut off, since
    they are about to be written again: for a resumed run those beyond its checkpoint, for a new one all.

    Args:
        path: the file.
        validator: the engine whose metrics are logged after each of its runs.
        interval: log training every this many iterations, and at the first and the last.
    """

    def __init__(self, path: str | Path, validator: Workflow | None = None, interval: int = 10) -> None:
        self.path = Path(path)
        self.validator = validator
        self.interval = interval
        self._began: float | None = None
        self._earlier_bytes = 0

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, before the handler that saves checkpoints."""
        # what is written from now on, before the first epoch, too, is of the run that starts
        self._earlier_bytes = self.path.stat().st_size if self.path.exists() else 0
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED(event_filter=self._is_logged), self._log_training)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._log_validation, engine)

    def _start(self, engine: Workflow) -> None:
        # not on STARTED: there the checkpoint, attached after this handler, has not been restored yet
        if self._began is None:
            self._began = time.monotonic()
            if self.path.exists():
                self._truncate(engine.state.iteration)

    def _truncate(self, iteration: int) -> None:
        content = self.path.read_bytes()
        earlier, own = (
            _parsed(part.decode("utf-8")) for part in (content[: self._earlier_bytes], content[self._earlier_bytes :])
        )
        # of iteration 0 is what was measured before training, which a new run measures anew
        kept = [line for line in earlier if iteration and line["iteration"] <= iteration] + own
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, self.path)

    def _is_logged(self, engine: Workflow, iteration: int) -> bool:
        # a short run would else have no line of training, and no curve
        last = (engine.state.epoch_length or 0) * (engine.state.max_epochs or 0)
        return iteration % self.interval == 0 or iteration in (1, last)

    def _log_training(self, engine: SupervisedTrainer) -> None:
        rate = engine.optimizer.param_groups[0]["lr"]
        self._write("train", engine, {**scalars(engine.state.output), "learning_rate": rate})

    def _log_validation(self, validator: Workflow, trainer: Workflow) -> None:
        last = read_log(self.path)[-1:] if self.path.exists() else []
        if last and last[0]["event"] == "validation" and last[0]["iteration"] == trainer.state.iteration:
            return  # a run that was complete, or all but, is resumed: the same numbers again
        self._write("validation", trainer, {name: float(value) for name, value in validator.state.metrics.items()})

    def _write(self, event: str, trainer: Workflow, values: dict[str, float]) -> None:
        line = {
            "event": event,
            "epoch": trainer.state.epoch,
            "iteration": trainer.state.iteration,
            "seconds": round(time.monotonic() - (self._began or time.monotonic()), 3),
            # JSON knows no NaN: a metric that is undefined, such as R² over one image, is null
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def scalars(output: dict[str, Any]) -> dict[str, float]:
    """The losses in an engine's output, by name: an ``output_transform`` for handlers that log."""
    return {name: float(v) for name, v in output.items() if isinstance(v, torch.Tensor) and v.ndim == 0}


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out."""
    return _parsed(Path(path).read_text(encoding="utf-8"))


def _parsed(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
