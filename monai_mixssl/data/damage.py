# SPDX-License-Identifier: Apache-2.0
"""Tells files that are broken from those that are left out because they are something else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from monai_mixssl.data.records import Excluded

__all__ = ["damaged", "is_damage"]

# Reasons are phrases of this package. What is not here is whole, and no image to train on: a report, a localizer,
# a text file, a copy, a link, a constant image
_DAMAGE = re.compile(
    r"damaged|truncated|empty file|absurd|cannot|no permission|does not exist|missing|too short|NaN|differs? |fewer "
)


def is_damage(reason: str) -> bool:
    """Returns whether a reason for which a file or image is left out says that it is broken or cannot be read."""
    return _DAMAGE.search(reason) is not None


def damaged(excluded: Iterable[Excluded]) -> list[Excluded]:
    """Returns those of what is left out that are broken or cannot be read."""
    return [one for one in excluded if is_damage(one.reason)]
