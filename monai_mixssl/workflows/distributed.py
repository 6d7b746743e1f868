# SPDX-License-Identifier: Apache-2.0
"""Several processes, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import last_line

__all__ = ["distribute", "end_processes", "start_processes"]

# the other processes wait while the first one scans and prepares: with torch's half hour, a large folder would fail
_PATIENCE = timedelta(days=2)


def start_processes() -> None:
    """Join the process group: NCCL where there is a GPU, else gloo.

    Raises:
        ConfigError: where the program was not started by ``torchrun``, or with more processes than there are GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            "configs/multi_gpu_train.json is for several processes; start it as "
            "'torchrun --nproc_per_node=<processes> -m monai.bundle run …', or leave it out"
        )
    cuda = torch.cuda.is_available()
    if cuda:
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise ConfigError(
                f"torchrun started process {local_rank + 1} of this machine, which has {gpus} GPU{'s' * (gpus > 1)}, "
                f"and each process needs its own: set --nproc_per_node to {gpus} or fewer, or start it with "
                "CUDA_VISIBLE_DEVICES= in front to use the CPUs"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    # again: torch has put a hook of its own around ours, which in a command would lose the sentence
    last_line.install_for_run()


def end_processes() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def distribute(
    network: nn.Module, device: torch.device | str, memory_format: torch.memory_format = torch.preserve_format
) -> DistributedDataParallel:
    """Wrap a network so that all processes step together.

    Batch normalisation takes its statistics over all processes on GPUs. On CPUs torch has no such layer: each process
    then has statistics of its own, and only a batch-independent norm makes several processes step exactly as one.

    Args:
        network: the network.
        device: this process's device.
        memory_format: layout of the weights.

    Returns:
        The wrapped network, on the device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack the layout
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
