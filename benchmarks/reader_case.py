# SPDX-License-Identifier: Apache-2.0
"""One row of the table of `readers.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """What is written, and what is right.

    Attributes:
        name: row of the table.
        write: is given an empty folder, returns what to read.
        array: the right values, x, y[, z][, colours]; None: nothing can be read.
        affine: the right place of the voxels; None: not looked at.
        say: what a reader must point out, in words of the table; "" where there is nothing.
        tolerance: of the values.
        show_type: add the type of the values.
        remarks: what it means where the result has another shape than it should.
        locked: nobody may read it; whoever runs the case takes the permission away.
    """

    name: str
    write: Callable[[Path], Path]
    array: np.ndarray | None = None
    affine: np.ndarray | None = None
    say: str = ""
    tolerance: float = 1e-3
    show_type: bool = False
    remarks: dict[tuple[int, ...], str] = field(default_factory=dict)
    locked: bool = False
