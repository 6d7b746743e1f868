# SPDX-License-Identifier: Apache-2.0
"""How long fine-tuning will take, from steps that are really made."""

from __future__ import annotations

import time
from typing import Any

import torch
from monai.data import list_data_collate
from torch import nn

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import PrecisionTrainer
from monai_mixssl.engines.precision_trainer import minimised, named_losses, prepared
from monai_mixssl.workflows.trial_steps import needs, seconds_per_step

__all__ = ["announce_finetuning"]


def announce_finetuning(
    trainer: PrecisionTrainer, dataset: SeededDataset, batch_size: int, num_workers: int, rank: int = 0
) -> None:
    """Make a few steps on a copy of the network with a batch of the data, and print what the run will need.

    Neither the network nor any random state is changed.

    Args:
        trainer: the trainer, before it runs.
        dataset: the training data; an item, or a list of items (several patches of an image), are both taken.
        batch_size: items in one process's batch.
        num_workers: loader processes.
        rank: number of this process; only the first prints.
    """
    if rank > 0:
        return
    began = time.perf_counter()
    count = min(4, len(dataset), batch_size)
    items: list[Any] = []
    for index in range(count):
        item = dataset[index]
        items += item if isinstance(item, list) else [item]
    loading = (time.perf_counter() - began) / count * batch_size
    wanted = batch_size * max(1, len(items) // count)
    batch = list_data_collate((items * -(-wanted // len(items)))[:wanted])
    with torch.random.fork_rng():
        images, labels, args, options = prepared(trainer, batch)

    def loss_of(network: nn.Module) -> torch.Tensor:
        return minimised(named_losses(trainer.loss_function(network(images, *args, **options), labels)))

    step = seconds_per_step(trainer, loss_of)
    print(f"{needs('Fine-tuning', trainer, wanted, step, loading, num_workers)}.", flush=True)
