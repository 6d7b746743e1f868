# SPDX-License-Identifier: Apache-2.0
"""Images of another domain, drawn by the batch."""

from __future__ import annotations

import torch
from labelled_sets import load_photographs
from torch import Tensor
from views import crop_and_flip

from monai_mixssl.sources import build_source

__all__ = ["SOURCES", "SourcePool"]

GENERATED = ("dead_leaves", "fractal", "noise")
SOURCES = ("photographs", "same_domain", *GENERATED)
POOL = 5000  # as many as there are photographs


class SourcePool:
    """Images to blend with; a generated pool holds as many as there are photographs.

    Args:
        kind: one of SOURCES.
        targets: the training images, for ``"same_domain"``.
        seed: of the generated images.
    """

    def __init__(self, kind: str, targets: Tensor, seed: int) -> None:
        size = targets.shape[-1]
        if kind == "photographs":
            self.images = load_photographs(size)
        elif kind == "same_domain":
            self.images = targets
        else:
            source = build_source(kind)
            source.set_random_state(seed)
            self.images = torch.stack([source((1, size, size))[0] for _ in range(POOL)])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 1, size, size), each cropped and mirrored at random."""
        chosen = torch.randint(len(self.images), (count,), generator=generator)
        return crop_and_flip(self.images[chosen], generator)
