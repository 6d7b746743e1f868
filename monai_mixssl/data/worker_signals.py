# SPDX-License-Identifier: Apache-2.0
"""Lets the main process decide what a signal means, also where a terminal or batch system sends it to all processes."""

from __future__ import annotations

import signal

from monai.data.utils import worker_init_fn

__all__ = ["outlive_signals"]

_GRACE = 30  # seconds for the main process to save a checkpoint and end its workers in order


def outlive_signals(worker_id: int) -> None:
    """For a ``DataLoader``'s ``worker_init_fn``: outlive Ctrl-C and, for half a minute, SIGTERM.

    Without it a signal to the whole process group ends the workers at once, and the main process, which would have
    saved a checkpoint, fails for want of data. Seeds the worker as MONAI's own ``worker_init_fn`` does.

    Not for ``persistent_workers=True``: Python ends such workers by SIGTERM when the program ends, and would wait.

    Args:
        worker_id: number of the worker.
    """
    worker_init_fn(worker_id)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):  # not on Windows, which has no SIGTERM to speak of either
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE) and None)
