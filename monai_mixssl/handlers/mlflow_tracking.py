# SPDX-License-Identifier: Apache-2.0
"""What a training run tells MLflow."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.workflow import Workflow
from monai.handlers import MLFlowHandler

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.errors import TrackingError
from monai_mixssl.handlers.json_log import scalars

__all__ = ["MLflowTracking"]

logger = logging.getLogger(__name__)


class MLflowTracking(MLFlowHandler):
    """Log keys, losses and metrics, and the configuration without its paths, as one run in MLflow.

    MONAI's handler, which this is built on, logs the trainer's loss alone, needs a second one for the validator, and
    takes any unfinished run of the experiment for its own. This one keeps the id of its run in a file, so that a
    resumed training goes on with it, and with no other. Where MLflow fails in mid-training, the training goes on.

    Args:
        tracking_uri: where MLflow is; the environment's ``MLFLOW_TRACKING_URI`` goes before.
        config: JSON file without paths: it is logged, and those of its keys that hold numbers and words.
        run_file: where the id of MLflow's run is kept.
        validator: the engine whose metrics are logged after each of its runs.
        interval: log training every this many iterations.
        resume: go on with the run whose id is kept.
        kwargs: ``experiment_name``, ``run_name`` and other arguments of MONAI's handler.

    Raises:
        TrackingError: here or when training starts: MLflow cannot be used.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        config: str | Path,
        run_file: str | Path,
        validator: Workflow | None = None,
        interval: int = 10,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init__(tracking_uri, **kwargs)
        except Exception as error:  # of MLflow, of what it needs, or of the database
            raise _unusable(error) from error
        self.config = Path(config)
        self.run_file = Path(run_file)
        self.validator = validator
        self.interval = interval
        self.resume = resume
        self._lost = False

    def attach(self, engine: Any) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._log_training)
        engine.add_event_handler(Events.COMPLETED, self.close)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._log_validation, engine)

    def start(self, engine: Any) -> None:
        """Begin a run, or go on with the one that is kept."""
        try:
            self._set_experiment()
            experiment: Any = self.experiment
            name = self.run_name or time.strftime("run_%Y%m%d_%H%M%S")  # as MONAI's
            run = self._earlier_run() or self.client.create_run(experiment.experiment_id, run_name=name)
            self.cur_run, run_id = run, run.info.run_id
            write_atomically(self.run_file, lambda file: file.write(run_id.encode()), "the id of MLflow's run")
            config = json.loads(self.config.read_text(encoding="utf-8"))
            parameters = {**_parameters(config), "epoch_length": engine.state.epoch_length}
            self._delete_exist_param_in_dict(parameters)  # MLflow lets none change
            self._log_params(parameters)
            self.client.log_artifact(run_id, str(self.config))
        except Exception as error:  # servers, databases and MLflow each have their own
            raise _unusable(error) from error

    def close(self) -> None:
        """Mark the run as finished."""
        if self._lost:
            return
        run = self.cur_run
        try:
            super().close()
        except Exception as error:  # whatever it is, the training goes on
            self._lose(error)
        self.cur_run = run  # a last validation may follow

    def _earlier_run(self) -> Any:
        """MLflow's run of the training that is resumed, None where this MLflow does not know it."""
        if not (self.resume and self.run_file.is_file()):
            return None
        run_id = self.run_file.read_text(encoding="utf-8").strip()
        try:
            self.client.update_run(run_id, status="RUNNING")
            return self.client.get_run(run_id)
        except Exception:  # another server or database than before; whether it works shows in what follows
            return None

    def _log_training(self, engine: SupervisedTrainer) -> None:
        rate = engine.optimizer.param_groups[0]["lr"]
        self._log_metrics({**scalars(engine.state.output), "learning_rate": rate}, engine.state.iteration)

    def _log_validation(self, validator: Workflow, trainer: Workflow) -> None:
        values = {name: float(value) for name, value in validator.state.metrics.items()}
        # a metric that is undefined, such as R² over one image, is left out: not every database knows NaN
        self._log_metrics({n: v for n, v in values.items() if math.isfinite(v)}, trainer.state.iteration)

    def _log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self._lost or self.cur_run is None:  # none: the validator runs without a training
            return
        try:
            super()._log_metrics(metrics, step)
        except Exception as error:  # days of training are not lost with a server
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self._lost:
            # only the type: the text may hold the address, or a password in it
            logger.warning(f"MLflow does not answer ({type(error).__name__}); the training goes on without it.")
        self._lost = True


def _unusable(error: Exception) -> TrackingError:
    return TrackingError(
        f"MLflow cannot be used ({type(error).__name__}); check tracking_uri and experiment_name, or leave tracking out"
    )


def _parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that hold a number, a word, or a list of them; neither expressions nor placeholders nor sections."""

    def plain(value: Any) -> bool:
        if isinstance(value, list):
            return bool(value) and all(plain(one) for one in value)
        if isinstance(value, str):
            return bool(value) and value[0] not in "$@<"
        return isinstance(value, bool | int | float)

    return {name: value for name, value in config.items() if plain(value)}
