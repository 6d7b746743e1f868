# SPDX-License-Identifier: Apache-2.0
"""How long a run will take, and how much memory and disk, from steps that are really made."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Sequence

import torch

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import MixSSLTrainer
from monai_mixssl.engines.precision import autocast

__all__ = ["announce", "duration", "memory_gb"]

_STEPS = 2
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
    images = torch.rand(batch_size, in_channels, *patch, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        step = _seconds_per_step(trainer, images.to(trainer.state.device))
    # on a CPU the loaders take their time from the same cores
    apart = num_workers > 0 and trainer.state.device.type != "cpu"
    per_step = max(step, loading / num_workers) if apart else step + loading
    steps = trainer.state.epoch_length * trainer.state.max_epochs
    parameters = sum(p.numel() for p in trainer.network.parameters())
    print(
        f"Training {parameters / 1e6:.1f} M parameters on {trainer.state.device}: {trainer.state.max_epochs} epochs of "
        f"{trainer.state.epoch_length} steps of {batch_size} images, about {duration(steps * per_step)} "
        f"({step:.2f} s a step, loading {loading:.2f} s), {memory_gb(trainer.state.device):.1f} GB of memory, "
        f"{_CHECKPOINTS * _COPIES * 4 * parameters / 2**20:.0f} MB of disk for checkpoints.",
        flush=True,
    )


def _seconds_per_step(trainer: MixSSLTrainer, images: torch.Tensor) -> float:
    network = copy.deepcopy(getattr(trainer.network, "module", trainer.network)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.SyncBatchNorm):
            module.eval()  # in training it would wait for the other processes, which make no trial steps
    device = trainer.state.device
    began = 0.0
    for number in range(_STEPS + 1):
        if number == 1:  # the first step also sets things up
            began = time.perf_counter()
        with autocast(device, trainer.precision):
            prediction = network(images)
            loss = trainer.loss_function(
                prediction, {"image": images, "transparency": prediction["transparency"].detach()}
            )
        loss["loss"].backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / _STEPS


def memory_gb(device: torch.device) -> float:
    """The most that this process has used so far: after the trial steps, about what training needs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource  # not on Windows
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def duration(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
