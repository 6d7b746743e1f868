# SPDX-License-Identifier: Apache-2.0
"""How long a run will take, and how much memory and disk, from steps that are really made."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import MixSSLTrainer
from monai_mixssl.workflows.trial_steps import needs, seconds_per_step

__all__ = ["announce"]

_CHECKPOINTS = 3  # two kept, and one being written
_COPIES = 3  # the weights, and two averages of their gradients


def announce(
    trainer: MixSSLTrainer,
    dataset: SeededDataset,
    batch_size: int,
    patch: Sequence[int],
    in_channels: int,
    num_workers: int,
    rank: int = 0,
) -> None:
    """Make a few steps on a copy of the network, load a few samples, and print what the run will need.

    Neither the network nor any random state is changed.

    Args:
        trainer: the trainer, before it runs.
        dataset: the training data.
        batch_size: images in one process's batch.
        patch: size of an image along each axis.
        in_channels: channels of an image.
        num_workers: loader processes.
        rank: number of this process; only the first prints.
    """
    if rank > 0:
        return
    began = time.perf_counter()
    count = min(4, len(dataset))
    for index in range(count):
        dataset[index]
    loading = (time.perf_counter() - began) / count * batch_size
    device = trainer.state.device
    images = torch.rand(batch_size, in_channels, *patch, generator=torch.Generator().manual_seed(0)).to(device)

    def loss_of(network: nn.Module) -> torch.Tensor:
        prediction = network(images)
        wanted = {"image": images, "transparency": prediction["transparency"].detach()}
        return trainer.loss_function(prediction, wanted)["loss"]

    step = seconds_per_step(trainer, loss_of)
    said = needs("Training", trainer, batch_size, step, loading, num_workers)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    print(f"{said}, {_CHECKPOINTS * _COPIES * 4 * parameters / 2**20:.0f} MB of disk for checkpoints.", flush=True)
