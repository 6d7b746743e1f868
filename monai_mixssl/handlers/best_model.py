# SPDX-License-Identifier: Apache-2.0
"""The weights of the best validation so far."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_mixssl.data.atomic import TEMPORARY, write_atomically
from monai_mixssl.errors import ConfigError

__all__ = ["BestModel"]


class BestModel:
    """After each validation, keep the weights if its metric is the best so far; of equal ones the earlier stays.

    The weights are part of :py:meth:`state_dict`, so that a checkpoint that holds this object holds score and weights
    of the same moment, wherever a run is killed. A copy for the user is written to ``path``, whole or not at all.

    Args:
        network: the network that is trained; may be wrapped for several processes.
        validator: the engine whose metric decides.
        metric: name of the metric in the validator's ``state.metrics``.
        path: file for the best weights (a state dict); None: none is written.
        mode: ``"max"`` where a higher metric is better, ``"min"`` where a lower one is.

    Attributes:
        score: the best metric so far, None before there is one. A metric that is not a number is never the best.
        epoch: the epoch that it belongs to, 0 before there is one.

    Raises:
        ConfigError: for another mode, or a metric that the validator does not compute.
    """

    def __init__(
        self,
        network: nn.Module,
        validator: Workflow,
        metric: str,
        path: str | Path | None = None,
        mode: str = "max",
    ) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"mode must be max or min, not {mode!r}.")
        self.network = network.module if isinstance(network, DistributedDataParallel) else network
        self.validator = validator
        self.metric = metric
        self.path = None if path is None else Path(path)
        self.mode = mode
        self.score: float | None = None
        self.epoch = 0
        self._weights: dict[str, torch.Tensor] | None = None

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, before the handler that saves checkpoints."""
        self.validator.add_event_handler(Events.COMPLETED, self._compare, engine)

    def use(self) -> bool:
        """Put the best weights into the network.

        Returns:
            Whether there are any: without a validation whose metric is a number, the network stays as it is.
        """
        if self._weights is None:
            return False
        self.network.load_state_dict(self._weights)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Score, epoch and weights."""
        return {"score": self.score, "epoch": self.epoch, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :py:meth:`state_dict` gave, and the file with it."""
        self.score, self.epoch, self._weights = state["score"], state["epoch"], state["weights"]
        self._write()

    def _compare(self, validator: Workflow, trainer: Workflow) -> None:
        if self.metric not in validator.state.metrics:
            known = ", ".join(validator.state.metrics)
            raise ConfigError(f"the validation computes no '{self.metric}'; choose one of: {known}.")
        score = float(validator.state.metrics[self.metric])
        better = self.score is None or (score > self.score if self.mode == "max" else score < self.score)
        if math.isnan(score) or not better:
            return
        self.score, self.epoch = score, int(trainer.state.epoch)
        self._weights = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        self._write()

    def _write(self) -> None:
        if self.path is not None and self._weights is not None:
            weights = self._weights
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.parent.glob(f"{self.path.name}.*{TEMPORARY}"):  # of a process killed in here
                leftover.unlink(missing_ok=True)
            write_atomically(self.path, lambda file: torch.save(weights, file), "the best weights")
