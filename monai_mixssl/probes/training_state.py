# SPDX-License-Identifier: Apache-2.0
"""Do something beside a run and leave no trace in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put the global random generators of Python, numpy, torch and every CUDA device back as they were."""
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():  # of the CPU and of all CUDA devices
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
