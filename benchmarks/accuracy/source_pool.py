# SPDX-License-Identifier: Apache-2.0
"""Images of another domain, drawn by the batch."""

from __future__ import annotations

import torch
from labelled_sets import load_photographs
from patches import Images
from torch import Tensor
from views import crop_and_flip

from monai_mixssl.sources import build_source

__all__ = ["SOURCES", "SourcePool"]

GENERATED = ("dead_leaves", "fractal", "noise")
SOURCES = ("photographs", "same_domain", *GENERATED)
POOL = {2: 5000, 3: 500}  # by dimension; in 2D as many as there are photographs


class SourcePool:
    """Images, or volumes, to blend with.

    Args:
        kind: one of SOURCES; photographs are 2D.
        targets: the training images (N, 1, *size), whose size is taken, and which are the sources of ``"same_domain"``.
        seed: of the generated images.
        most: how many generated images at most; a run that sees fewer needs no more.
    """

    def __init__(self, kind: str, targets: Images, seed: int, most: int) -> None:
        size = tuple(targets.shape[2:])
        if kind == "photographs":
            self.images: Images = load_photographs(size[0])
        elif kind == "same_domain":
            self.images = targets
        else:
            source = build_source(kind)
            source.set_random_state(seed)
            self.images = torch.stack([source((1, *size))[0] for _ in range(min(most, POOL[len(size)]))])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 1, *size), each cropped and mirrored at random."""
        chosen = torch.randint(len(self.images), (count,), generator=generator)
        return crop_and_flip(self.images[chosen], generator)
