# SPDX-License-Identifier: Apache-2.0
"""Records which images another one stands in for, does the same after a resume, and stops where they are too many."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
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

TRAINING, VALIDATION = "training", "validation"

logger = logging.getLogger(__name__)


class Substitutions:
    """Write down each image that could not be read in training, before the step that its stand-in takes part in.

    One JSON object a line: ``split``, ``id`` (of the image that could not be read), ``reason``, ``replaced_by`` (id),
    ``epoch``, ``iteration``, ``index`` and ``by`` (numbers of the two items). The numbers are equal where the item
    stayed and only its random transforms were drawn anew, since it was their choice that could not be read: then ``id``
    is its, or "" for one of another data set.

    At each place a file is tried for itself: one that can be read again is used again. Only what a killed run has
    trained on after its last checkpoint is not tried: a resumed run reads the lines and does the same at the same
    places, and so ends like one that was never interrupted.

    Args:
        dataset: the training data, a ``SeededDataset`` with ``substitute=True``.
        sampler: the batch order of the training loader.
        path: the file that is written. Each of several processes has its own.
        max_bad_share: the run stops where more than this share of the images cannot be read, each as it was when it was
            last tried by this process.
        resume: go on with the file; else one that is there is taken away.
        validator: the engine that validates, if its data are to be watched, too.
        val_dataset: its data. Each image is recorded once, and nothing is replayed: validation shapes no weights.
        log: a log of JSON lines that each substitution is also written to, as event ``substitution``.
        main: whether this process says at the end what was found (the first of several).

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
        # lines of training that are still to be done again, and those of validation, by what `_key` says
        self._lines: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._times: dict[str, Counter[str]] = {TRAINING: Counter(), VALIDATION: Counter()}  # how often, by id
        self._bad: dict[str, set[str]] = {TRAINING: set(), VALIDATION: set()}
        self._batches: Iterator[list[int]] = iter(())
        self._resumed_at: int | None = None

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer, after ``EpochPosition`` and before the handler that saves checkpoints."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._look_at_batch)
        engine.add_event_handler(Events.COMPLETED, self._report)
        if self.validator is not None and self.val_stand_ins is not None:
            self.validator.add_event_handler(Events.STARTED, self.val_stand_ins.forget)
            self.validator.add_event_handler(Events.COMPLETED, self._look_at_validation, engine)

    def _start(self) -> None:
        if not self.resume:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return
        lines = read_log(self.path)
        whole = "".join(json.dumps(line) + "\n" for line in lines)
        if whole != self.path.read_text(encoding="utf-8"):  # a kill cut the last line short: it was not trained on
            write_atomically(self.path, lambda file: file.write(whole.encode()), self.path.name)
        for line in lines:
            self._lines[_key(line)] = line
            self._times[line["split"]][line["id"]] += 1

    def _begin_epoch(self, engine: Workflow) -> None:
        self._batches = iter(self.sampler)  # as the loader's: a function of seed and epoch
        if self._resumed_at is None:  # not on STARTED: there the checkpoint has not been restored yet
            self._resumed_at = engine.state.iteration
        self._lines = {
            key: line
            for key, line in self._lines.items()
            if line["split"] == VALIDATION or line["iteration"] > engine.state.iteration
        }
        for line in self._lines.values():
            if line["split"] == TRAINING and line["epoch"] == engine.state.epoch:
                self.stand_ins.settle(line["index"], line["by"])

    def _look_at_batch(self, engine: Workflow) -> None:
        batch = next(self._batches, [])
        found = self.stand_ins.of(batch)
        if self._bad[TRAINING]:
            self._bad[TRAINING] -= {self.stand_ins.ids[i] for i in {*batch} - {one.item for one in found}}
        if found:
            self._record(TRAINING, self.stand_ins, found, engine)

    def _look_at_validation(self, trainer: Workflow) -> None:
        assert self.val_stand_ins is not None  # see attach
        self._bad[VALIDATION].clear()
        if found := self.val_stand_ins.of():
            self._record(VALIDATION, self.val_stand_ins, found, trainer)

    def _record(self, split: str, stand_ins: StandIns, found: list[StandIn], trainer: Workflow) -> None:
        new, said = [], []
        for one in found:
            if one.reason and one.image_id:
                self._bad[split].add(one.image_id)
            line = {
                "split": split,
                "id": one.image_id,
                "reason": one.reason,
                "replaced_by": stand_ins.ids[one.by],
                "epoch": trainer.state.epoch,
                "iteration": trainer.state.iteration,
                "index": one.item,
                "by": one.by,
            }
            before = self._lines.get(_key(line))
            if before is None or before["by"] != one.by:
                if before is not None:  # what stood in for it cannot be read either by now
                    line |= {name: before[name] for name in ("id", "reason")}
                new.append(line)
                said.append(line)
                if split == VALIDATION:
                    self._lines[_key(line)] = line
            # the log was cut off at the checkpoint: what is done again is to be said again
            elif self._resumed_at is not None and before["iteration"] == line["iteration"] > self._resumed_at:
                said.append(before)
        _append(self.path, new, sync=True)
        if self.log is not None:
            _append(self.log, [{"event": "substitution", **line} for line in said])
        for line in new:
            if not self._times[split][line["id"]]:
                name = line["id"] or "of another data set"
                logger.warning(f"image {name} ({split}): {line['reason']}; another one stands in for it.")
            self._times[split][line["id"]] += 1
        self._stop_if_too_many(split, stand_ins.images)

    def _stop_if_too_many(self, split: str, images: int) -> None:
        bad = len(self._bad[split])
        if bad > self.max_bad_share * images:
            raise TrainingError(
                f"{bad} of {images} {split} images cannot be read any more, more than the share "
                f"{self.max_bad_share:g} that max_bad_share allows; {self.path.name} in output_dir lists them by id: "
                "put the data back (private/files.csv says which files they are) and go on with --resume True, or "
                "raise max_bad_share."
            )

    def _report(self, engine: Workflow) -> None:
        if not self.main:
            return
        for split, times in self._times.items():
            if times:
                print(
                    f"{len(times)} {split} images could not be read at some time; others stood in for them "
                    f"{times.total()} times ({self.path.name} lists them by id).",
                    flush=True,
                )


def _of(dataset: SeededDataset) -> StandIns:
    if dataset.stand_ins is None:
        raise ConfigError("the data are not set to substitute; give SeededDataset substitute=True")
    return dataset.stand_ins


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    # validation sees the same items each time: once is enough
    return (line["split"], line["index"], line["epoch"] if line["split"] == TRAINING else 0)


def _append(path: Path, lines: list[dict[str, Any]], sync: bool = False) -> None:
    if not lines:
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        if sync:  # before the step: what was trained on must be known after a crash
            file.flush()
            os.fsync(file.fileno())
