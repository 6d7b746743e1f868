# SPDX-License-Identifier: Apache-2.0
"""How good the features are for a task, while the encoder is being pretrained."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow

from monai_mixssl.handlers.json_log import read_log
from monai_mixssl.networks.embedding import Pooling
from monai_mixssl.probes import extract_features, knn_probe, linear_probe, undisturbed

__all__ = ["OnlineProbe"]

_MOST_SHARE = 0.05
_SHOWN = {"kNN": "probe_knn_accuracy", "linear": "probe_linear_accuracy"}

logger = logging.getLogger(__name__)


class OnlineProbe:
    """Every few epochs, nearest neighbours and logistic regression on the features of labelled images.

    Both are fitted to the training images, choose their one setting on the validation images, and are scored on the
    test images (on the validation images where there are no test images). They run before the first epoch too: what an
    encoder reaches that has learned nothing is the number to compare with.

    Training does not notice: the network is left in the modes that it was in, the random generators are put back, no
    gradient is kept, and no process waits in a collective call. Attach it in the first process only, before the
    handlers that show progress and save checkpoints.

    The scores go to ``engine.state.probe`` (two accuracies, for the progress bar), to the log (a line with the event
    ``"probe"``) and to TensorBoard.

    Args:
        batches: data loaders of the labelled images by the names ``"training"``, ``"validation"`` and ``"test"``; see
            :func:`~monai_mixssl.probes.extract_features`. The first is needed.
        num_classes: number of classes or labels.
        device: where the network stands.
        interval: epochs between two probes; the last epoch is probed in any case.
        pooling: where the features are taken, see :func:`~monai_mixssl.networks.embedding.pool_features`.
        log: the JSON-lines log; None: none is written.
        summary_writer: TensorBoard's; None: none is written to.

    Attributes:
        scores: of the last probe: ``probe_linear_…`` and ``probe_knn_…``, each with ``accuracy``,
            ``balanced_accuracy`` and ``auc``; not a number where one is not defined.
        seconds: spent on probes so far, by this process.
    """

    def __init__(
        self,
        batches: Mapping[str, Iterable[Mapping[str, Any]]],
        num_classes: int,
        device: torch.device | str = "cpu",
        interval: int = 4,
        pooling: Pooling = "last",
        log: str | Path | None = None,
        summary_writer: Any = None,
    ) -> None:
        self.batches = dict(batches)
        self.num_classes = num_classes
        self.device = device
        self.interval = interval
        self.pooling: Pooling = pooling
        self.log = None if log is None else Path(log)
        self.summary_writer = summary_writer
        self.scores: dict[str, float] = {}
        self.seconds = 0.0
        self._began: float | None = None
        self._before_training = 0.0
        self._warned = False

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def probe(self, network: torch.nn.Module) -> dict[str, float]:
        """Probe a network now.

        Args:
            network: see :func:`~monai_mixssl.probes.extract_features`.

        Returns:
            ``scores``, see above.
        """
        with undisturbed():
            tables = {
                name: extract_features(network, batches, self.device, [self.pooling])
                for name, batches in self.batches.items()
            }
            train, choice, report = tables["training"], tables.get("validation"), tables.get("test")
            found = {
                "linear": linear_probe(train, choice, report, self.num_classes, self.pooling),
                "knn": knn_probe(train, choice, report, self.num_classes, self.pooling),
            }
        scores = {}
        for kind, entry in found.items():
            for name, value in (entry["test"] or entry["validation"] or {}).items():
                scores[f"probe_{kind}_{name}"] = math.nan if value is None else value
        self.scores = scores
        return scores

    def _epoch_started(self, engine: Workflow) -> None:
        # not on STARTED: there the checkpoint, attached after this handler, has not been restored yet
        if self._began is None:
            self._began = time.monotonic()
            if engine.state.iteration == 0:
                self._run(engine, epoch=0)
                self._before_training = self.seconds

    def _epoch_completed(self, engine: Workflow) -> None:
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            self._run(engine, epoch)

    def _run(self, engine: Any, epoch: int) -> None:
        began = time.monotonic()
        scores = self.probe(engine.network)
        engine.state.probe = {name: scores[key] for name, key in _SHOWN.items() if key in scores}
        took = time.monotonic() - began
        self.seconds += took
        self._write(engine, epoch, {**scores, "probe_seconds": round(took, 3)})
        self._warn(engine, epoch)

    def _write(self, engine: Workflow, epoch: int, values: Mapping[str, float]) -> None:
        if self.summary_writer is not None:
            for name, value in values.items():
                self.summary_writer.add_scalar(name, value, epoch)
        if self.log is None:
            return
        iteration = engine.state.iteration
        lines = read_log(self.log) if self.log.exists() else []
        if any(line["event"] == "probe" and line["iteration"] == iteration for line in lines):
            return  # a run that was stopped before its first checkpoint begins again: the same numbers
        line = {
            "event": "probe",
            "epoch": epoch,
            "iteration": iteration,
            "seconds": round(time.monotonic() - (self._began or time.monotonic()), 3),
            **{name: value if math.isfinite(value) else None for name, value in values.items()},  # JSON knows no NaN
        }
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _warn(self, engine: Workflow, epoch: int) -> None:
        # without the probe before training, which weighs little in a whole run, and much in its first epochs
        elapsed = time.monotonic() - (self._began or time.monotonic()) - self._before_training
        share = (self.seconds - self._before_training) / max(elapsed, 1e-9)
        if self._warned or epoch < 2 * self.interval or share <= _MOST_SHARE:
            return
        self._warned = True
        logger.warning(
            f"the online probe takes {share:.0%} of the training time; raise probe_interval "
            f"(now {self.interval}), or lower probe_samples."
        )
