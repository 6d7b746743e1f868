# SPDX-License-Identifier: Apache-2.0
"""What a step of a training takes, from steps that are really made."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from monai_mixssl.engines import PrecisionTrainer
from monai_mixssl.engines.precision import autocast

__all__ = ["duration", "memory_gb", "needs", "seconds_per_step", "seconds_with_loading"]

_STEPS = 2


def seconds_per_step(trainer: PrecisionTrainer, loss_of: Callable[[nn.Module], torch.Tensor]) -> float:
    """The mean of a few steps on a copy of the network, after one that sets things up.

    Neither the network nor torch's random state is changed.

    Args:
        trainer: the trainer, before it runs.
        loss_of: from the copied network to the loss of a batch, a scalar; called under the trainer's precision.

    Returns:
        Seconds.
    """
    network = copy.deepcopy(getattr(trainer.network, "module", trainer.network)).train()
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.eval()  # in training it would wait for the other processes, which make no trial steps
    device = trainer.state.device
    began = 0.0
    with torch.random.fork_rng():
        for number in range(_STEPS + 1):
            if number == 1:  # the first step also sets things up
                began = time.perf_counter()
            with autocast(device, trainer.precision):
                loss = loss_of(network)
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / _STEPS


def needs(what: str, trainer: PrecisionTrainer, images: int, step: float, loading: float, num_workers: int) -> str:
    """What a training will need, as the beginning of a sentence.

    Args:
        what: the training's name, the first word.
        trainer: the trainer, before it runs.
        images: in one process's batch.
        step, loading: seconds of a step, and of loading its batch in one process.
        num_workers: loader processes.
    """
    device, epochs, length = trainer.state.device, trainer.state.max_epochs, trainer.state.epoch_length
    parameters = sum(p.numel() for p in trainer.network.parameters())
    time_needed = duration(epochs * length * seconds_with_loading(step, loading, num_workers, device))
    beside = " beside that of the loader processes" if num_workers else ""
    return (
        f"{what} {parameters / 1e6:.1f} M parameters on {device}: {epochs} epochs of {length} steps of {images} "
        f"images, about {time_needed} and the validations ({step:.2f} s a step, loading at most {loading:.2f} s), "
        f"{memory_gb(device, parameters):.1f} GB of memory{beside}"
    )


def seconds_with_loading(step: float, loading: float, num_workers: int, device: torch.device) -> float:
    """What a step takes with the loading of its batch, in seconds.

    Args:
        step: seconds of the step.
        loading: seconds that one process takes to load the batch.
        num_workers: loader processes.
        device: where the step is made.
    """
    # on a CPU the loaders take their time from the same cores
    apart = num_workers > 0 and device.type != "cpu"
    return max(step, loading / num_workers) if apart else step + loading


def memory_gb(device: torch.device, parameters: int) -> float:
    """About what training needs: the most that this process has used so far, after the trial steps, and the optimizer.

    Args:
        device: where the training runs.
        parameters: of the network. AdamW keeps two averages of each gradient, in place of the trial's second network.
    """
    optimizer = 4 * parameters / 2**30
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30 + optimizer
    try:
        import resource  # not on Windows
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20) + optimizer


def duration(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
