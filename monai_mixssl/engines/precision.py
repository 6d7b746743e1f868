# SPDX-License-Identifier: Apache-2.0
"""Mixed precision on any device."""

from __future__ import annotations

import logging
import platform

import torch

from monai_mixssl.errors import ConfigError

__all__ = ["AMP_DTYPES", "autocast", "grad_scaler", "warn_where_slow"]

logger = logging.getLogger(__name__)

AMP_DTYPES: dict[str, torch.dtype | None] = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision; does nothing for ``"none"``.

    MONAI's ``SupervisedTrainer`` always asks for ``autocast("cuda")``, which leaves a CPU in full precision.

    Args:
        device: where the network runs.
        precision: ``"none"``, ``"bf16"`` (CPU and GPU) or ``"fp16"`` (GPU only).

    Raises:
        ConfigError: for an unknown precision, or fp16 away from a GPU.
    """
    if precision not in AMP_DTYPES:
        raise ConfigError(f"unknown mixed precision '{precision}'; choose one of {', '.join(AMP_DTYPES)}.")
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"fp16 needs a CUDA GPU and the device is '{device.type}'; use amp bf16 or none.")
    dtype = AMP_DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """The loss scaler that fp16 needs, and None for the precisions that need none."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def warn_where_slow(device: torch.device, precision: str) -> None:
    """Say so where bf16 is computed without instructions for it: on an x86 CPU below AVX-512.

    There it takes several times as long as full precision; ``docs/networks.md`` has figures.

    Args:
        device: where the network runs.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    slow = device.type == "cpu" and precision == "bf16" and x86
    if slow and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        logger.warning("bf16 is emulated on this CPU, which has no AVX-512, and takes far longer; use amp none.")
