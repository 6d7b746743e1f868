# SPDX-License-Identifier: Apache-2.0
"""Tells data set and batch order where in training they are."""

from __future__ import annotations

from ignite.engine import Events
from monai.engines.workflow import Workflow

from monai_mixssl.data.sampler import EpochBatchSampler
from monai_mixssl.data.seeded_dataset import SeededDataset

__all__ = ["EpochPosition"]


class EpochPosition:
    """At the start of each epoch, pass its number on, and where in it a resumed run goes on.

    Ignite makes the data loader's iterator after ``EPOCH_STARTED``, so no worker draws with the number of the epoch
    before.

    Args:
        dataset: the training data.
        sampler: the batch order of the training loader.
    """

    def __init__(self, dataset: SeededDataset, sampler: EpochBatchSampler) -> None:
        self.dataset = dataset
        self.sampler = sampler

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Workflow) -> None:
        """Set epoch and first batch from the engine's state."""
        length = engine.state.epoch_length or len(self.sampler)
        self.dataset.set_epoch(engine.state.epoch)
        self.sampler.set_position(engine.state.epoch, engine.state.iteration % length)
