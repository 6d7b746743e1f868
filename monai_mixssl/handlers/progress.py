# SPDX-License-Identifier: Apache-2.0
"""The progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from ignite.engine import Events
from monai.engines.workflow import Workflow
from tqdm import tqdm

__all__ = ["TrainingProgress"]

_SMOOTHING = 0.95
_OBJECTIVES = {
    "reconstruction": "reconstruction_loss",
    "transparency": "transparency_loss",
    "agreement": "agreement_loss",
}
_VALIDATION = {"validation": "val_loss"}


class TrainingProgress:
    """One bar over the whole run: losses, images per second and time left; the last validation and probe beside them.

    (Ignite's ``ProgressBar`` counts iterations of one epoch, so it can tell neither images per second nor the time left
    of the run.)

    Args:
        batch_size: images in a step, over all processes.
        validator: the engine whose metrics are shown after each of its runs.
        disable: show nothing, as on all ranks but the first.
        losses: what to show of the trainer's output, smoothed: its keys, each under the name to show it by. None: the
            objectives of pretraining that are trained.
        metrics: what to show of the validator's metrics, likewise; one that a run has not computed is left out. None:
            its loss.
    """

    def __init__(
        self,
        batch_size: int,
        validator: Workflow | None = None,
        disable: bool = False,
        losses: Mapping[str, str] | None = None,
        metrics: Mapping[str, str] | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.validator = validator
        self.disable = disable
        self.losses = None if losses is None else dict(losses)
        self.metrics = dict(_VALIDATION if metrics is None else metrics)
        self._bar: tqdm | None = None
        self._values: dict[str, float] = {}

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._validated)

    def _open(self, engine: Workflow) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=engine.state.max_epochs * engine.state.epoch_length * self.batch_size,
                initial=engine.state.iteration * self.batch_size,
                unit="image",
                dynamic_ncols=True,
                disable=self.disable,
                file=sys.stderr,
            )
        self._bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)

    def _advance(self, engine: Workflow) -> None:
        assert self._bar is not None  # opened with the epoch
        output = engine.state.output
        objectives = {name: key for name, key in _OBJECTIVES.items() if key in output}
        for name, key in (objectives if self.losses is None else self.losses).items():
            value = float(output[key])
            self._values[name] = _SMOOTHING * self._values.get(name, value) + (1 - _SMOOTHING) * value
        values = {**self._values, **getattr(engine.state, "probe", {})}  # what OnlineProbe leaves there
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in values.items()}, refresh=False)
        self._bar.update(self.batch_size)

    def _validated(self, validator: Workflow) -> None:
        found = validator.state.metrics
        self._values.update({name: float(found[key]) for name, key in self.metrics.items() if key in found})

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _close_and_raise(self, engine: Workflow, error: BaseException) -> None:
        self._close()  # so that the error's sentence begins a line of its own
        raise error
