# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from which a run goes on as if it had never stopped."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import Trainer
from monai.engines.workflow import Workflow

from monai_mixssl.errors import InterruptedRunError, RunFolderError

__all__ = ["RunCheckpoint", "latest_iteration"]

_NAME = re.compile(r"checkpoint_(\d+)\.pt")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
logger = logging.getLogger(__name__)


class RunCheckpoint:
    """Restore at the start, save every so many iterations or minutes, at each epoch's end and on SIGTERM or Ctrl-C.

    Written with Ignite's ``Checkpoint`` and ``DiskSaver`` to a temporary file that then takes its name, so that a kill
    while writing leaves the one before. Attach it *last*: what it saves at an epoch's end includes what validation and
    schedules did there. The last iteration of an epoch is for the same reason saved only with the epoch, and a signal
    that arrives during validation takes effect after it. Within a group of accumulated batches nothing is saved, since
    gradients are not part of a checkpoint.

    Args:
        folder: where the checkpoints stand, as ``checkpoint_<iteration>.pt``.
        save_dict: objects by name with ``state_dict`` and ``load_state_dict``: network, optimizer, schedule, trainer,
            :py:class:`~monai_mixssl.handlers.RandomState`, and whatever else carries state.
        resume: whether to restore the newest checkpoint when the engine starts. One that cannot be read is passed over
            for the one before, with a warning.
        interval: save every this many iterations.
        minutes: and whenever this many minutes have passed since the last time.
        keep: number of checkpoints kept.

    Raises:
        RunFolderError: where there are checkpoints to resume from and none can be read.
    """

    def __init__(
        self,
        folder: str | Path,
        save_dict: Mapping[str, Any],
        resume: bool = False,
        interval: int = 500,
        minutes: float = 10.0,
        keep: int = 2,
    ) -> None:
        self.folder = Path(folder)
        self.save_dict = dict(save_dict)
        self.resume = resume
        self.interval = interval
        self.seconds = 60.0 * minutes
        self.received: signal.Signals | None = None
        self._in_run = False
        self._previous_handlers: dict[signal.Signals, Any] = {}
        self._last_iteration = -1
        self._last_time = time.monotonic()
        self._writer = Checkpoint(
            self.save_dict,
            DiskSaver(str(self.folder), create_dir=True, require_empty=False, atomic=True),
            n_saved=keep,
            filename_pattern="checkpoint_{global_step}.pt",
            global_step_transform=lambda engine, _: engine.state.iteration,
        )

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, after its other handlers.

        Where training fails, a handler of ``EXCEPTION_RAISED`` gives the signals back and raises the error again, if
        none attached before it has raised: Ignite calls no more of them then. :py:meth:`run` does without.
        """
        if engine.has_event_handler(self._start, Events.STARTED):
            return  # a second run of the same trainer
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._release_signals)
        if not self._in_run:  # else other handlers would see errors otherwise than without this one
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._give_up)

    def run(self, trainer: Trainer) -> None:
        """Attach to a trainer, after its other handlers, and run it.

        Raises:
            InterruptedRunError: where a signal ended the run, or one before it; its checkpoint is written.
        """
        self._refuse_after_a_signal()
        self._in_run = True
        self.attach(trainer)
        try:
            trainer.run()
        except RuntimeError as error:
            if self.received is None:
                raise
            raise self._interruption(self.received) from error  # a signal to the whole group may end the workers first
        finally:
            self._release_signals()
        if self.received is not None:
            raise self._interruption(self.received)

    def _interruption(self, received: signal.Signals) -> InterruptedRunError:
        saved = self._last_iteration
        done = f"after saving iteration {saved}" if saved > 0 else "before the first checkpoint"
        return InterruptedRunError(
            f"stopped by {received.name} {done}; the same command with --resume True (in a program: made anew with "
            "resume=True) goes on from there."
        )

    def save(self, engine: Workflow) -> None:
        """Write a checkpoint of this iteration, unless it is there already."""
        if engine.state.iteration != self._last_iteration:
            self._writer(engine)
            self._last_iteration = engine.state.iteration
        self._last_time = time.monotonic()

    def _refuse_after_a_signal(self) -> None:
        """The trainer stands within an epoch whose other batches it would skip."""
        if self.received is not None:
            raise self._interruption(self.received)

    def _start(self, engine: Workflow) -> None:
        self._refuse_after_a_signal()
        for leftover in self.folder.glob("tmp*"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        if self.resume:
            self._restore(engine)
        self._last_time = time.monotonic()
        self._catch_signals()

    def _restore(self, engine: Workflow) -> None:
        found = _checkpoints(self.folder)
        for iteration, path in sorted(found.items(), reverse=True):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:  # whatever a damaged file makes torch raise: the checkpoint before it is still good
                logger.warning(f"checkpoint {path.name} cannot be read; trying the one before it.")
                continue
            max_epochs = engine.state.max_epochs
            Checkpoint.load_objects(self.save_dict, content)
            engine.state.max_epochs = max_epochs  # the user's key, not the earlier run's
            self._last_iteration = iteration
            kept = sorted(i for i in found if i <= iteration)
            self._writer.load_state_dict({"_saved": [(i, found[i].name) for i in kept]})
            logger.info(f"resumed at epoch {engine.state.epoch}, iteration {iteration}.")
            return
        if found:
            raise RunFolderError(
                "none of the checkpoints in the output folder can be read; choose a new output_dir, or remove them to "
                "start again."
            )

    def _iteration_completed(self, engine: Workflow) -> None:
        if not _stepped(engine) or engine.state.iteration % engine.state.epoch_length == 0:
            return
        due = engine.state.iteration % self.interval == 0 or time.monotonic() - self._last_time >= self.seconds
        stop = self._signal_anywhere()
        if due or stop:
            self.save(engine)
        if stop:
            engine.terminate(skip_completed=True)

    def _epoch_completed(self, engine: Workflow) -> None:
        self.save(engine)
        if self._signal_anywhere() and engine.state.epoch < engine.state.max_epochs:
            engine.terminate(skip_completed=True)

    def _signal_anywhere(self) -> bool:
        """Whether any process got a signal: all must stop at the same iteration, or the others wait for ever."""
        if not (dist.is_available() and dist.is_initialized()):
            return self.received is not None
        flag = torch.tensor(0 if self.received is None else int(self.received))
        if dist.get_backend() == "nccl":
            flag = flag.cuda()
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        if int(flag):
            self.received = signal.Signals(int(flag))
        return self.received is not None

    def _catch_signals(self) -> None:
        main_process = os.getpid()

        def remember(number: int, frame: FrameType | None) -> None:
            if os.getpid() != main_process:  # a loader's worker, forked with this handler: see worker_signals
                return
            self.received = signal.Signals(number)
            logger.warning(f"{self.received.name} received: saving a checkpoint, then stopping.")
            signal.signal(number, self._previous_handlers[self.received])  # a second one ends the run at once

        try:
            for number in _SIGNALS:
                self._previous_handlers[number] = signal.signal(number, remember)
        except ValueError:  # not in the main thread, as in some notebooks: signals stay whose they are
            logger.info("not in the main thread: no checkpoint will be saved on SIGTERM.")

    def _give_up(self, engine: Workflow, error: BaseException) -> None:
        self._release_signals()
        raise error  # with a handler for it, Ignite no longer does

    def _release_signals(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()


def latest_iteration(folder: str | Path) -> int:
    """The iteration of a folder's newest checkpoint; 0 where it holds none."""
    return max(_checkpoints(Path(folder)), default=0)


def _stepped(engine: Workflow) -> bool:
    """Whether the gradients of all batches so far are in the weights."""
    stepped = getattr(engine.state, "optimizer_stepped", None)
    if stepped is not None:
        return bool(stepped)
    group = getattr(engine, "accumulation_steps", 1)  # MONAI's own trainer counts anew in every epoch
    return ((engine.state.iteration - 1) % engine.state.epoch_length + 1) % group == 0


def _checkpoints(folder: Path) -> dict[int, Path]:
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint_*.pt"))
    return {int(match[1]): path for match, path in matches if match}
