# SPDX-License-Identifier: Apache-2.0
"""How many processes read, prepare and load images."""

from __future__ import annotations

import os

__all__ = ["default_workers", "most_workers"]


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def default_workers() -> int:
    """Returns how many processes prepare images: the cores that this process may use, at most 4."""
    return min(4, _cores())


def most_workers() -> int:
    """Returns how many processes may be asked for: four a core, or 32 where that is more.

    Each takes about half a gigabyte: a mistyped number would fill the memory and bring the whole machine to a halt.
    """
    return max(32, 4 * _cores())
