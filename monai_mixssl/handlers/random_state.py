# SPDX-License-Identifier: Apache-2.0
"""The states of the global random generators, as something a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

__all__ = ["RandomState"]


class RandomState:
    """``state_dict`` / ``load_state_dict`` over the generators of Python, numpy, torch and every CUDA device.

    Data are drawn from seeds alone; what needs these states is a network with dropout or stochastic depth. numpy's own
    ``get_state()`` cannot be loaded with ``weights_only=True``, so it is stored as a tensor and numbers.
    """

    def state_dict(self) -> dict[str, Any]:
        """The states as tensors, tuples and numbers."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        return {
            "python": random.getstate(),
            "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the states back; CUDA's only where the number of devices is the same."""
        version, internal, gauss_next = state["python"]
        random.setstate((version, tuple(internal), gauss_next))
        name, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(state["torch"].cpu())
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
