# SPDX-License-Identifier: Apache-2.0
"""Images of another domain, drawn by the batch."""

from __future__ import annotations

import torch
from disordered import scrambled_phases, shuffled_cells
from labelled_sets import load_photographs
from patches import Images
from torch import Tensor
from views import crop_and_flip

from monai_mixssl.sources import build_source

__all__ = ["SOURCES", "SourcePool"]

GENERATED = ("dead_leaves", "fractal", "noise", "installed")
# the same domain, put in disorder anew for every batch
DISORDERED = {"scrambled": scrambled_phases, "shuffled": shuffled_cells}
SOURCES = ("photographs", "mixed", "same_domain", *DISORDERED, *GENERATED)
POOL = {2: 5000, 3: 500}  # by dimension; in 2D as many as there are photographs


class SourcePool:
    """Images, or volumes, to blend with.

    Args:
        kind: one of SOURCES; photographs are 2D; ``"mixed"`` is half photographs, half dead leaves.
        targets: the training images (N, 1, *size), whose size is taken, and which are the sources of
            ``"same_domain"``, disordered those of ``"scrambled"`` and ``"shuffled"``.
        seed: of the generated images.
        most: how many generated images at most; a run that sees fewer needs no more.
    """

    def __init__(self, kind: str, targets: Images, seed: int, most: int) -> None:
        size = tuple(targets.shape[2:])
        self.disorder = DISORDERED.get(kind)
        if kind == "photographs":
            self.images: Images = load_photographs(size[0])
        elif kind == "same_domain" or kind in DISORDERED:
            self.images = targets
        elif kind == "mixed":
            leaves = _generated("dead_leaves", size, seed, POOL[2] // 2)
            self.images = torch.cat([load_photographs(size[0])[: len(leaves)], leaves])
        else:
            self.images = _generated(kind, size, seed, min(most, POOL[len(size)]))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 1, *size), each cropped and mirrored at random."""
        chosen = torch.randint(len(self.images), (count,), generator=generator)
        images = crop_and_flip(self.images[chosen], generator)
        return self.disorder(images, generator) if self.disorder else images


def _generated(kind: str, size: tuple[int, ...], seed: int, count: int) -> Tensor:
    source = build_source(kind)
    source.set_random_state(seed)
    return torch.stack([source((1, *size))[0] for _ in range(count)])
