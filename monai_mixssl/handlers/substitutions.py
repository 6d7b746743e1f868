# SPDX-License-Identifier: Apache-2.0
"""Records which images another one stands in for, does the same after a resume, and stops where they are too many."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines.workflow import Workflow

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.sampler import EpochBatchSampler
from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.data.stand_ins import StandIn, StandIns
from monai_mixssl.errors import ConfigError, TrainingError
from monai_mixssl.handlers.json_log import read_log

__all__ = ["Substitutions"]

logger = logging.getLogger(__name__)


class Substitutions:
    """Write down each image that could not be read in training, before the step that its stand-in takes part in.

    One JSON object a line: ``split``, ``id`` (of the image that cannot be read), ``reason``, ``replaced_by`` (id),
    ``epoch``, ``iteration``, ``index`` and ``by`` (numbers of the two items). A resumed run reads the lines and does
    the same at the same places, and after the last place of an image leaves it out for good, whether its file has
    come back or not: it ends like a run that was never interrupted.

    Args:
        dataset: the training data, a ``SeededDataset`` with ``substitute=True``.
        sampler: the batch order of the training loader.
        path: the file that is written. Each of several processes has its own.
        max_bad_share: the run stops where more than this share of the training images cannot be read.
        resume: go on with the file; else one that is there is taken away.
        validator: the engine that validates, if its data are to be watched, too.
        val_dataset: its data; not replayed, since validation shapes no weights.
        log: a log of JSON lines that each substitution is also written to, as event ``substitution``.
        main: whether this process speaks (the first of several).

    Raises:
        ConfigError: a dataset that does not substitute.
        TrainingError: while it runs: too many images cannot be read.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        sampler: EpochBatchSampler,
        path: str | Path,
        *,
        max_bad_share: float = 0.5,
        resume: bool = False,
        validator: Workflow | None = None,
        val_dataset: SeededDataset | None = None,
        log: str | Path | None = None,
        main: bool = True,
    ) -> None:
        self.stand_ins = _of(dataset)
        self.val_stand_ins = None if val_dataset is None else _of(val_dataset)
        self.sampler = sampler
        self.path = Path(path)
        self.max_bad_share = max_bad_share
        self.resume = resume
        self.validator = validator
        self.log = None if log is None else Path(log)
        self.main = main
        self.lines: list[dict[str, Any]] = []
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._batches: Iterator[list[int]] = iter(())

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, after ``EpochPosition`` and before the handler that saves checkpoints."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._look_at_batch)
        engine.add_event_handler(Events.COMPLETED, self._report)
        if self.validator is not None and self.val_stand_ins is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._look_at_validation, engine)

    def _start(self) -> None:
        if self.resume and self.path.exists():
            self.lines = read_log(self.path)
            whole = "".join(json.dumps(line) + "\n" for line in self.lines)
            if whole != self.path.read_text(encoding="utf-8"):  # a kill cut the last line short: it was not trained on
                write_atomically(self.path, lambda file: file.write(whole.encode()), self.path.name)
            self._known = {_key(line): line for line in self.lines}
        elif self.path.exists():
            self.path.unlink()

    def _begin_epoch(self, engine: Workflow) -> None:
        self._batches = iter(self.sampler)  # as the loader's: a function of seed and epoch
        earlier = [line for line in self.lines if line["split"] == "training"]
        if not earlier:
            return
        epoch = engine.state.epoch
        last: dict[str, tuple[int, int]] = {}
        order = _places(self.sampler, epoch)
        for line in earlier:
            if line["epoch"] == epoch:
                self.stand_ins.plan(line["index"], line["by"])
            here = (line["epoch"], line["iteration"])
            last[line["id"]] = max(here, last.get(line["id"], here))
        length = engine.state.epoch_length or len(self.sampler)
        planned = {line["index"] for line in earlier if line["epoch"] == epoch}
        for index, image_id in enumerate(self.stand_ins.ids):
            if image_id in last and index in order and index not in planned:
                iteration = (epoch - 1) * length + order[index] + 1
                if (epoch, iteration) > last[image_id]:
                    self.stand_ins.plan(index)

    def _look_at_batch(self, engine: Workflow) -> None:
        found = self.stand_ins.of(next(self._batches, []))
        if found:
            self._record("training", self.stand_ins, found, engine)

    def _look_at_validation(self, trainer: Workflow) -> None:
        assert self.val_stand_ins is not None  # see attach
        if found := self.val_stand_ins.of():
            self._record("validation", self.val_stand_ins, found, trainer)

    def _record(self, split: str, stand_ins: StandIns, found: list[StandIn], trainer: Workflow) -> None:
        lines = [
            {
                "split": split,
                "id": stand_ins.ids[one.item],
                "reason": one.reason,
                "replaced_by": stand_ins.ids[one.by],
                "epoch": trainer.state.epoch,
                "iteration": trainer.state.iteration,
                "index": one.item,
                "by": one.by,
            }
            for one in found
        ]
        before = {line["id"] for line in self.lines if line["split"] == split}
        new = [line for line in lines if _key(line) not in self._known]
        self.lines += new
        self._known |= {_key(line): line for line in new}
        _append(self.path, new, sync=True)
        self._log([self._known[_key(line)] for line in lines], trainer.state.iteration)
        for image_id in dict.fromkeys(line["id"] for line in new if line["id"] not in before):
            reason = next(line["reason"] for line in new if line["id"] == image_id)
            logger.warning(f"image {image_id} ({split}): {reason}; another one stands in for it.")
        bad = len({line["id"] for line in self.lines if line["split"] == split})
        if bad > self.max_bad_share * stand_ins.images:
            raise TrainingError(
                f"{bad} of {stand_ins.images} {split} images cannot be read any more, more than the share "
                f"{self.max_bad_share:g} (max_bad_share); {self.path.name} in output_dir lists them by id: put the "
                "data back (private/files.csv says which files they are) and go on with --resume True, or raise "
                "max_bad_share."
            )

    def _log(self, lines: list[dict[str, Any]], iteration: int) -> None:
        """Also what a resumed run does again: the log was cut off at its checkpoint."""
        if self.log is None:
            return
        events = [{"event": "substitution", **line} for line in lines if line["iteration"] == iteration]
        there = read_log(self.log) if events and self.log.exists() else []
        _append(self.log, [event for event in events if event not in there])

    def _report(self, engine: Workflow) -> None:
        if not self.lines or not self.main:
            return
        for split in dict.fromkeys(line["split"] for line in self.lines):
            own = [line for line in self.lines if line["split"] == split]
            images = {line["id"] for line in own}
            print(
                f"{len(images)} {split} images could not be read any more; others stood in for them {len(own)} times "
                f"({self.path.name} lists them by id).",
                flush=True,
            )


def _of(dataset: SeededDataset) -> StandIns:
    if dataset.stand_ins is None:
        raise ConfigError("the data are not set to substitute; give SeededDataset substitute=True")
    return dataset.stand_ins


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    # validation sees the same items each time: once is enough
    return (line["split"], line["index"], line["epoch"] if line["split"] == "training" else 0)


def _places(sampler: EpochBatchSampler, epoch: int) -> dict[int, int]:
    """Number of the batch that each item of an epoch is in, from 0, this process's alone."""
    whole = EpochBatchSampler(
        sampler.size,
        sampler.batch_size,
        seed=sampler.seed,
        rank=sampler.rank,
        world_size=sampler.world_size,
        views=sampler.views,
    )
    whole.set_position(epoch)
    return {index: number for number, batch in enumerate(whole) for index in batch}


def _append(path: Path, lines: list[dict[str, Any]], sync: bool = False) -> None:
    if not lines:
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        if sync:  # before the step: what was trained on must be known after a crash
            file.flush()
            os.fsync(file.fileno())
